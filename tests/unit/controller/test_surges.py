"""The claim of a surge: from the decision, over its apply, until no older replica is left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.render import with_rollout
from gemma_operator.backends.kubernetes.rollout import FIRST, Rollout, Way, Why
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.placement import Placed
from gemma_operator.planner.spare import Spare
from snapshots import manifests_for
from unit.controller.builders import World, a_gd, an_l4
from unit.planner.builders import a_pod

CHAT, OTHER, LATE = a_gd("chat"), a_gd("other"), a_gd("late")
CHAT_KEY = Key("team", "chat")
SURGE = with_rollout(manifests_for(), Rollout(Way.SURGE, Why.ROOM))
DRAIN = with_rollout(manifests_for(), FIRST)


@pytest.fixture
def world():
    """`chat` runs on one of two L4."""
    made = World(an_l4("n1"), an_l4("n2"))
    made.ask(CHAT)
    made.desk.step()
    made.writes(CHAT)
    made.pods.append(a_pod("n1", owner=("team", "chat")))
    return made


def room(world, obj=CHAT):
    return world.desk.surges.room(world.snapshot(obj, plan=world.answer(obj).plan))


def test_the_other_gpu_is_a_spare_replica(world):
    assert room(world) == Spare(1, drained_frees_room=True)


def test_what_somebody_else_was_promised_is_not_spare(world):
    world.ask(OTHER)
    world.desk.step()
    assert room(world).replicas == 0


def test_while_a_surge_is_applied_nobody_else_gets_its_room(world):
    with world.desk.surges.beginning(CHAT_KEY, SURGE):
        world.ask(LATE)
        world.desk.step()
        assert world.answer(LATE).waiting
        world.ask(OTHER)
        assert [claim.replicas for claim in world.desk.claims()] == [2]
    assert [claim.replicas for claim in world.desk.claims()] == [1]


def test_two_rollouts_that_begin_together_are_not_given_the_same_gpu(world):
    third = World(an_l4("n1"), an_l4("n2"), an_l4("n3"))
    for obj in (CHAT, OTHER):
        third.ask(obj)
        third.desk.step()
        third.writes(obj)
    third.pods += [a_pod("n1", owner=("team", "chat")), a_pod("n2", owner=("team", "other"), uid="v")]
    assert room(third, OTHER).replicas == 1
    with third.desk.surges.beginning(CHAT_KEY, SURGE):
        assert room(third, OTHER).replicas == 0


def test_a_drain_claims_nothing_more(world):
    with world.desk.surges.beginning(CHAT_KEY, DRAIN):
        assert [claim.replicas for claim in world.desk.claims()] == [1]


def test_an_apply_that_fails_gives_the_claim_back(world):
    with pytest.raises(RuntimeError), world.desk.surges.beginning(CHAT_KEY, SURGE):
        raise RuntimeError
    assert world.desk.surges.more(CHAT_KEY) == 0


def test_without_a_plan_there_is_no_room(world):
    nowhere = replace(world.snapshot(OTHER), placement=None)
    assert world.desk.surges.room(nowhere) == Spare(0, drained_frees_room=True)


def test_what_is_placed_may_claim_one_more_than_it_wants(world):
    """As `placed` reads it from the Deployment, once the surge stands there."""
    plan = world.answer(CHAT).plan
    world.placed[:] = [Placed(CHAT_KEY, plan, 2, ())]
    world.ask(LATE)
    world.desk.step()
    assert world.answer(LATE).waiting


def test_the_annotation_is_what_tells_a_surge_apart():
    def annotation(manifests):
        return next(
            m["metadata"]["annotations"][names.ROLLOUT] for m in manifests if m["kind"] == "Deployment"
        )

    assert (annotation(SURGE), annotation(DRAIN)) == ("Surge/Room", "Replace/First")
