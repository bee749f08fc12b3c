from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Price
from gemma_operator.planner.choice import KEYS, Outcome, choose, rank
from gemma_operator.planner.room import Room
from gemma_operator.planner.worth import headroom_mib, node_price_share
from unit.planner.builders import a_fit, a_request, a_shape, feasible

PLENTY = Room(100, 100)
NONE = Room(0, 0)
L4, A100, H100 = a_shape("l4"), a_shape("a100"), a_shape("h100")


def chosen(*fits, rooms=None, replicas=1, **request):
    """`rooms` by name of pool; a pool that is not named has plenty."""
    named = rooms or {}
    return choose(
        rank(feasible(*fits), request=a_request(**request), catalog=packaged()),
        replicas=replicas,
        room=lambda fit: named.get(fit.candidate.shape.id.name, PLENTY),
    )


def order(choice):
    return [(each.fit, each.lost_by) for each in choice.ranked()]


@pytest.mark.parametrize(
    ("better", "worse", "key"),
    [
        (a_fit(L4, variant="31B"), a_fit(L4, variant="E4B"), "variant"),
        (a_fit(L4, precision="bf16"), a_fit(L4, precision="fp8"), "precision"),
        (a_fit(L4, precision="fp8"), a_fit(L4, precision="bf16", tight=True), "tight"),
        (a_fit(L4), a_fit(L4, tp=2), "price"),
        (a_fit(L4), a_fit(H100), "price"),
        (a_fit(a_shape(pool="od")), a_fit(a_shape(pool="sp", spot=True)), "spot"),
        (a_fit(a_shape(pool="b"), spare_mib=2000), a_fit(a_shape(pool="a"), spare_mib=1000), "headroom"),
        (a_fit(a_shape(pool="a")), a_fit(a_shape(pool="b")), "pool"),
        (a_fit(a_shape(shape="1")), a_fit(a_shape(shape="2")), "pool"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_key_after_the_other_decides(better, worse, key):
    choice = chosen(worse, better)
    assert choice.fit is better
    assert order(choice) == [(better, ""), (worse, key)]


def test_the_users_order_is_the_order():
    fits = (a_fit(L4, variant="31B"), a_fit(L4, variant="E4B", precision="fp8"), a_fit(L4, variant="E4B"))
    choice = chosen(*fits, variants=("E4B", "31B"), precisions=("fp8", "bf16"))
    assert choice.fit is fits[1]


def test_more_context_comes_first_only_where_it_was_left_open():
    short, long = a_fit(L4, context=8192), a_fit(H100, context=32768)
    assert chosen(short, long, context_length=None).fit is long
    assert chosen(short, long, context_length=8192).fit is short


def test_a_preferred_variant_after_a_scale_up_comes_before_a_lesser_one_now():
    big, small = a_fit(H100, variant="31B"), a_fit(L4, variant="E4B")
    choice = chosen(big, small, rooms={"h100": Room(0, 2)}, replicas=2)
    assert (choice.fit, choice.outcome) == (big, Outcome.SCALE_UP)
    assert order(choice)[1][1] == "variant"


def test_a_preferred_variant_without_any_room_is_passed_over():
    big, small = a_fit(H100, variant="31B"), a_fit(L4, variant="E4B")
    choice = chosen(big, small, rooms={"h100": NONE})
    assert (choice.fit, choice.outcome) == (small, Outcome.ROOM_NOW)
    assert order(choice) == [(big, "room"), (small, "")]


def test_room_now_for_all_comes_before_after_a_scale_up_before_partly():
    fits = [a_fit(a_shape(pool=name)) for name in ("partly", "later", "now")]
    rooms = {"partly": Room(2, 2), "later": Room(1, 3), "now": Room(3, 3)}
    assert [fit for fit, _ in order(chosen(*fits, rooms=rooms, replicas=3))] == [fits[2], fits[1], fits[0]]
    assert chosen(*fits[:1], rooms=rooms, replicas=3).outcome is Outcome.PARTLY
    assert chosen(*fits[:2], rooms=rooms, replicas=3).outcome is Outcome.SCALE_UP


def test_one_replica_after_a_scale_up_is_partly():
    assert chosen(a_fit(L4), rooms={"l4": Room(0, 1)}, replicas=3).outcome is Outcome.PARTLY


def test_a_cheaper_pool_that_is_full_comes_after_a_dearer_one_with_room():
    choice = chosen(a_fit(L4), a_fit(H100), rooms={"l4": NONE})
    assert choice.fit.candidate.shape is H100
    assert order(choice)[1][1] == "room"


def test_without_any_room_the_best_is_waited_for():
    big, small = a_fit(H100, variant="31B"), a_fit(L4, variant="E4B")
    choice = chosen(small, big, rooms={"h100": NONE, "l4": NONE})
    assert (choice.fit, choice.outcome, choice.placed) == (big, Outcome.WAITING, False)
    assert order(choice) == [(big, "room"), (small, "room")]


def test_where_nothing_fits_nothing_is_waited_for():
    choice = chosen()
    assert (choice.fit, choice.outcome, order(choice)) == (None, Outcome.NOTHING_FITS, [])


def test_no_replicas_need_no_room():
    assert chosen(a_fit(L4), rooms={"l4": NONE}, replicas=0).outcome is Outcome.ROOM_NOW


def test_a_backend_is_not_left_for_want_of_room():
    here, there = a_fit(L4), a_fit(H100)
    there = replace(there, candidate=replace(there.candidate, backend="Vertex"))
    choice = chosen(there, here, rooms={"l4": NONE}, backends=("Kubernetes", "Vertex"))
    assert (choice.fit, choice.outcome) == (here, Outcome.WAITING)
    assert chosen(there, backends=("Kubernetes", "Vertex")).fit is there


class TestPrice:
    CHEAP_BIG = a_fit(a_shape("h100", gpus=8, price="8.00"))
    DEAR_SMALL = a_fit(a_shape("l4", price="1.50"))

    def test_the_part_of_the_node_is_paid(self):
        assert node_price_share(self.CHEAP_BIG) == Price(Decimal("1.00"), "USD")
        assert node_price_share(a_fit(L4)) is None

    def test_the_cheaper_replica_comes_first(self):
        assert chosen(self.DEAR_SMALL, self.CHEAP_BIG).fit is self.CHEAP_BIG

    @pytest.mark.parametrize("other", [a_shape("a100"), a_shape("a100", price=Price(Decimal(1), "EUR"))])
    def test_one_candidate_without_a_price_or_with_another_currency_leaves_it_to_the_memory(self, other):
        assert chosen(self.CHEAP_BIG, self.DEAR_SMALL, a_fit(other)).fit is self.DEAR_SMALL

    def test_a_candidate_that_has_less_room_does_not_spoil_the_comparison(self):
        unpriced = a_fit(a_shape("a100"))
        choice = chosen(self.CHEAP_BIG, self.DEAR_SMALL, unpriced, rooms={"a100": NONE})
        assert choice.fit is self.CHEAP_BIG


def test_spot_is_no_drawback_where_it_is_required():
    spot = a_fit(a_shape(pool="a", spot=True))
    other = a_fit(a_shape(pool="b"))
    assert chosen(spot, other, spot="Required").fit is spot
    assert chosen(spot, other, spot="Allowed").fit is other


def test_the_catalogs_order_of_checkpoints_decides_at_the_end():
    of_31b = [checkpoint for checkpoint in packaged().checkpoints if checkpoint.variant == "31B"]
    fit = a_fit(L4, variant="31B")
    first, second = (
        replace(fit, candidate=replace(fit.candidate, checkpoint=checkpoint)) for checkpoint in of_31b[:2]
    )
    choice = chosen(second, first)
    assert choice.fit is first
    assert order(choice)[1][1] == "checkpoint"


def test_the_kv_cache_that_nobody_asked_for_is_headroom():
    fit = a_fit(L4, context=8192, spare_mib=500)
    assert headroom_mib(fit, concurrency=1) == 500
    assert headroom_mib(replace(fit, kv_tokens=16384), concurrency=1) == 1000
    assert headroom_mib(replace(fit, kv_tokens=16384), concurrency=2) == 500


def test_only_candidates_that_are_equal_so_far_are_asked_for_their_room():
    asked = []

    def room(fit):
        asked.append(fit.candidate.variant.name)
        return PLENTY

    fits = [a_fit(L4, variant=name) for name in ("E2B", "31B", "E4B")]
    ranking = rank(feasible(*fits), request=a_request(), catalog=packaged())
    choose(ranking, replicas=1, room=room)
    assert asked == ["31B"]


ANY_FIT = st.builds(
    lambda card, pool, spot, price, variant, precision, tp, context, tight, spare: a_fit(
        a_shape(card, pool=pool, spot=spot, price=price),
        variant=variant,
        precision=precision,
        tp=tp,
        context=context,
        tight=tight,
        spare_mib=spare,
    ),
    st.sampled_from(["l4", "h100"]),
    st.sampled_from("abcd"),
    st.booleans(),
    st.sampled_from([None, "1.00", "2.00"]),
    st.sampled_from(["31B", "E4B"]),
    st.sampled_from(["bf16", "fp8"]),
    st.sampled_from([1, 2]),
    st.sampled_from([8192, 16384]),
    st.booleans(),
    st.sampled_from([0, 500]),
)


def identity(fit):
    candidate = fit.candidate
    return (candidate.shape.id, candidate.checkpoint.name, candidate.tensor_parallel)


@given(st.lists(ANY_FIT, max_size=12), st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_same_input_in_any_order_gives_the_same_choice(fits, random, replicas):
    unique = list(
        {
            (f.candidate.shape.id, f.candidate.checkpoint.name, f.candidate.tensor_parallel): f for f in fits
        }.values()
    )
    rooms = {name: Room(random.randrange(3), 3) for name in "abc"} | {"d": NONE}
    one = chosen(*unique, rooms=rooms, replicas=replicas, context_length=None)
    other = chosen(*random.sample(unique, len(unique)), rooms=rooms, replicas=replicas, context_length=None)
    assert one == other
    assert order(one) == order(other)
    lost_by = [key for _, key in order(one)]
    assert set(lost_by) <= {"", *KEYS}
    assert (len(lost_by), lost_by.count("")) == (len(unique), one.placed)
