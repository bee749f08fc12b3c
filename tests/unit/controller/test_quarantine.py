"""A node that refuses two pods in a row has no room for a while."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from gemma_operator.controller.caches import cut_pod
from gemma_operator.controller.quarantine import Quarantine
from gemma_operator.hardware.admissions import Admission, admission

GPU = "nvidia.com/gpu"
START = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


class World:
    def __init__(self):
        self.seconds = 0.0
        self.changes = 0
        self.quarantine = Quarantine(seconds=600, now=lambda: START + timedelta(seconds=self.seconds))
        self.quarantine.changed = self._changed

    def _changed(self):
        self.changes += 1

    def pod(self, uid, *, at=0, refused=True, node="a", resources=(GPU,)):
        made_at = (START + timedelta(seconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.quarantine.saw(Admission(uid, node, resources, made_at, refused))

    @property
    def pairs(self):
        return self.quarantine.pairs


@pytest.fixture
def world():
    return World()


def test_one_refusal_is_no_row(world):
    world.pod("p1")
    assert (world.pairs, world.changes) == (frozenset(), 0)


def test_two_in_a_row_take_the_nodes_devices_out_of_the_room(world):
    world.pod("p1")
    world.pod("p2", at=1)
    assert world.pairs == {("a", GPU)}
    assert world.quarantine.nodes_of(GPU) == {"a"}
    assert world.quarantine.nodes_of("amd.com/gpu") == frozenset()
    assert world.changes == 1


def test_of_a_node_that_went_nothing_is_kept_and_another_of_its_name_begins_anew(world):
    """Autoscalers give each node a new name: what is kept of those that went would only grow."""
    for uid, node in (("p1", "a"), ("p2", "a"), ("p3", "b"), ("p4", "b")):
        world.pod(uid, node=node)
    world.quarantine.forget("a")
    assert world.pairs == {("b", GPU)}
    assert [node for node, _ in world.quarantine._rows] == ["b"]
    world.pod("p5", at=1, node="a")
    assert world.pairs == {("b", GPU)}


def test_the_same_pod_seen_twice_is_one_refusal(world):
    world.pod("p1")
    world.pod("p1")
    assert world.pairs == frozenset()


def test_two_nodes_are_two_rows(world):
    world.pod("p1", node="a")
    world.pod("p2", node="b")
    assert world.pairs == frozenset()


def test_a_pod_that_was_taken_in_between_ends_the_row(world):
    world.pod("p1", at=0)
    world.pod("p2", at=1, refused=False)
    world.pod("p3", at=2)
    assert world.pairs == frozenset()


def test_a_pod_that_ran_there_before_ends_no_row(world):
    world.pod("p1", at=10)
    world.pod("p2", at=11)
    world.pod("old", at=1, refused=False)
    assert world.pairs == {("a", GPU)}


def test_a_pod_that_is_taken_later_lifts_it(world):
    world.pod("p1", at=0)
    world.pod("p2", at=1)
    world.pod("p3", at=2, refused=False)
    assert world.pairs == frozenset()
    assert world.changes == 2


def test_it_counts_from_the_last_refusal_and_ends_by_itself(world):
    world.pod("p1", at=0)
    world.pod("p2", at=100)
    world.seconds = 699
    assert world.pairs == {("a", GPU)}
    world.seconds = 700
    assert world.pairs == frozenset()


def test_after_its_end_one_more_refusal_is_enough(world):
    world.pod("p1", at=0)
    world.pod("p2", at=1)
    world.seconds = 1000
    world.pod("p3", at=1000)
    assert world.pairs == {("a", GPU)}


def test_refusals_of_yesterday_found_at_the_start_say_nothing_of_now(world):
    world.pod("p1", at=-90000)
    world.pod("p2", at=-89000)
    assert world.pairs == frozenset()


@pytest.mark.parametrize("order", [("p1", "p2", "ok"), ("ok", "p2", "p1"), ("p2", "ok", "p1")])
def test_a_list_in_any_order_tells_the_same(world, order):
    pods = {"p1": (1, True), "p2": (2, True), "ok": (0, False)}
    for uid in order:
        at, refused = pods[uid]
        world.pod(uid, at=at, refused=refused)
    assert world.pairs == {("a", GPU)}


async def test_its_end_is_told(world):
    world.quarantine = Quarantine(seconds=0.05, now=lambda: datetime.now(UTC))
    ended = asyncio.Event()
    now = datetime.now(UTC).isoformat()
    task = asyncio.create_task(world.quarantine.run())
    world.quarantine.saw(Admission("p1", "a", (GPU,), now, True))
    world.quarantine.saw(Admission("p2", "a", (GPU,), now, True))
    world.quarantine.changed = ended.set
    async with asyncio.timeout(5):
        await ended.wait()
    assert world.pairs == frozenset()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def a_pod(*, phase="Failed", reason="UnexpectedAdmissionError", node="a", resources=None):
    limits = {GPU: "1"} if resources is None else resources
    return {
        "metadata": {"uid": "u", "creationTimestamp": "2026-11-25T09:00:00Z"},
        "spec": {"nodeName": node, "containers": [{"resources": {"limits": limits}}]},
        "status": {"phase": phase, "reason": reason},
    }


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (a_pod(), Admission("u", "a", (GPU,), "2026-11-25T09:00:00Z", True)),
        (a_pod(phase="Running", reason=""), Admission("u", "a", (GPU,), "2026-11-25T09:00:00Z", False)),
        (a_pod(reason="Evicted"), None),
        (a_pod(phase="Pending"), None),
        (a_pod(node=""), None),
        (a_pod(resources={"cpu": "1"}), None),
    ],
)
def test_what_a_pod_tells_of_its_node(pod, said):
    assert admission(pod) == said


def test_what_a_node_said_is_kept_of_anybodys_pod_and_a_finished_one_is_not():
    seen = cut_pod({**a_pod(), "metadata": {**a_pod()["metadata"], "name": "p", "namespace": "strangers"}})
    assert (seen.record, seen.replica, seen.owner) == (None, None, None)
    assert seen.admission.refused
    over = a_pod(phase="Succeeded", reason="")
    assert cut_pod({**over, "metadata": {**over["metadata"], "name": "p", "namespace": "strangers"}}) is None
