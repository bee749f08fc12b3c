"""The real API server for the tests of this folder: one sandbox a pytest process (so one a worker of xdist).

The first run builds the control plane (minutes); `make test` does that before it starts pytest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gemma_operator.sandbox.session import Sandbox


@dataclass(frozen=True, slots=True)
class ApiServer:
    """How to reach the sandbox's API server as an administrator."""

    url: str
    token: str
    ca_file: Path


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with the packaged fleet, for as long as this pytest process lives."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    started = Sandbox.start(f"test-{worker}-{os.getpid()}", log=_say)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="session")
def api_server(sandbox: Sandbox) -> ApiServer:
    """The API server of `sandbox`."""
    return ApiServer(url=sandbox.url, token=sandbox.admin_token, ca_file=sandbox.ca_file)


def _say(message: str) -> None:
    print(f"sandbox: {message}", file=sys.__stderr__, flush=True)
