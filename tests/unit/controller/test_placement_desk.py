"""Where deployments ask for a plan: one serialised step, and claims that live nowhere but in what is placed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller import placement
from gemma_operator.controller.fleet import Beside
from gemma_operator.controller.placement import Placed
from gemma_operator.hardware.namespaces import NamespaceRules, quota_record
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.plan import to_status
from plans import a_plan
from unit.controller.builders import World, a_gd, an_l4
from unit.planner.builders import a_pod

CHAT, OTHER = a_gd("chat"), a_gd("other")


def key(obj):
    return Key(obj["metadata"]["namespace"], obj["metadata"]["name"])


def test_who_asks_is_answered_and_woken_once():
    world = World(an_l4())
    asked = world.ask(CHAT)
    assert world.answer(CHAT) is None
    world.desk.step()
    answer = world.answer(CHAT)
    assert (answer.plan.variant, answer.plan.pool.name, answer.plan.accelerator) == ("E4B", "l4", "nvidia-l4")
    assert (answer.reason, answer.waiting, answer.token) == (Reason.PLANNED, False, asked.ask_token)
    assert answer.plan.inputs_hash == asked.inputs_hash
    assert answer.plan.planned_at == "2026-11-25T09:00:01Z"
    assert world.woken == [key(CHAT)]
    world.desk.step()
    assert world.woken == [key(CHAT)], "a question that was answered is not asked again"


def test_what_cannot_be_reckoned_fails_its_asker_alone(monkeypatch):
    """A fault of the planner would else end the operator for everybody, and again after each restart."""
    bad = a_gd("bad", serving={"contextLength": 1024})

    def reckoned(request, shapes, catalog):
        if request.context_length == 1024:
            raise ZeroDivisionError
        return feasible(request, shapes, catalog)

    world = World(an_l4())
    world.ask(bad)
    monkeypatch.setattr(placement, "feasible", reckoned)
    world.ask(CHAT)
    world.nodes.append(an_l4("n2"))
    world.fleet.hardware_changed()
    world.desk.step()
    assert world.answer(CHAT).plan is not None
    assert world.answer(bad) is None
    assert world.woken == [key(bad), key(CHAT)]
    world.desk.step()
    assert len(world.woken) == 2, "it is woken once, and fails when it asks again"
    with pytest.raises(ZeroDivisionError):
        world.ask(bad)


def test_of_two_that_ask_together_the_older_gets_the_only_gpu():
    world = World(an_l4())
    old = a_gd("young-by-name", metadata={"creationTimestamp": "2026-11-25T07:59:59Z"})
    world.ask(CHAT)
    world.ask(old)
    world.desk.step()
    assert world.answer(old).plan is not None
    late = world.answer(CHAT)
    assert (late.plan, late.waiting, late.reason) == (None, True, Reason.WAITING_FOR_CAPACITY)
    assert late.message
    assert late.alternatives, "what was looked at is shown"


def test_an_answer_that_nobody_wrote_yet_is_a_claim():
    world = World(an_l4())
    world.ask(CHAT)
    world.desk.step()
    world.ask(OTHER)
    world.desk.step()
    assert world.answer(OTHER).waiting


def test_a_plan_that_stands_is_claimed_once():
    world = World(an_l4("n1"), an_l4("n2"))
    world.ask(CHAT)
    world.desk.step()
    world.writes(CHAT)
    assert [claim.key for claim in world.desk.claims()] == [("team", "chat")]
    world.ask(OTHER)
    world.desk.step()
    assert world.answer(OTHER).plan is not None


@pytest.mark.parametrize("same_second", [False, True])
def test_an_unwritten_answer_is_the_claim_before_the_older_plan_and_not_after_it_stands(same_second):
    world = World(an_l4("n2", pool="l4-b"))
    if same_second:
        world.desk._now_iso = lambda: "2026-11-25T09:00:00Z"
    world.ask(CHAT)
    world.desk.step()
    old = world.answer(CHAT).plan
    world.writes(CHAT)
    world.node_joins(an_l4("n1", pool="l4-a"))
    again = world.ask(CHAT, plan=old, annotations={"gemma-operator.io/replan-requested-at": "now"})
    world.desk.step()
    new = world.answer(CHAT).plan
    assert new.pool != old.pool
    world.desk.looked_at(replace(again, plan=old))
    assert [claim.pool for claim in world.desk.claims()] == [new.pool]
    world.placed = [Placed(key(CHAT), new, 3, ())]
    world.desk.looked_at(replace(again, plan=new))
    assert [(claim.pool, claim.replicas) for claim in world.desk.claims()] == [(new.pool, 3)]


@pytest.mark.parametrize(
    ("stood", "made"),
    [
        ("2026-11-25T08:59:59Z", "2026-11-25T09:00:01Z"),
        ("2026-11-25T09:00:30Z", "2026-11-25T09:00:31Z"),
        ("9999-12-31T23:59:59Z", "2026-11-25T09:00:01Z"),
        ("yesterday", "2026-11-25T09:00:01Z"),
    ],
    ids=["past", "the last leader's clock is ahead", "no time is later", "no time"],
)
def test_a_plan_is_made_after_the_one_that_it_replaces(stood, made):
    """By the later one is known what stands and what is claimed: a plan that seemed older would be given up."""
    world = World(an_l4())
    world.ask(CHAT, plan=replace(a_plan(), planned_at=stood))
    world.desk.step()
    assert world.answer(CHAT).plan.planned_at == made


def test_a_claim_stays_though_the_plan_before_it_was_made_by_a_clock_that_is_ahead():
    world = World(an_l4())
    old = replace(a_plan(), planned_at="2026-11-25T09:00:30Z")
    asked = world.ask(CHAT, plan=old)
    world.desk.step()
    world.desk.looked_at(asked)
    assert [claim.pool for claim in world.desk.claims()] == [world.answer(CHAT).plan.pool]


def test_who_asks_anew_claims_nothing_of_its_old_plan():
    world = World(an_l4())
    world.ask(CHAT)
    world.desk.step()
    world.writes(CHAT)
    edited = a_gd("chat", generation=2, serving={"contextLength": 8192})
    world.ask(edited, plan=world.answer(CHAT).plan)
    assert world.desk.claims() == []
    world.desk.step()
    assert world.answer(edited).plan is not None, "its own GPU is free for it"


def test_pods_that_are_bound_leave_no_claim_beside_them():
    world = World(an_l4("n1"), an_l4("n2"))
    world.ask(CHAT)
    world.desk.step()
    world.writes(CHAT)
    world.pods = [a_pod("n1", owner=("team", "chat"))]
    world.ask(OTHER)
    world.desk.step()
    assert world.answer(OTHER).plan is not None


def test_a_suspended_one_is_planned_and_claims_nothing():
    world = World(an_l4())
    world.ask(a_gd("chat", suspend=True))
    world.ask(OTHER)
    world.desk.step()
    assert world.answer(CHAT).plan is not None
    assert world.answer(OTHER).plan is not None


def test_a_resumed_one_asks_for_a_claim_again():
    world = World(an_l4())
    world.ask(a_gd("chat", suspend=True))
    world.desk.step()
    world.ask(OTHER)
    world.desk.step()
    suspended = {"conditions": [{"type": "Suspended", "status": "True"}]}
    plan, running = world.answer(CHAT).plan, a_gd("chat", generation=2)
    resumed = world.snapshot(running, status=suspended, plan=plan)
    assert resumed.answer is None, "the plan of the suspended one is no answer: it claimed nothing"
    world.ask(running, status=suspended, plan=plan)
    world.desk.step()
    assert world.answer(CHAT).waiting, "the GPU went to the other one meanwhile"


def test_who_waits_is_woken_only_by_another_answer():
    world = World(an_l4())
    for obj in (CHAT, OTHER):
        world.ask(obj)
    world.desk.step()
    world.woken.clear()
    world.desk.step()
    assert world.woken == []
    world.node_joins(an_l4("n2"))
    world.desk.step()
    assert world.woken == [key(OTHER)]
    assert world.answer(OTHER).plan.pool.name == "l4"


def test_a_claim_goes_with_its_object():
    world = World(an_l4())
    world.ask(CHAT)
    world.desk.step()
    world.ask(OTHER)
    world.desk.step()
    world.desk.forget(key(CHAT))
    assert world.answer(CHAT) is None
    assert world.desk.claims() == []
    world.desk.step()
    assert world.answer(OTHER).plan is not None


def test_a_question_goes_with_its_object():
    world = World()
    world.ask(CHAT)
    world.desk.forget(key(CHAT))
    world.desk.step()
    assert world.answer(CHAT) is None


def test_a_question_that_is_asked_no_more_is_withdrawn():
    world = World(an_l4())
    world.ask(CHAT)
    world.desk.step()
    world.writes(CHAT)
    plan = world.answer(CHAT).plan
    wider = a_gd("chat", generation=2, hardware={"pools": ["not-there-yet"]})
    world.ask(wider, plan=plan)
    world.desk.step()
    assert world.answer(CHAT).plan is None
    world.desk.looked_at(world.snapshot(a_gd("chat", generation=3), plan=plan))
    assert [claim.pool for claim in world.desk.claims()] == [plan.pool], "its plan claims again"
    world.woken.clear()
    world.node_joins(an_l4("n2", pool="not-there-yet"))
    world.desk.step()
    assert world.woken == []
    assert [claim.pool for claim in world.desk.claims()] == [plan.pool]


def test_an_answer_to_a_question_of_the_past_claims_nothing():
    world = World(an_l4("n1"), an_l4("n2", pool="b"))
    world.ask(a_gd("chat", hardware={"pools": ["b"]}))
    world.desk.step()
    assert world.answer(CHAT).plan.pool.name == "b"
    world.desk.looked_at(world.snapshot(a_gd("chat", generation=2, hardware={"pools": ["l4"]})))
    assert world.desk.claims() == []


def test_a_question_that_still_waits_is_kept():
    world = World()
    asked = world.ask(CHAT)
    world.desk.step()
    world.desk.looked_at(asked)
    world.node_joins(an_l4())
    world.desk.step()
    assert world.answer(CHAT).plan is not None


def test_what_is_being_deleted_asks_nothing():
    world = World()
    asked = world.ask(CHAT)
    world.desk.looked_at(replace(asked, terminating=True))
    world.node_joins(an_l4())
    world.desk.step()
    assert world.answer(CHAT) is None


@pytest.mark.parametrize(
    ("nodes", "spec", "reason"),
    [
        ([], {}, Reason.NO_POOLS),
        ([an_l4()], {"hardware": {"pools": ["misspelt"]}}, Reason.NO_POOLS),
        ([an_l4()], {"model": {"variants": ["31B"], "precisions": ["bf16"]}}, Reason.NOTHING_FITS),
        ([an_l4()], {"hardware": {"accelerators": ["nvidia-l44"]}}, Reason.UNKNOWN_ACCELERATOR),
    ],
)
def test_what_can_never_be_is_no_waiting(nodes, spec, reason):
    world = World(*nodes)
    obj = a_gd("chat", **spec)
    world.ask(obj)
    world.desk.step()
    answer = world.answer(obj)
    assert (answer.plan, answer.waiting, answer.reason) == (None, False, reason)
    assert answer.message


def test_an_argument_that_nobody_knows_makes_the_plan_unverified():
    world = World(an_l4())
    obj = a_gd("chat", serving={"engine": {"extraArgs": ["--never-heard-of=1"]}})
    world.ask(obj)
    world.desk.step()
    assert any("never-heard-of" in word for word in world.answer(obj).plan.unverified)


def test_a_plan_is_rebuilt_from_a_status_for_the_same_inputs_only():
    world = World(an_l4())
    world.ask(CHAT)
    world.desk.step()
    plan = world.answer(CHAT).plan
    status = {"plan": to_status(plan)}
    rebuilt = world.desk.rebuilt(key(CHAT), status, world.inputs(CHAT))
    assert (rebuilt.pool, rebuilt.demand, rebuilt.settings) == (plan.pool, plan.demand, plan.settings)
    edited = a_gd("chat", generation=2, serving={"contextLength": 8192})
    assert world.desk.rebuilt(key(CHAT), status, world.inputs(edited)) is None
    assert world.desk.rebuilt(key(CHAT), {}, world.inputs(CHAT)) is None


async def settled(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def test_questions_and_changes_of_the_fleet_are_answered_while_it_runs():
    world = World()
    running = asyncio.create_task(world.desk.run())
    world.ask(CHAT)
    await settled(lambda: world.answer(CHAT) is not None)
    assert world.answer(CHAT).plan is None
    world.node_joins(an_l4())
    await settled(lambda: world.answer(CHAT).plan is not None)
    world.desk.forget(key(CHAT))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.woken == [key(CHAT), key(CHAT)]


@pytest.mark.parametrize("how", ["gone", "asks no more"])
async def test_a_claim_that_goes_wakes_who_waits(how):
    world = World(an_l4())
    running = asyncio.create_task(world.desk.run())
    asked = world.ask(CHAT)
    world.ask(OTHER)
    await settled(lambda: world.answer(OTHER) is not None)
    assert world.answer(OTHER).plan is None
    if how == "gone":
        world.desk.forget(key(CHAT))
    else:
        world.desk.looked_at(replace(asked, terminating=True))
    await settled(lambda: world.answer(OTHER).plan is not None)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_what_a_quota_forbids_waits_with_its_own_reason_and_is_placed_when_it_is_raised():  # FR-18
    allowed = [0]

    def rules():
        hard = {"requests.nvidia.com/gpu": str(allowed[0])}
        return NamespaceRules(
            (quota_record({"metadata": {"name": "q", "namespace": "team"}, "spec": {"hard": hard}}),)
        )

    world = World(an_l4(), beside=Beside(rules=rules))
    world.ask(a_gd())
    world.desk.step()
    answer = world.answer(a_gd())
    assert (answer.plan, answer.waiting, answer.reason) == (None, True, Reason.QUOTA_EXCEEDED)
    assert "ResourceQuota q allows 0 of requests.nvidia.com/gpu" in answer.message
    allowed[0] = 1
    world.desk.step()
    assert world.answer(a_gd()).plan is not None
