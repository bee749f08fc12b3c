"""Failures as a real kubelet shows them, and how soon the status says so.

The texts of engines and drivers are printed by a stand-in, as recorded from the sources that tests/data/failures
names; what Kubernetes itself says is real.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.operating import Operator
from cluster.teams import Object, condition
from cluster.waiting import until
from engine.houses import RealTeam, engine, stand_in
from engine.nodes.cluster import RealCluster

_SMALL = {"cpu": "50m", "ephemeralStorage": "64Mi"}


def says_why(team: RealTeam, reason: str, *, within_seconds: float = 90) -> Object:
    """Waits until Ready is not True for that reason."""
    return team.sees(
        "GemmaDeployment",
        "chat",
        lambda obj: condition(obj, "Ready").get("reason") == reason,
        within_seconds=within_seconds,
    )


def test_an_image_that_no_registry_has(
    team: RealTeam, operator: Operator, figure: Callable[[str], None]
) -> None:
    missing = {**engine(), "engine": {"version": "0.32", "image": "localhost:1/no/such:image"}}
    team.apply({**stand_in(), "spec": {**stand_in()["spec"], "serving": missing}})
    found = team.sees(
        "GemmaDeployment", "chat", lambda obj: "Image" in condition(obj, "Ready").get("reason", "")
    )
    figure(f"image: said as {condition(found, 'Ready')['reason']}")
    assert "serving.engine.image" in condition(found, "Ready")["message"]


def test_a_replica_that_takes_more_host_memory_than_its_limit(
    team: RealTeam, operator: Operator, figure: Callable[[str], None]
) -> None:
    team.apply(stand_in(serving=engine(fault="eats-memory"), pod={"resources": {**_SMALL, "memory": "96Mi"}}))
    shown = until(lambda: _shown(team, "OOMKilled"), what="Kubernetes shows it", within_seconds=90)
    found = says_why(team, "HostOutOfMemory")
    figure(f"host memory: said {time.monotonic() - shown:.1f} s after Kubernetes showed it")
    assert "pod.resources.memory" in condition(found, "Ready")["message"]


def test_a_node_that_loses_its_power(
    team: RealTeam, operator: Operator, installed: RealCluster, figure: Callable[[str], None]
) -> None:
    team.apply(stand_in(replicas=2))
    team.ready("chat", within_seconds=120)
    installed.stop_node("node-b")
    try:
        until(lambda: not installed.is_ready("node-b"), what="Kubernetes shows it", within_seconds=120)
        shown = time.monotonic()
        lost = team.sees(
            "GemmaDeployment", "chat", lambda obj: "node-b" in condition(obj, "Ready").get("message", "")
        )
        figure(f"node lost: said {time.monotonic() - shown:.1f} s after Kubernetes showed it")
        assert condition(lost, "Healthy")["status"] == "True"
    finally:
        installed.start_node("node-b")
        until(lambda: installed.is_ready("node-b"), what="node-b is back", within_seconds=120)
    team.ready("chat", within_seconds=180)


def _shown(team: RealTeam, reason: str) -> float:
    for pod in team.pods("chat"):
        for status in pod["status"].get("containerStatuses", ()):
            for state in (status["state"], status.get("lastState", {})):
                if state.get("terminated", {}).get("reason") == reason:
                    return time.monotonic()
    return 0.0


def test_what_pod_security_refuses(team: RealTeam, operator: Operator) -> None:
    """A folder of the node is no volume that `restricted` admits."""
    spec = {"model": {"variants": ["E2B"]}, "weights": {"cache": {"type": "Node"}}, "serving": engine()}
    team.apply(stand_in(**spec))
    found = says_why(team, "AdmissionDenied")
    assert "hostPath" in condition(found, "Ready")["message"]
