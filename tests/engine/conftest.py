"""The real cluster for the tests of this folder: one for all of them, on Debian as root.

Elsewhere they are skipped with the reason. On Debian as root a skipped test fails the run in CI: what is not run
there is run nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.nodes import packages
from engine.nodes.cluster import RealCluster, sweep
from engine.nodes.traces import traces


@pytest.fixture(scope="session")
def cluster() -> Iterator[RealCluster]:
    """Two real nodes, for as long as this pytest process lives."""
    if reason := packages.why_not():
        pytest.skip(reason)
    sweep()
    before = traces()
    with RealCluster() as started:
        yield started
    assert traces() == before, "a cluster leaves nothing behind"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip on Debian as root fails CI."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("CI") and not packages.why_not() and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was not run, and why."""
    for report in terminalreporter.stats.get("skipped", ()):
        terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2]}")
