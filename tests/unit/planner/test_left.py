"""A pool that brought no node in time is left for good, unless more room comes there than it had then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import remarks
from gemma_operator.planner.choice import Outcome, choose, rank
from gemma_operator.planner.left import Leaving, noted, room_beside
from gemma_operator.planner.placement import Ask, PlacedClaim, place_all
from gemma_operator.planner.plan import from_annotation, to_annotation
from gemma_operator.planner.room import NO_ROOM, Room
from gemma_operator.planner.values import LeftPool
from plans import a_plan
from unit.planner.builders import a_demand, a_fit, a_node, a_pod, a_pool, a_request, a_shape, feasible

BIG, SMALL = a_shape("h100", pool="big"), a_shape("l4", pool="small")
FIRST, SECOND = a_fit(BIG, variant="12B"), a_fit(SMALL, variant="E4B")
REQUEST = a_request(variants=("12B", "E4B"), precisions=("bf16",))
KEY = ("team", "chat")


def an_ask(*, leaving=None, left=(), replicas=1, fits=(FIRST, SECOND), key=KEY):
    kept = None
    if leaving is not None:
        shape = next(fit.candidate.shape for fit in fits if fit.candidate.shape.id == leaving)
        kept = PlacedClaim(key, shape.id, a_demand(), replicas)
    return Ask(
        key=key,
        uid="uid",
        created_at="2026-01-01T00:00:00Z",
        replicas=replicas,
        request=REQUEST,
        feasible=feasible(*fits),
        left=left,
        leaving=Leaving(leaving, 60) if leaving is not None else None,
        kept=kept,
    )


def placed(*asks, big=(), small=(), big_grows=2, pods=(), before=()):
    fleet = [a_pool(BIG, *big, growth=big_grows, cpu=10**6), a_pool(SMALL, *small)]
    return place_all(asks, pools=fleet, pods=pods, placed=before, catalog=packaged())


def pool_of(choice):
    return choice.fit.candidate.shape.id.name if choice.placed else None


def test_a_pool_that_may_grow_is_taken_until_it_was_waited_for_in_vain():
    small = [a_node("n1")]
    before = placed(an_ask(), small=small)[KEY]
    assert (pool_of(before), before.outcome, before.left) == ("big", Outcome.SCALE_UP, ())
    after = placed(an_ask(leaving=BIG.id), small=small)[KEY]
    assert (pool_of(after), after.outcome) == ("small", Outcome.ROOM_NOW)
    assert after.left == (LeftPool(BIG.id, 60, 0),)


def test_what_was_left_is_not_tried_again_by_a_later_question():
    left = (LeftPool(BIG.id, 60, 0),)
    assert pool_of(placed(an_ask(left=left), small=[a_node("n1")])[KEY]) == "small"
    assert placed(an_ask(left=left))[KEY].outcome is Outcome.WAITING


def test_capacity_that_came_there_makes_it_a_candidate_again():
    choice = placed(an_ask(left=(LeftPool(BIG.id, 60, 0),)), big=[a_node("n2")], small=[a_node("n1")])[KEY]
    assert (pool_of(choice), choice.outcome) == ("big", Outcome.ROOM_NOW)


def test_room_that_the_scheduler_did_not_share_sends_nobody_to_and_fro():
    """Both pools seem to have room and bring no node: each is left once, and then it stays where it is."""
    nodes = {"big": [a_node("n2")], "small": [a_node("n1")]}
    away = placed(an_ask(leaving=BIG.id), **nodes)[KEY]
    assert (pool_of(away), away.left) == ("small", (LeftPool(BIG.id, 60, 1),))
    back = placed(an_ask(leaving=SMALL.id, left=away.left), **nodes)[KEY]
    assert pool_of(back) is None
    assert back.left == (LeftPool(BIG.id, 60, 1), LeftPool(SMALL.id, 60, 1))


def test_who_finds_nothing_else_keeps_its_claim_where_it_waits():
    waits = an_ask(leaving=BIG.id)
    young = Ask(("team", "young"), "uid-2", "2026-02-01T00:00:00Z", 1, REQUEST, feasible(FIRST))
    choices = placed(waits, young, big_grows=1)
    assert [pool_of(choices[key]) for key in (KEY, young.key)] == [None, None]
    choices = placed(waits, young, big_grows=2)
    assert [pool_of(choices[key]) for key in (KEY, young.key)] == [None, "big"]


def test_who_finds_something_else_gives_its_claim_up():
    waits = an_ask(leaving=BIG.id)
    young = Ask(("team", "young"), "uid-2", "2026-02-01T00:00:00Z", 1, REQUEST, feasible(FIRST))
    choices = placed(waits, young, small=[a_node("n1")], big_grows=1)
    assert [pool_of(choices[key]) for key in (KEY, young.key)] == ["small", "big"]


def test_others_that_ask_the_same_still_wait_for_the_pool():
    other = an_ask(key=("team", "other"))
    choices = placed(an_ask(leaving=BIG.id), other, small=[a_node("n1")])
    assert [pool_of(choices[key]) for key in (KEY, other.key)] == ["small", "big"]


def test_its_own_pods_elsewhere_are_room_for_it():
    pods = [a_pod("n1", owner=KEY)]
    assert pool_of(placed(an_ask(leaving=BIG.id), small=[a_node("n1")], pods=pods)[KEY]) == "small"


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (Room(now=0, after_scale_up=5), NO_ROOM),
        (Room(now=2, after_scale_up=5), NO_ROOM),
        (Room(now=3, after_scale_up=5), Room(now=3, after_scale_up=3)),
    ],
)
def test_nodes_to_come_do_not_count_where_they_did_not_come(found, counts):
    left = (LeftPool(BIG.id, 60, 2),)
    assert room_beside(left, BIG.id, found) == counts
    assert room_beside(left, SMALL.id, found) == found


def test_a_pool_that_is_left_again_is_noted_once_with_the_most_room_it_had():
    before = (LeftPool(BIG.id, 60, 3), LeftPool(SMALL.id, 60, 1))
    assert noted(before, Leaving(BIG.id, 90), room_now=2) == (
        LeftPool(SMALL.id, 60, 1),
        LeftPool(BIG.id, 90, 3),
    )


def test_another_backend_is_for_who_has_waited():
    elsewhere = replace(SECOND, candidate=replace(SECOND.candidate, backend="Vertex"))
    request = a_request(variants=("12B", "E4B"), precisions=("bf16",), backends=("Kubernetes", "Vertex"))
    ranking = rank(feasible(FIRST, elsewhere), request=request, catalog=packaged())

    def room(fit):
        return Room(1, 1) if fit is elsewhere else NO_ROOM

    assert choose(ranking, replicas=1, room=room).outcome is Outcome.WAITING
    assert choose(ranking, replicas=1, room=room, waited=True).fit is elsewhere


def test_pools_that_were_left_stand_in_the_annotation_and_in_words():
    plan = a_plan(left=(LeftPool(SMALL.id, 60, 0), LeftPool(BIG.id, 90, 2)))
    assert from_annotation(to_annotation(plan)) == plan
    assert '"left"' not in to_annotation(a_plan())
    assert remarks.of(plan) == (
        "gke-nodepool/big brought no node within 90 s and was left; "
        "gke-nodepool/small brought no node within 60 s and was left"
    )
