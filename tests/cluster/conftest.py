"""The real API server for the tests of this folder: one sandbox a pytest process (so one a worker of xdist).

The first run builds the control plane (minutes); `make test` does that before it starts pytest.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.operating import Operator
from cluster.teams import Team
from gemma_operator.sandbox import session
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.session import Sandbox

_PREFIX = "test-"
_FIGURES = pytest.StashKey[list[str]]()
_ROOT = Path(__file__).parents[2]
_KUBECTL = Path(sys.executable).parent / "kubectl"
#: What an administrator installs, without the operator's own Deployment: tests run the operator themselves.
_INSTALLED = ("namespace.yaml", "serviceaccount.yaml", "rbac.yaml")


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


@pytest.fixture(scope="session")
def installed(sandbox: Sandbox) -> Sandbox:
    """The sandbox with our CRDs and with the rights of manifests/base, and with no other ones."""
    files = [argument for name in _INSTALLED for argument in ("-f", str(_ROOT / "manifests/base" / name))]
    for words in (["-k", str(_ROOT / "crds")], files):
        command = [str(_KUBECTL), "--kubeconfig", str(sandbox.kubeconfig), "apply", "--server-side"]
        subprocess.run([*command, "--force-conflicts", *words], check=True, capture_output=True)
    return sandbox


@pytest.fixture(scope="session")
def one_operator(installed: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator that all tests of this process share, one after another."""
    operator = Operator(tmp_path_factory.mktemp("operator"), kubeconfig=installed.operator_kubeconfig)
    yield operator
    operator.close()


@pytest.fixture
def operator(one_operator: Operator) -> Operator:
    """The operator, leading; a test may kill it, the next one starts it again."""
    one_operator.ensure_running()
    return one_operator


@pytest.fixture(scope="module")
def new_team(installed: Sandbox) -> Iterator[Callable[[], Team]]:
    """Makes fresh namespaces for fixtures that live longer than a test; given back at the end of the file."""
    with contextlib.ExitStack() as stack:

        def join() -> Team:
            joined = Team(installed, f"t{uuid.uuid4().hex[:8]}")
            stack.callback(joined.leave)
            return joined

        yield join


@pytest.fixture
def team(installed: Sandbox) -> Iterator[Team]:
    """A fresh namespace, given back at the end."""
    joined = Team(installed, f"t{uuid.uuid4().hex[:8]}")
    yield joined
    joined.leave()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a figure that is reported at the end of the run and never asserted."""
    return request.config.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests measured on their way."""
    for text in config.stash.get(_FIGURES, ()):
        terminalreporter.write_line(f"figure: {text}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failing test shows what the operator said."""
    report = yield
    operator = getattr(item, "funcargs", {}).get("one_operator") or getattr(item, "funcargs", {}).get(
        "operator"
    )
    if report.failed and isinstance(operator, Operator):
        report.sections.append(("operator log", operator.tail))
    return report


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
