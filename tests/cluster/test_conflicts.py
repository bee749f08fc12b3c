"""Who else wants the name of a child: nothing that is not ours is ever touched."""

from __future__ import annotations

import contextlib
import time

import pytest

from cluster.teams import CHILDREN, a_deployment, condition, says
from cluster.test_lies import MOST_WRITES, WINDOW_SECONDS, at_rest, writes_of
from cluster.waiting import throughout, until
from gemma_operator.errors import NotFound

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_FOREIGN = {
    "Service": {"spec": {"selector": {"app": "theirs"}, "ports": [{"name": "http", "port": 8000}]}},
    "ServiceAccount": {},
    "NetworkPolicy": {"spec": {"podSelector": {}}},
    "Deployment": {
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "theirs", "image": "theirs"}]},
            },
        }
    },
}


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_strangers_object_is_left_alone_until_it_goes(team, kind):
    pool = team.pool("l4", nodes=1)
    theirs = team.client.create(team.path(kind), {"metadata": {"name": "chat"}, **_FOREIGN[kind]})
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    stalled = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "Conflict"))
    message = condition(stalled, "Ready")["message"]
    assert f"{kind} chat" in message
    assert "delete it, or give this GemmaDeployment another name" in message
    team.told()
    assert {write.kind for write in team.writes()} == {"status", "Event"}
    stands = team.get(kind, "chat")
    assert stands["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert stands.get("spec") == theirs.get("spec")
    assert stands["metadata"].get("labels") == theirs["metadata"].get("labels")
    team.delete(kind, "chat")
    team.gone(kind, "chat")
    team.annotate("chat", {"team.example/looked": "at it"})  # sooner than the next look by itself
    team.ready("chat")


def test_the_second_of_two_deployments_that_want_one_name_gets_a_conflict(team):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("a.b", hardware={"pools": [pool]}))
    first = team.ready("a.b")
    pods = {pod["metadata"]["uid"] for pod in team.pods("a-b")}
    since = team.told("a.b")
    team.apply(a_deployment("a-b", hardware={"pools": [pool]}))
    second = team.sees("GemmaDeployment", "a-b", says("Stalled", "True", "Conflict"))
    assert "belongs to GemmaDeployment a.b" in condition(second, "Ready")["message"]
    throughout(
        lambda: says("Ready", "True")(team.get("GemmaDeployment", "a.b")), what="a.b serves", seconds=2
    )
    assert {pod["metadata"]["uid"] for pod in team.pods("a-b")} == pods
    assert {(write.kind, write.name) for write in team.writes(since=since) if write.kind != "Event"} == {
        ("status", "a-b")
    }
    assert team.get("GemmaDeployment", "a.b")["status"] == first["status"]
    team.delete("GemmaDeployment", "a.b")
    team.ready("a-b")  # the garbage collector learns of a new CRD every 30 s
    assert not {pod["metadata"]["uid"] for pod in team.pods("a-b")} & pods


def test_a_namesake_made_right_after_a_deletion_waits_for_the_old_children_to_go(team):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    old = team.ready("chat")
    team.delete("GemmaDeployment", "chat")
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    new = team.ready("chat")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    for kind in CHILDREN:
        (owner,) = team.get(kind, "chat")["metadata"]["ownerReferences"]
        assert owner["uid"] == new["metadata"]["uid"]


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_what_a_clean_up_deletes_each_time_is_made_ever_more_seldom_and_that_is_said(team, figure, kind):
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=2)]}))
    team.ready("chat")
    since, began, gone = team.audit.position, time.monotonic(), set()
    while time.monotonic() < began + WINDOW_SECONDS:
        if stands := team.find(kind, "chat"):
            gone.add(stands["metadata"]["uid"])
            with contextlib.suppress(NotFound):
                team.delete(kind, "chat")
        time.sleep(0.1)  # as often as such a tool looks
    made = writes_of(team, kind, since)
    figure(f"writes of a {kind} that was deleted {len(gone)} times within a window: {made}")
    assert 2 <= made <= MOST_WRITES
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "Conflict"))
    assert f"somebody deletes {kind} chat each time that it is made" in condition(said, "Ready")["message"]
    team.ready("chat", within_seconds=2 * WINDOW_SECONDS)
    at_rest(team)


def test_who_suspends_and_resumes_again_and_again_deletes_nothing_that_is_missed(team):
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=1)]}))
    for _ in range(4):
        team.ready("chat")
        team.change("chat", {"suspend": True})
        for kind in CHILDREN:
            team.gone(kind, "chat")
        until(lambda: not team.pods("chat", leaving=True), what="the pods are gone")
        team.change("chat", {"suspend": False})
    team.ready("chat")
    assert [event for event in team.events() if event["reason"] == "Conflict"] == []
