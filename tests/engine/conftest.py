"""The real cluster for the tests of this folder: one for all of them, on Debian as root.

Elsewhere they are skipped with the reason. On Debian as root a skipped test fails the run in CI: what is not run
there is run nowhere.

Two workers share the tests: what needs the cluster is played by one, engines that run without one by the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from cluster.operating import Operator
from engine import houses
from engine.model import environment, models
from engine.model.process import CATALOG
from engine.nodes import packages
from engine.nodes.cluster import RealCluster, say
from engine.nodes.network import HUB, HUB_PORT

_ROOT = Path(__file__).parents[2]
#: Files whose tests need no cluster begin so.
_ALONE = ("test_engine_", "test_hub", "test_load")
_FIGURES = pytest.StashKey[list[str]]()
#: What an administrator installs, without the operator's own Deployment: tests run the operator themselves.
_INSTALLED = ("namespace.yaml", "serviceaccount.yaml", "rbac.yaml")


class _OneClusterAndOnePort(LoadScopeScheduling):
    """The cluster is one, and so is the port at which an engine without a cluster listens."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).name
        return "alone" if file.startswith(_ALONE) else "cluster"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _OneClusterAndOnePort:
    """Whatever --dist says."""
    return _OneClusterAndOnePort(config, log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[RealCluster]:
    """Two real nodes, for as long as this pytest process lives."""
    if reason := packages.why_not():
        pytest.skip(reason)
    with RealCluster() as started:
        yield started
    assert started.after == started.before, "a cluster leaves nothing behind"


@pytest.fixture(scope="session")
def gpus(cluster: RealCluster) -> RealCluster:
    """The nodes have four L4 each, as GPU feature discovery and a device plugin tell of them."""
    if reason := environment.why_not():  # the plugin's gRPC is among the engine's packages
        pytest.skip(reason)
    for node in ("node-a", "node-b"):
        houses.equip(cluster, node, gpus=4)
    return cluster


@pytest.fixture(scope="session")
def installed(gpus: RealCluster) -> RealCluster:
    """Our CRDs, and the rights of manifests/base."""
    files = [word for name in _INSTALLED for word in ("-f", str(_ROOT / "manifests/base" / name))]
    for words in (["-k", str(_ROOT / "crds")], files):
        gpus.kubectl("apply", "--server-side", "--force-conflicts", *words)
    return gpus


@pytest.fixture(scope="session")
def one_operator(installed: RealCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, run in the hub: outside the cluster, so that policies must name it."""
    operator = Operator(
        tmp_path_factory.mktemp("operator"),
        kubeconfig=installed.operator_kubeconfig,
        settings={
            "operatorCidrs": [f"{HUB}/32"],
            "probeTimeoutSeconds": 5.0,
            "catalogDir": str(CATALOG),
            "hubMirror": f"http://{HUB}:{HUB_PORT}",
        },
        enter=installed.enter("hub"),
    )
    yield operator
    operator.close()


@pytest.fixture(scope="session")
def hub(installed: RealCluster) -> Iterator[None]:
    """The stand-in hub, where the operator's settings say that the mirror is; an hour is what it lets a caller wait."""
    folder = models.folder(say=say) / models.TINY
    words = ("engine.model.hub", str(folder), "--retry-after-seconds", "3600")
    with houses.beside_the_cluster(installed, *words, port=HUB_PORT):
        yield


@pytest.fixture
def operator(one_operator: Operator) -> Operator:
    """The operator, leading; a test may stop it, the next one starts it again."""
    one_operator.ensure_running()
    return one_operator


@pytest.fixture
def team(installed: RealCluster) -> Iterator[houses.RealTeam]:
    """A fresh restricted namespace, given back at the end."""
    joined = houses.a_team(installed)
    yield joined
    joined.leave()


@pytest.fixture(scope="session")
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Takes a figure that is reported at the end of the run and never asserted."""
    return request.config.stash.setdefault(_FIGURES, []).append


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A skip on Debian as root fails CI."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("CI") and not packages.why_not() and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = session.config.stash.get(_FIGURES, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended: its figures are told with all others."""
    told = getattr(node, "workeroutput", {}).get("figures", ())
    node.config.stash.setdefault(_FIGURES, []).extend(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was measured, and what was not run and why."""
    for text in config.stash.get(_FIGURES, ()):
        terminalreporter.write_line(f"figure: {text}")
    for report in terminalreporter.stats.get("skipped", ()):
        with contextlib.suppress(TypeError, IndexError):
            terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2]}")
