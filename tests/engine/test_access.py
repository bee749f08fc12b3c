"""Who may ask an endpoint, with real packets: from its own and other namespaces, on both nodes, through the Service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.operating import Operator
from cluster.waiting import until
from engine.houses import RealTeam, a_team, stand_in
from engine.nodes.cluster import RealCluster

NODES = ("node-a", "node-b")


@pytest.fixture
def others(installed: RealCluster) -> Iterator[RealTeam]:
    """Another namespace, with a client on each node."""
    joined = a_team(installed)
    for node in NODES:
        joined.client_pod(f"on-{node}", node=node)
    yield joined
    joined.leave()


def test_only_the_own_and_the_allowed_namespaces_are_let_through(
    team: RealTeam, others: RealTeam, operator: Operator
) -> None:
    team.apply(stand_in(replicas=2))
    chat = team.ready("chat", within_seconds=120)
    assert {pod["spec"]["nodeName"] for pod in team.pods("chat")} == set(NODES)
    service = chat["status"]["endpoint"]["url"]
    urls = [service, *(f"http://{pod['status']['podIP']}:8000/v1" for pod in team.pods("chat"))]
    for node in NODES:
        team.client_pod(f"on-{node}", node=node)
        for url in urls:
            assert team.ask(f"on-{node}", url) == "3", f"the own namespace, from {node} to {url}"
            assert "refused" in others.ask(f"on-{node}", url), f"another namespace, from {node} to {url}"
    team.change("chat", {"access": {"allowedNamespaces": [others.namespace]}})
    for node in NODES:
        for url in urls:
            until(lambda n=node, u=url: others.ask(f"on-{n}", u) == "3", what=f"{node} may ask {url} now")
