"""One case through the whole house on real nodes: planned, checked, admitted, started, proved, asked.

The engine is a stand-in; everything else is real: kubelet, probes, Pod Security, NetworkPolicy, Services.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.operating import Operator
from cluster.teams import condition
from engine.houses import RealTeam, stand_in


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
