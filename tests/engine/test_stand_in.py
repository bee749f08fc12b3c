"""One case through the whole house on real nodes: planned, checked, admitted, started, proved, asked.

The engine is a stand-in; everything else is real: kubelet, probes, Pod Security, NetworkPolicy, Services.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.operating import Operator
from cluster.teams import Object, condition, says
from cluster.waiting import throughout, until
from engine.houses import RealTeam, engine, stand_in


def test_a_deployment_is_served_through_its_service(
    team: RealTeam, operator: Operator, figure: Callable[[str], None]
) -> None:
    began = time.monotonic()
    team.apply(stand_in(replicas=2))
    chat = team.ready("chat", within_seconds=120)
    figure(f"apply to Ready of two stand-in replicas on real nodes: {time.monotonic() - began:.1f} s")
    assert {pod["spec"]["nodeName"] for pod in team.pods("chat")} == {"node-a", "node-b"}
    assert condition(chat, "WeightsReady")["reason"] == "WeightsPresent"
    team.client_pod("client", node="node-a")
    assert team.ask("client", chat["status"]["endpoint"]["url"]) == "3"


def test_with_the_operator_down_a_generation_that_cannot_answer_replaces_nobody(
    team: RealTeam, operator: Operator
) -> None:
    """For five minutes. The start-up probe runs in the pod: /health answers 200 and completions answer 500."""
    team.apply(stand_in(replicas=2))
    url = team.ready("chat", within_seconds=120)["status"]["endpoint"]["url"]
    team.client_pod("client", node="node-a")
    old = {pod["metadata"]["name"] for pod in team.pods("chat")}
    team.change("chat", {"serving": engine(fault="completions-500")})
    until(lambda: {p["metadata"]["name"] for p in team.pods("chat")} - old, what="a new pod exists")
    operator.kill()

    def old_ones_serve() -> bool:
        ready = {p["metadata"]["name"] for p in team.pods("chat") if _is_ready(p)}
        return bool(ready) and ready <= old

    until(
        lambda: any(_runs(p) for p in team.pods("chat") if p["metadata"]["name"] not in old), what="it runs"
    )
    throughout(old_ones_serve, what="only old replicas are ready", seconds=300)
    assert [team.ask("client", url) for _ in range(20)] == ["3"] * 20
    operator.ensure_running()
    stuck = team.sees("GemmaDeployment", "chat", says("Healthy", "True"))
    assert not says("Ready", "True")(stuck)
    team.change("chat", {"serving": engine()})
    team.ready("chat", within_seconds=180)


def _is_ready(pod: Object) -> bool:
    return any((c["type"], c["status"]) == ("Ready", "True") for c in pod["status"].get("conditions", ()))


def _runs(pod: Object) -> bool:
    return any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))
