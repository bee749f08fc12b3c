"""Fakes that listen on loopback, for tests of the rooms that talk."""
