"""A plan that is left teaches the next one: what the desk makes of a capacity wait that is over, and of a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.controller import pool_status
from gemma_operator.controller.placement import Placed
from gemma_operator.planner.correction import Refusal
from gemma_operator.planner.placement import PlacedClaim
from gemma_operator.planner.plan import from_annotation, to_annotation, to_status
from unit.controller.builders import World, a_gd, an_accelerator_pool, an_l4

WAITS = a_gd(
    "chat",
    model={"variants": ["12B", "E4B"], "precisions": ["bf16"]},
    placement={"capacityTimeoutSeconds": 60},
)
OTHER = a_gd("other", model={"variants": ["12B"], "precisions": ["bf16"]})


def a_world(*nodes, may_grow=1):
    """A pool of H200 that may grow and that nobody has seen a node of, beside these nodes."""
    world = World(*nodes)
    world.declared = pool_status.declared([an_accelerator_pool(maxNodes=may_grow, acceleratorsPerNode=1)])
    return world


def planned(world, obj, **changes):
    """Asks and answers."""
    world.ask(obj, **changes)
    world.desk.step()
    return world.answer(obj)


def test_the_next_candidate_is_placed_and_says_what_was_left():
    world = a_world(an_l4())
    first = planned(world, WAITS).plan
    assert (first.variant, first.pool.name, first.left) == ("12B", "h200", ())
    world.writes(WAITS)
    answer = planned(world, WAITS, plan=first, wait_over=True)
    assert (answer.plan.variant, answer.plan.pool.name) == ("E4B", "l4")
    assert [(each.pool, each.after_seconds) for each in answer.plan.left] == [(first.pool, 60)]
    assert "accelerator-pool/h200 brought no node within 60 s and was left" in answer.plan.reason
    codes = {(other.pool, other.code) for other in answer.alternatives}
    assert ("accelerator-pool/h200", "CapacityTimeout") in codes


def test_the_claim_of_what_was_left_is_free_at_once():
    world = a_world(an_l4())
    first = planned(world, WAITS).plan
    world.writes(WAITS)
    assert planned(world, OTHER).waiting
    planned(world, WAITS, plan=first, wait_over=True)
    assert world.answer(WAITS).plan.pool.name == "l4"
    assert world.answer(OTHER).plan.pool.name == "h200", "in the same step"


def test_while_nothing_else_has_room_the_claim_stays_where_it_waits():
    world = a_world()
    first = planned(world, WAITS).plan
    world.writes(WAITS)
    answer = planned(world, WAITS, plan=first, wait_over=True)
    assert (answer.plan, answer.waiting, answer.reason) == (None, True, Reason.WAITING_FOR_CAPACITY)
    assert [claim.pool.name for claim in world.desk.claims()] == ["h200"]
    assert planned(world, OTHER).waiting, "the node that may come is spoken for"
    world.woken.clear()
    world.node_joins(an_l4())
    world.desk.step()
    assert world.answer(WAITS).plan.pool.name == "l4"
    assert [str(key) for key in world.woken] == ["team/chat", "team/other"], (
        "one moves, the other has its room"
    )


def test_a_restarted_operator_leaves_the_same_pool_by_the_plan_alone():
    world = a_world(an_l4())
    first = planned(world, WAITS).plan
    left = planned(world, WAITS, plan=first, wait_over=True).plan
    written = from_annotation(to_annotation(left))
    restarted = a_world(an_l4())
    again = planned(restarted, WAITS, plan=written, plan_possible=False).plan
    assert (again.pool.name, again.left) == ("l4", left.left)


def test_who_asks_for_a_plan_has_every_pool_tried_again():
    world = a_world(an_l4())
    first = planned(world, WAITS).plan
    left = planned(world, WAITS, plan=first, wait_over=True).plan
    asked = {"gemma-operator.io/replan-requested-at": "now"}
    assert planned(world, WAITS, plan=left, annotations=asked).plan.pool.name == "h200"


def test_other_inputs_have_every_pool_tried_again():
    world = a_world(an_l4())
    first = planned(world, WAITS).plan
    left = planned(world, WAITS, plan=first, wait_over=True).plan
    edited = a_gd("chat", generation=2, model=WAITS["spec"]["model"], serving={"contextLength": 8192})
    again = planned(world, edited, plan=left).plan
    assert (again.pool.name, again.left) == ("h200", ())


E4B = a_gd("chat", model={"variants": ["E4B", "E2B"], "precisions": ["bf16"]})


def refused(plan, *, short_mib):
    """The engine found so much less than was promised."""
    return Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=1, kv_cache_mib=plan.memory.kv_cache - short_mib)


def corrected(world, *, short_mib):
    first = planned(world, E4B).plan
    return first, planned(world, E4B, plan=first, refusal=refused(first, short_mib=short_mib))


def test_a_refusal_is_planned_again_with_the_measured_figure():
    first, answer = corrected(World(an_l4()), short_mib=3000)
    again = answer.plan
    assert (again.variant, again.settings) != (first.variant, first.settings)
    assert again.correction_mib == 3000
    assert again.memory.overhead >= 3000
    assert "3000 MiB a GPU more than before" in again.reason
    assert to_status(again)["correctionMiB"] == 3000


def test_a_correction_that_changes_nothing_does_not_start_the_same_engine_again():
    first, answer = corrected(World(an_l4()), short_mib=1)
    again = answer.plan
    assert (again.checkpoint_name, again.settings) != (first.checkpoint_name, first.settings)


def test_a_refusal_that_no_candidate_survives_says_why():
    alone = a_gd("chat", model={"variants": ["E4B"], "precisions": ["bf16"]})
    world = World(an_l4())
    first = planned(world, alone).plan
    answer = planned(world, alone, plan=first, refusal=refused(first, short_mib=9000))
    assert (answer.plan, answer.waiting, answer.reason) == (None, False, Reason.NOTHING_FITS)
    assert "GiB" in answer.message


@pytest.mark.parametrize("lost", ["deployment", "pool"])
def test_a_correction_is_part_of_every_later_plan_of_the_same_inputs(lost):
    world = World(an_l4())
    _, answer = corrected(world, short_mib=3000)
    if lost == "deployment":
        again = world.desk.rebuilt(
            world.snapshot(E4B).key, {"plan": to_status(answer.plan)}, world.inputs(E4B)
        )
        assert again is not None
    else:
        again = planned(world, E4B, plan=answer.plan, plan_possible=False).plan
    assert (again.correction_mib, again.memory) == (3000, answer.plan.memory)


def test_two_plans_of_one_second_and_one_pool_are_told_apart_by_their_correction():
    world = World(an_l4())
    world.desk._now_iso = lambda: "2026-11-25T09:00:00Z"
    first, answer = corrected(world, short_mib=3000)
    old = replace(world.snapshot(E4B), plan=first, refusal=refused(first, short_mib=3000))
    world.placed = [Placed(old.key, first, 1, ())]
    world.desk.looked_at(old)
    (claim,) = world.desk.claims()
    assert isinstance(claim, PlacedClaim)
    assert claim.demand == answer.plan.demand
