"""The operator dies at each step of a deployment's way to Ready: its successor ends it, and nothing is doubled."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.teams import CHILDREN, a_deployment, says
from cluster.waiting import until

pytestmark = pytest.mark.cluster


def _a_child_stands(team):
    return any(team.find(kind, "chat") for kind in CHILDREN)


def _all_children_stand(team):
    return all(team.find(kind, "chat") for kind in CHILDREN)


def _a_pod_is_starting(team):
    return any(pod["status"].get("podIP") for pod in team.pods("chat"))


def _it_is_ready(team):
    return says("Ready", "True")(team.get("GemmaDeployment", "chat"))


@pytest.mark.parametrize(
    "step",
    [_a_child_stands, _all_children_stand, _a_pod_is_starting, _it_is_ready],
    ids=["the first child", "all children", "starting", "ready"],
)
def test_killed_after(team, operator, step):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    until(lambda: step(team), what="the step")
    operator.kill()
    operator.ensure_running()
    plan = team.ready("chat")["status"]["plan"]
    assert plan["pool"]["name"] == pool
    (pod,) = team.pods("chat")
    assert pod["metadata"]["generateName"]
    created = Counter(write.kind for write in team.writes() if write.created)
    assert set(created) <= set(CHILDREN)
    assert max(created.values()) == 1, "no child was made twice"
    assert len(team.all("ReplicaSet")) == 1, "the pod was rendered alike by both"


@pytest.mark.parametrize("applied", [1, 2, 3], ids=["one child", "two children", "three children"])
def test_what_a_dead_operator_left_half_made_is_completed(team, operator, applied):
    """As if it had been killed between two writes: the later children were never made."""
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    team.ready("chat")
    operator.kill()
    for kind in CHILDREN[applied:]:
        team.delete(kind, "chat")
        team.gone(kind, "chat")
    stands = {kind: team.get(kind, "chat")["metadata"]["uid"] for kind in CHILDREN[:applied]}
    since = team.audit.position
    operator.ensure_running()
    until(lambda: _all_children_stand(team), what="all children")
    team.ready("chat")
    assert {kind: team.get(kind, "chat")["metadata"]["uid"] for kind in stands} == stands

    def created():
        return [write.kind for write in team.writes(since=since) if write.created]

    until(lambda: len(created()) >= len(CHILDREN[applied:]), what="all that was made is in the log")
    assert created() == list(CHILDREN[applied:])
