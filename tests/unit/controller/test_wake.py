"""Which keys a change concerns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gemma_operator.apiserver.records import Change
from gemma_operator.backends.kubernetes.snapshot import Key, Replica
from gemma_operator.controller.caches import PodSeen, Slice
from gemma_operator.controller.wake import Wake
from gemma_operator.hardware.admissions import Admission
from gemma_operator.hardware.nodeclaims import NodeClaimRecord
from gemma_operator.hardware.records import PodRecord
from snapshots import a_replica
from unit.planner.builders import a_node


@dataclass(frozen=True)
class Soon:
    key: Key


class Heard(list):
    def __init__(self):
        super().__init__()
        self.wake = Wake(
            look_at=self.append,
            look_soon=lambda key: self.append(Soon(key)),
            hardware_changed=lambda: self.append("hardware"),
            room_changed=lambda: self.append("room"),
            pool_touched=lambda name: self.append(f"pool {name}"),
            node_went=lambda name: self.append(f"{name} went"),
        )

    def knows(self, *names):
        for name in names:
            self.wake.deployment(Change(("team", name), None, {}))
        self.clear()


@pytest.fixture
def heard():
    return Heard()


def a_pod(*, owner="chat", gpus=1):
    record = PodRecord(uid="u", namespace="team", node="n1", requests={"nvidia.com/gpu": gpus})
    return PodSeen(record=record, replica=None, owner=Key("team", owner) if owner else None)


def test_a_deployment_wakes_itself(heard):
    heard.wake.deployment(Change(("team", "chat"), None, {}))
    assert heard == [Key("team", "chat")]


def test_a_child_wakes_the_deployment_that_it_is_named_after(heard):
    heard.knows("Llm.v2", "other")
    heard.wake.child(Change(("team", "llm-v2"), None, None))
    assert heard == [Soon(Key("team", "Llm.v2"))]


def test_a_child_of_nobody_wakes_nobody(heard):
    heard.knows("chat")
    heard.wake.child(Change(("elsewhere", "chat"), None, None))
    assert heard == []


def test_two_that_want_the_same_children_are_both_woken(heard):
    heard.knows("a.b", "a-b")
    heard.wake.child(Change(("team", "a-b"), None, None))
    assert set(heard) == {Soon(Key("team", "a.b")), Soon(Key("team", "a-b"))}


def test_who_waits_for_a_name_is_woken_when_it_gets_free(heard):
    heard.knows("a.b", "a-b")
    heard.wake.deployment(Change(("team", "a.b"), {}, None))
    assert heard == [Key("team", "a.b"), Key("team", "a-b")]


def test_a_replica_wakes_its_deployment_and_whoever_waits_for_room(heard):
    heard.knows("chat")
    heard.wake.pod(Change(("team", "p"), None, a_pod()))
    assert heard == ["room", Soon(Key("team", "chat"))]


def test_a_strangers_pod_matters_only_for_room(heard):
    heard.knows("chat")
    heard.wake.pod(Change(("team", "p"), a_pod(owner=""), None))
    assert heard == ["room"]


def test_a_replica_that_takes_what_it_took_changes_no_room(heard):
    heard.knows("chat")
    old = a_pod()
    new = replace(old, replica=_a_replica())
    heard.wake.pod(Change(("team", "p"), old, new))
    assert "room" not in heard
    assert Soon(Key("team", "chat")) in heard


def test_a_slice_wakes_the_deployment_of_its_service(heard):
    heard.knows("chat")
    heard.wake.slice(Change(("team", "chat-abc"), None, Slice(service=Key("team", "chat"), addresses=())))
    assert heard == [Soon(Key("team", "chat"))]


def test_nodes_and_pools_change_hardware_before_room(heard):
    heard.wake.node(Change(("", "n1"), None, a_node("n1")))
    heard.wake.pool(Change(("", "p1"), None, {}))
    assert heard == ["hardware", "room", "hardware", "room"]


def test_a_new_status_of_a_pool_is_no_other_hardware(heard):
    old = {"metadata": {"uid": "u", "generation": 3, "resourceVersion": "7"}}
    new = {"metadata": {"uid": "u", "generation": 3, "resourceVersion": "8"}, "status": {"nodes": 1}}
    heard.wake.pool(Change(("", "p1"), old, new))
    assert heard == ["pool p1"]


@pytest.mark.parametrize("change", [{"generation": 4}, {"uid": "another"}])
def test_a_pool_that_was_edited_or_made_anew_is_other_hardware(heard, change):
    old = {"metadata": {"uid": "u", "generation": 3}}
    heard.wake.pool(Change(("", "p1"), old, {"metadata": {**old["metadata"], **change}}))
    assert heard == ["hardware", "room"]


def _a_replica():
    strings = {name: "" for name, kind in Replica.__annotations__.items() if kind == "str"}
    flags = {name: False for name, kind in Replica.__annotations__.items() if kind == "bool"}
    return Replica(**strings, **flags, exit_code=None, restarts=0)


def test_what_brings_or_offers_nodes_is_hardware(heard):
    heard.wake.hardware(Change(("", "gpu"), None, object()))
    assert heard == ["hardware", "room"]


def test_what_a_namespace_allows_is_room(heard):
    heard.wake.rules(Change(("team", "q"), None, object()))
    assert heard == ["room"]


@pytest.mark.parametrize(("before", "after", "woken"), [("", "x", True), ("x", "", True), ("x", "x", False)])
def test_a_claim_whose_trouble_changed_is_news_to_everybody(heard, before, after, woken):
    heard.knows("chat", "docs")
    records = [NodeClaimRecord("c", "gpu", trouble) for trouble in (before, after)]
    heard.wake.nodeclaim(Change(("", "c"), *records))
    assert heard == ([Soon(Key("team", "chat")), Soon(Key("team", "docs"))] if woken else [])


def test_a_quarantine_is_room_and_news_to_everybody(heard):
    heard.knows("chat")
    heard.wake.quarantine()
    assert heard == ["room", Soon(Key("team", "chat"))]


def test_what_a_node_said_to_a_pod_is_passed_on():
    told = []
    wake = Wake(
        look_at=lambda key: None,
        look_soon=lambda key: None,
        hardware_changed=lambda: None,
        room_changed=lambda: None,
        pool_touched=lambda name: None,
        admitted=told.append,
    )
    said = Admission("u", "n", ("nvidia.com/gpu",), "2026-11-25T09:00:00Z", True)
    wake.pod(Change(("team", "p"), None, PodSeen(None, None, None, admission=said)))
    wake.pod(Change(("team", "p"), PodSeen(None, None, None, admission=said), None))
    assert told == [said, None]


@pytest.mark.parametrize(
    ("before", "after", "woken"), [(False, True, True), (True, False, True), (True, True, False)]
)
def test_a_gate_that_closes_or_opens_is_room(heard, before, after, woken):
    seen = [PodSeen(None, a_replica(gated=gated), None) for gated in (before, after)]
    heard.wake.pod(Change(("team", "p"), *seen))
    assert heard == (["room"] if woken else [])


def test_a_claim_wakes_who_names_it_and_nobody_else(heard):
    names_it = {"spec": {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}}}
    heard.wake.deployment(Change(("team", "chat"), None, names_it))
    heard.knows("other")
    heard.wake.claim(Change(("team", "w"), None, None))
    assert heard == [Soon(Key("team", "chat"))]
    heard.clear()
    heard.wake.deployment(Change(("team", "chat"), names_it, {"spec": {}}))
    heard.clear()
    heard.wake.claim(Change(("team", "w"), None, None))
    assert heard == []


def test_the_job_of_its_weights_wakes_a_deployment(heard):
    heard.knows("Llm.v2", "other")
    heard.wake.job(Change(("team", "llm-v2-weights"), None, None))
    assert heard == [Soon(Key("team", "Llm.v2"))]
    heard.wake.deployment(Change(("team", "Llm.v2"), {}, None))
    heard.clear()
    heard.wake.job(Change(("team", "llm-v2-weights"), None, None))
    assert heard == []


def test_a_node_that_went_is_told_by_its_name(heard):
    heard.wake.node(Change(("", "n1"), a_node("n1"), a_node("n1", gpus=2)))
    assert "n1 went" not in heard
    heard.wake.node(Change(("", "n1"), a_node("n1"), None))
    assert "n1 went" in heard
