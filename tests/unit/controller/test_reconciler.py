"""What the reconciler asked, answered and learnt goes with the object, and with the lead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes.act import Act
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.caches import PodSeen
from gemma_operator.controller.reconciler import Parts, Reconciler
from gemma_operator.engines.registry import engine_named
from gemma_operator.errors import Forbidden, NotFound, NotLeader
from gemma_operator.metrics.registry import Metrics
from gemma_operator.planner.plan import to_annotation
from gemma_operator.probing.prober import Prober
from snapshots import NOW, a_replica
from unit.controller.builders import SETTINGS, World, a_gd, an_l4
from unit.controller.tables import CHILD, Tables, a_kind

KEY = Key("team", "Llm.v2")
POD = a_replica("llm-v2-0")


class Server:
    """Takes everything but what it refuses; nothing stands there yet."""

    refuses = ""

    async def apply(self, manifest, *, uid=""):
        if manifest["kind"] == self.refuses:
            raise Forbidden(f"not allowed to apply {self.refuses}", status=403)
        return {**manifest, "metadata": {**manifest["metadata"], "uid": "of-the-server"}}

    async def apply_status(self, manifest):
        return manifest

    async def read(self, kind, *, namespace, name):
        raise NotFound(kind, status=404)

    async def post_event(self, event):
        """Taken."""


class House:
    """One deployment with a replica, and all that is told of it."""

    def __init__(self):
        self.leading = True
        self.obj = a_gd("Llm.v2")
        self.tables = Tables()
        self.tables.pods.append((CHILD, PodSeen(record=None, replica=POD, owner=CHILD)))
        self.world = World(an_l4())
        self.server = Server()
        self.metrics = Metrics()
        self.metrics.leader(True)
        self.prober = Prober(settings=SETTINGS, on_verdict=lambda _key: None, on_sample=lambda *_: None)
        self.sources = replace(
            self.tables.sources(),
            inputs=self.world.inputs,
            placement=self.world.desk.answer,
            facts=self.prober.facts,
            schema_gaps=lambda _obj: (),
        )
        self.reconciler = Reconciler(
            Parts(
                store=self,
                sources=self.sources,
                placement=self.world.desk,
                act=Act(self.server, instance="test", window_seconds=600),
                prober=self.prober,
                metrics=self.metrics,
                default_engine=engine_named("VLLM"),
                now=lambda: NOW,
                leading=lambda: self.leading,
            )
        )

    def get(self, namespace, name):
        return self.obj

    async def visit(self):
        await self.reconciler.reconcile(KEY)

    async def place(self):
        """Ask, be answered, and have it made."""
        await self.visit()
        self.world.desk.step()
        await self.visit()

    @property
    def traces(self):
        """What is left of it beside the tables."""
        return {
            "asked for a token": self.prober.facts(POD.uid) is not None,
            "answered": self.world.desk.answer(KEY) is not None,
            "claimed": bool(self.world.desk.claims()),
            "shown": KEY.name in self.metrics.exposition().decode(),
        }


@pytest.fixture
async def house():
    house = House()
    await house.place()
    assert all(house.traces.values())
    return house


async def test_what_runs_is_asked_though_the_server_refuses_a_child():
    """An operator that was started again would know nothing of its replicas for as long as that lasts."""
    house = House()
    await house.visit()
    house.world.desk.step()
    house.server.refuses = "NetworkPolicy"
    with pytest.raises(Forbidden):
        await house.visit()
    assert house.traces["asked for a token"]


async def test_nothing_stays_of_an_object_that_went(house):
    house.obj = None
    await house.visit()
    assert not any(house.traces.values())


async def test_who_leads_no_more_asks_no_replica_and_keeps_no_answer_of_its_time(house):
    house.reconciler.stand_down()
    assert not any(house.traces.values())


async def test_a_plan_that_another_leader_made_meanwhile_is_not_taken_back(house):
    """The spec is the same, so an answer that was kept would answer it."""
    mine = house.world.desk.answer(KEY).plan
    house.reconciler.stand_down()
    theirs = replace(mine, planned_at="2026-11-26T09:00:00Z", pool=replace(mine.pool, name="theirs"))
    house.tables.children["Deployment"] = a_kind(
        "Deployment", **{"gemma-operator.io/plan": to_annotation(theirs)}
    )
    seen = house.tables.seen(house.obj)
    assert replace(seen, placement=house.world.desk.answer(KEY)).current_plan.pool.name == "theirs"


async def test_a_visit_in_which_the_lead_is_lost_asks_for_no_plan():
    house = House()
    house.leading = False
    with pytest.raises(NotLeader):
        await house.visit()
    house.world.desk.step()
    assert not any(house.traces.values())


async def test_a_visit_in_which_the_lead_is_lost_tells_nobody_whom_to_ask():
    house = House()
    await house.visit()
    house.world.desk.step()
    house.leading = False
    with pytest.raises(NotLeader):
        await house.visit()
    assert not house.traces["asked for a token"]
    assert not house.traces["shown"]
