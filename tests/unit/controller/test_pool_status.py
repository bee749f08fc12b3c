"""What is said of AcceleratorPools, and that it is written once."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.controller import pool_status
from gemma_operator.controller.pool_status import Seen
from gemma_operator.controller.pool_statuses import PoolStatuses
from gemma_operator.errors import InvalidSpec, NotFound
from unit.controller.builders import World, an_accelerator_pool, an_l4

NOW = "2026-11-25T09:00:00Z"
OVER = ("a-pool", "node-7")


def said(obj, found=None):
    """By type: (status, reason, message)."""
    conditions = pool_status.said_of(obj, found or Seen(nodes=0), catalog=packaged())
    return {str(c.type): (c.status, str(c.reason), c.message) for c in conditions}


def test_a_pool_of_a_catalogued_card_is_a_candidate_and_nothing_else_is_said():
    assert said(an_accelerator_pool()) == {
        "Ready": ("True", "Accepted", "a candidate: 8 nvidia-h200 a node; may grow to 1 node")
    }


def test_a_pool_that_cannot_grow_says_so():
    assert said(an_accelerator_pool(maxNodes=0))["Ready"][2].endswith("does not grow")


def test_an_unknown_accelerator_is_told_with_the_nearest_names():
    status, reason, message = said(an_accelerator_pool(accelerator="nvidia-h100"))["Ready"]
    assert (status, reason) == ("False", "UnknownAccelerator")
    assert "nvidia-h100-80gb" in message
    assert "acceleratorMemoryMiB" in message


def test_an_accelerator_that_resembles_nothing_is_told_too():
    assert "nothing is near" in said(an_accelerator_pool(accelerator="zzzzzzzz"))["Ready"][2]


def test_an_unknown_accelerator_with_its_memory_is_a_candidate():
    obj = an_accelerator_pool(
        accelerator="nvidia-b300", acceleratorMemoryMiB=275000, computeCapability="10.3"
    )
    assert said(obj)["Ready"][:2] == ("True", "Accepted")


def test_a_card_that_no_engine_runs_on_is_refused_with_the_catalogs_reason():
    status, reason, message = said(an_accelerator_pool(accelerator="nvidia-t4"))["Ready"]
    assert (status, reason) == ("False", "InvalidSpec")
    assert "shared memory" in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"acceleratorsPerNode": 99}, "acceleratorsPerNode"),
        ({"acceleratorsPerNode": "many"}, "acceleratorsPerNode"),
        ({"memoryPerNode": "lots"}, "memoryPerNode"),
        ({"nodeSelector": {}}, "nodeSelector"),
    ],
)
def test_a_spec_that_got_past_an_older_crd_is_a_condition_and_leaves_the_fleet(change, named):
    obj = an_accelerator_pool(**change)
    status, reason, message = said(obj)["Ready"]
    assert (status, reason) == ("False", "InvalidSpec")
    assert named in message
    with pytest.raises(InvalidSpec):
        pool_status.read(obj)


def test_what_the_user_must_mend_is_stalled_as_kstatus_reads_it():
    ready, stalled = (
        said(an_accelerator_pool(accelerator="nvidia-t4"))[kind] for kind in ("Ready", "Stalled")
    )
    assert stalled == ("True", *ready[1:])


def test_overlapping_is_present_only_while_true_and_names_both():
    assert "Overlapping" not in said(an_accelerator_pool())
    status, reason, message = said(an_accelerator_pool(), Seen(nodes=0, overlap=OVER))["Overlapping"]
    assert (status, reason) == ("True", "Overlapping")
    assert "a-pool" in message
    assert "node-7" in message


def test_the_status_is_of_the_generation_that_was_read():
    obj = an_accelerator_pool(generation=4)
    status = pool_status.status_json(obj, Seen(nodes=2), catalog=packaged(), now_iso=NOW)
    assert (status["observedGeneration"], status["nodes"]) == (4, 2)
    assert [c["observedGeneration"] for c in status["conditions"]] == [4]


def test_the_same_state_gives_the_same_status_later():
    obj = an_accelerator_pool()
    obj["status"] = pool_status.status_json(obj, Seen(nodes=2), catalog=packaged(), now_iso=NOW)
    later = pool_status.status_json(obj, Seen(nodes=2), catalog=packaged(), now_iso="2027-01-01T00:00:00Z")
    assert later == obj["status"]


def test_a_node_is_counted_once_and_only_for_the_pool_that_has_it():
    world = World(an_l4("n1", gpus=1), an_l4("n2"), an_l4("n3", pool="elsewhere"))
    world.declared = [
        pool_status.read(
            an_accelerator_pool(
                name,
                accelerator="nvidia-l4",
                acceleratorsPerNode=1,
                nodeSelector={"cloud.google.com/gke-nodepool": "l4"},
            )
        )
        for name in ("first", "second")
    ]

    def found(name):
        return pool_status.seen(name, pools=world.fleet.pools, overlapping=world.fleet.overlapping)

    assert found("first") == Seen(nodes=2)
    assert found("second") == Seen(nodes=0, overlap=("first", "n1"))
    assert found("third") == Seen(nodes=0)


class Server:
    """AcceleratorPools as a server keeps them; what is applied is stored and answered."""

    def __init__(self, *objects):
        self.objects = {obj["metadata"]["name"]: obj for obj in objects}
        self.writes = []
        self.world = World()
        self.adds = {}
        self.pools = self.operator()

    def operator(self):
        """A process that starts now."""
        self.world.fleet.hardware_changed()
        self.world.declared = [pool_status.read(obj) for obj in self.objects.values()]
        return PoolStatuses(
            store=self,
            fleet=self.world.fleet,
            catalog=packaged(),
            apply_status=self.apply_status,
            now=lambda: datetime.now(UTC),
            debounce_seconds=0.001,
        )

    def get(self, _namespace, name):
        return self.objects.get(name)

    def places(self):
        return [("", name) for name in self.objects]

    async def apply_status(self, manifest):
        name = manifest["metadata"]["name"]
        if name not in self.objects:
            raise NotFound("gone", status=404, reason="NotFound")
        assert "spec" not in manifest
        self.writes.append(name)
        stored = {**copy.deepcopy(manifest["status"]), **self.adds}
        self.objects[name] = {**self.objects[name], "status": stored}
        return self.objects[name]


async def test_a_status_is_written_once_and_not_again_by_the_next_process():
    server = Server(an_accelerator_pool())
    for _ in range(3):
        assert await server.pools.reconcile("h200") is None
    assert await server.operator().reconcile("h200") is None
    assert server.writes == ["h200"]
    assert server.objects["h200"]["status"]["nodes"] == 0


async def test_a_node_that_joins_is_written_once():
    server = Server(an_accelerator_pool())
    await server.pools.reconcile("h200")
    server.world.node_joins(an_l4("n1", labels={"pool": "h200"}))
    for _ in range(2):
        await server.pools.reconcile("h200")
    assert server.writes == ["h200"] * 2
    assert server.objects["h200"]["status"]["nodes"] == 1


async def test_what_the_server_adds_to_a_status_is_not_fought():
    server = Server(an_accelerator_pool())
    server.adds = {"note": "added by somebody"}
    for _ in range(3):
        await server.pools.reconcile("h200")
    assert server.writes == ["h200"]


async def test_what_somebody_writes_into_the_status_is_put_right():
    server = Server(an_accelerator_pool())
    await server.pools.reconcile("h200")
    right = server.objects["h200"]["status"]
    server.objects["h200"] = {**server.objects["h200"], "status": {**right, "nodes": 99}}
    await server.pools.reconcile("h200")
    assert server.objects["h200"]["status"] == right


async def test_a_pool_that_is_gone_or_going_is_not_written():
    going = an_accelerator_pool("going")
    going["metadata"]["deletionTimestamp"] = NOW
    server = Server(going)
    assert await server.pools.reconcile("going") is None
    assert await server.pools.reconcile("never-was") is None
    assert server.writes == []


async def test_a_pool_that_goes_while_it_is_written_is_no_error():
    server = Server(an_accelerator_pool())
    obj = server.objects.pop("h200")
    server.get = lambda _namespace, _name: obj
    assert await server.pools.reconcile("h200") is None


async def settled(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def test_a_change_of_the_fleet_asks_for_a_look_at_every_pool_but_only_the_leader_writes():
    server = Server(an_accelerator_pool("one"), an_accelerator_pool("two"))
    running = asyncio.create_task(server.pools.run())
    server.pools.changed()
    await settled(lambda: len(server.pools.queue) == 2)
    assert server.writes == []
    server.pools.queue.open()
    await settled(lambda: sorted(server.writes) == ["one", "two"])
    server.objects["two"] = an_accelerator_pool("two")
    server.pools.touched("two")
    await settled(lambda: len(server.writes) == 3)
    assert server.writes[2] == "two"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
