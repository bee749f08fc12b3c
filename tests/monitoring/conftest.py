"""Prometheus for every test of this folder."""

from monitoring.server import prometheus

__all__ = ["prometheus"]
