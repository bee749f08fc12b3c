"""The real API server for the tests of this folder: one sandbox a pytest process (so one a worker of xdist).

The first run builds the control plane (minutes); `make test` does that before it starts pytest.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemma_operator.sandbox import session
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.session import Sandbox

_PREFIX = "test-"


@dataclass(frozen=True, slots=True)
class ApiServer:
    """How to reach the sandbox's API server as an administrator."""

    url: str
    token: str
    ca_file: Path


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with the packaged fleet, for as long as this pytest process lives."""
    _sweep_those_of_dead_processes()
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    started = Sandbox.start(f"{_PREFIX}{worker}-{os.getpid()}", log=_say)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def api_server(sandbox: Sandbox) -> ApiServer:
    """The API server of `sandbox`."""
    return ApiServer(url=sandbox.url, token=sandbox.admin_token, ca_file=sandbox.ca_file)


def _sweep_those_of_dead_processes() -> None:
    """A killed pytest cannot stop its sandbox; the next one does."""
    for folder in StateFolder.all_existing():
        owner = folder.name.rpartition("-")[2]
        if folder.name.startswith(_PREFIX) and owner.isdigit() and not _lives(int(owner)):
            session.remove(folder.name)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, 0)
        return True
    return False


def _say(message: str) -> None:
    print(f"sandbox: {message}", file=sys.__stderr__, flush=True)
