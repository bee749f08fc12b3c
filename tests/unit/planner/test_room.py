import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.hardware.records import NewNode, Pool, Taint, Toleration
from gemma_operator.planner.room import Claim, Ledger, Room
from unit.planner.builders import GIB, a_demand, a_node, a_pod, a_pool, a_shape

SHAPE = a_shape()
ID = SHAPE.id


def room(pool, demand=None, *, pods=(), claims=(), **asked):
    ledger = Ledger([pool], pods)
    ledger.claim(claims)
    return ledger.room(pool.shape.id, demand or a_demand(), **asked)


def a_claim(demand=None, replicas=1, *, name="other", pool=ID, node_selector=()):
    return Claim(("team", name), pool, demand or a_demand(), replicas, node_selector)


def test_a_replica_of_four_has_no_room_on_eight_nodes_with_one_free_gpu_each():
    pool = a_pool(SHAPE, *(a_node(f"n{index}", gpus=1) for index in range(8)))
    assert room(pool, a_demand(4)) == Room(0, 0)
    assert room(pool, a_demand(1)) == Room(8, 8)


def test_what_is_left_over_on_a_node_is_not_added_up_with_anothers():
    pool = a_pool(SHAPE, a_node("a", gpus=3), a_node("b", gpus=3))
    assert room(pool, a_demand(2)).now == 2


@pytest.mark.parametrize(
    ("demand", "fits"),
    [
        (a_demand(1), 4),
        (a_demand(1, cpu=16000), 2),
        (a_demand(1, memory=100 * GIB), 2),
        (a_demand(1, disk=300 * GIB), 1),
        (a_demand(1, cpu=32001), 0),
    ],
)
def test_the_scarcest_of_a_node_decides(demand, fits):
    assert room(a_pool(SHAPE, a_node("n", gpus=4)), demand).now == fits


def test_pods_of_a_node_are_scarce_too():
    assert room(a_pool(SHAPE, a_node("n", gpus=8, pods=3)), pods=[a_pod("n")]).now == 2


def test_forty_gib_of_disk_hold_two_of_four_replicas_and_are_the_limit():
    pool = a_pool(SHAPE, a_node("n", gpus=4, ephemeral_storage=40 * GIB))
    demand = a_demand(1, disk=19 * GIB)
    assert room(pool, demand).now == 2
    assert Ledger([pool], []).limit(ID, demand) == "ephemeral-storage"


def test_why_no_node_takes_pods_is_known_only_where_none_does():
    held = [a_node("a", held_back="is cordoned"), a_node("b", held_back="is not Ready")]
    assert Ledger([a_pool(SHAPE, *held)], []).held(ID) == "is cordoned or is not Ready"
    assert Ledger([a_pool(SHAPE, *held, a_node("c"))], []).held(ID) == ""
    assert Ledger([a_pool(SHAPE)], []).held(ID) == ""
    own = [a_node("a", held_back="is cordoned", labels={"team": "a"}), a_node("b")]
    assert Ledger([a_pool(SHAPE, *own)], []).held(ID, node_selector=(("team", "a"),)) == "is cordoned"
    assert Ledger([], []).held(ID) == ""


def test_where_accelerators_are_scarce_the_host_is_no_limit():
    ledger = Ledger([a_pool(SHAPE, a_node("n", gpus=1))], [])
    assert ledger.limit(ID, a_demand(1, cpu=30000)) == ""


def test_what_bound_pods_asked_for_is_not_free():
    pool = a_pool(SHAPE, a_node("n", gpus=4))
    assert room(pool, pods=[a_pod("n", gpus=3, cpu=1000), a_pod("elsewhere", gpus=8)]).now == 1


def test_a_node_that_has_given_out_more_than_it_has_takes_nothing_from_others():
    pool = a_pool(SHAPE, a_node("a", gpus=1), a_node("b", gpus=1))
    assert room(pool, pods=[a_pod("a", gpus=5)]).now == 1


def test_a_pod_without_gpus_fills_the_host():
    pool = a_pool(SHAPE, a_node("n", gpus=4))
    assert room(pool, a_demand(1, cpu=8000), pods=[a_pod("n", gpus=0, cpu=20000)]).now == 1


def test_two_pools_of_one_node_share_its_host():
    mig = a_shape(resource="nvidia.com/mig-3g.40gb")
    node = a_node("n", gpus=2)
    node = type(node)(node.name, {}, (), {**node.allocatable, mig.id.resource_name: 2}, True)
    ledger = Ledger([a_pool(SHAPE, node), a_pool(mig, node)], [])
    demand = a_demand(1, cpu=16000, resource=mig.id.resource_name)
    assert ledger.room(mig.id, demand).now == 2
    ledger.claim([a_claim(a_demand(1, cpu=32000))])
    assert ledger.room(mig.id, demand).now == 0


def test_a_node_that_takes_no_pods_has_no_room():
    pool = a_pool(SHAPE, a_node("a", gpus=4, schedulable=False), a_node("b", gpus=1))
    assert room(pool).now == 1


def test_a_taint_that_is_not_tolerated_leaves_no_room():
    pool = a_pool(SHAPE, a_node("a", gpus=4, taints=(Taint("team", "x", "NoSchedule"),)))
    assert room(pool, tolerated=()).now == 0
    assert room(pool, tolerated=(Toleration("team", "Exists", "", ""),)).now == 4


def test_a_node_selector_leaves_the_nodes_that_match():
    pool = a_pool(SHAPE, a_node("a", labels={"zone": "a"}), a_node("b", labels={"zone": "b"}), growth=2)
    assert room(pool, node_selector=(("zone", "a"),)) == Room(1, 1)


def test_growth_is_room_after_the_scale_up():
    shape = a_shape(gpus=8)
    pool = a_pool(shape, a_node("n", gpus=8), growth=2)
    assert room(pool, a_demand(4)) == Room(2, 6)


def test_what_a_new_node_declares_limits_it_and_what_it_does_not_declare_is_no_limit():
    pool = a_pool(a_shape(gpus=8), growth=1, cpu=16000)
    assert room(pool, a_demand(1, cpu=8000, memory=10**15)) == Room(0, 2)


def test_an_unknown_pool_has_no_room():
    assert Ledger([], []).room(ID, a_demand()) == Room(0, 0)


class TestClaims:
    def test_a_claim_takes_room(self):
        pool = a_pool(SHAPE, a_node("a"), a_node("b"))
        assert room(pool, claims=[a_claim()]) == Room(1, 1)

    def test_a_claim_goes_where_most_is_free(self):
        pool = a_pool(SHAPE, a_node("a", gpus=2), a_node("b", gpus=5))
        assert room(pool, a_demand(5), claims=[a_claim()]).now == 0
        assert room(pool, a_demand(2), claims=[a_claim()]).now == 3

    def test_the_largest_claim_is_put_down_first(self):
        pool = a_pool(SHAPE, a_node("a", gpus=4), a_node("b", gpus=4))
        ledger = Ledger([pool], [])
        ledger.claim([a_claim(a_demand(1), 4, name="a"), a_claim(a_demand(4), name="z")])
        assert ledger.room(ID, a_demand(1)).now == 0

    def test_a_claim_counts_only_where_its_replica_would_fit(self):
        small = a_node("a", gpus=8, cpu=1000)
        pool = a_pool(SHAPE, small, a_node("b", gpus=1))
        assert room(pool, claims=[a_claim(a_demand(1, cpu=2000))]).now == 8

    def test_what_fits_nowhere_holds_nobody_up(self):
        pool = a_pool(SHAPE, a_node("a", gpus=2))
        assert room(pool, claims=[a_claim(a_demand(4), 3)]).now == 2

    def test_a_claim_keeps_to_its_node_selector(self):
        pool = a_pool(SHAPE, a_node("a", labels={"zone": "a"}), a_node("b", labels={"zone": "b"}))
        claims = [a_claim(replicas=5, node_selector=(("zone", "a"),))]
        assert room(pool, claims=claims).now == 1

    def test_a_claim_on_nodes_to_come_fills_one_after_the_other(self):
        pool = a_pool(a_shape(gpus=8), growth=2)
        assert room(pool, a_demand(4), claims=[a_claim(a_demand(4), 3, pool=pool.shape.id)]) == Room(0, 1)

    def test_a_claim_on_a_pool_that_is_gone_takes_nothing(self):
        assert room(a_pool(SHAPE, a_node("a")), claims=[a_claim(pool=a_shape("h100").id)]).now == 1

    def test_room_is_counted_anew_after_a_claim(self):
        ledger = Ledger([a_pool(SHAPE, a_node("a", gpus=3))], [])
        assert ledger.room(ID, a_demand()).now == 3
        ledger.claim([a_claim()])
        assert ledger.room(ID, a_demand()).now == 2

    @given(
        st.lists(st.integers(0, 8), min_size=1, max_size=6),
        st.lists(st.sampled_from([1, 2, 4, 8]), max_size=12),
        st.randoms(use_true_random=False),
    )
    def test_claims_are_the_same_in_any_order_and_never_take_more_than_there_is(self, nodes, sizes, random):
        pool = a_pool(SHAPE, *(a_node(f"n{index}", gpus=gpus) for index, gpus in enumerate(nodes)))
        claims = [a_claim(a_demand(size), name=f"c{index}") for index, size in enumerate(sizes)]
        shuffled = random.sample(claims, len(claims))
        left = room(pool, claims=claims).now
        assert left == room(pool, claims=shuffled).now
        assert sum(nodes) - sum(sizes) <= left <= sum(nodes)


class TestOwnPods:
    OWNER = ("team", "chat")

    def bound(self, *pods, demand=None):
        other = a_shape("h100")
        ledger = Ledger([a_pool(SHAPE, a_node("a", gpus=4)), a_pool(other, a_node("h", gpus=8))], pods)
        return ledger.bound(self.OWNER, ID, demand or a_demand())

    def test_bound_pods_of_the_plans_size_on_its_pool_are_its_replicas(self):
        assert self.bound(a_pod("a", owner=self.OWNER), a_pod("a", owner=self.OWNER), a_pod("a")) == 2

    @pytest.mark.parametrize(
        "pod",
        [
            a_pod("h", owner=OWNER),
            a_pod("a", owner=OWNER, gpus=2),
            a_pod("a", owner=OWNER, leaving=True),
            a_pod("a", owner=("other", "chat")),
        ],
        ids=["pool", "size", "leaving", "namespace"],
    )
    def test_other_pods_are_not(self, pod):
        assert self.bound(pod) == 0

    def test_a_pod_stays_a_replica_when_its_node_changes_shape(self):
        changed = a_shape(shape="seven-of-eight")
        ledger = Ledger([a_pool(changed, a_node("a", gpus=7))], [a_pod("a", owner=self.OWNER)])
        assert ledger.bound(self.OWNER, ID, a_demand()) == 1

    def test_released_pods_count_as_free_until_they_are_taken_back(self):
        ledger = Ledger([a_pool(SHAPE, a_node("a", gpus=1))], [a_pod("a", owner=self.OWNER)])
        assert ledger.room(ID, a_demand()).now == 0
        ledger.release(self.OWNER)
        assert ledger.room(ID, a_demand()).now == 1
        ledger.retake(self.OWNER)
        assert ledger.room(ID, a_demand()).now == 0


class TestNodesToCome:
    """What limits of a NodePool leave is shared by all its shapes."""

    ONE, FOUR = (a_shape(gpus=gpus, shape=f"x{gpus}", pool="gpu") for gpus in (1, 4))

    def ledger(self, gpus, *, pods=(), **host):
        limits = {"nvidia.com/gpu": gpus}
        return Ledger(
            [
                Pool(
                    shape,
                    (),
                    NewNode({"nvidia.com/gpu": shape.accelerators_per_node, **host}, 1000, limits=limits),
                )
                for shape in (self.ONE, self.FOUR)
            ],
            pods,
        )

    def later(self, ledger):
        return [ledger.room(shape.id, a_demand()).after_scale_up for shape in (self.ONE, self.FOUR)]

    def test_each_shape_alone_may_use_all_that_is_left(self):
        assert self.later(self.ledger(6)) == [6, 4]

    def test_a_node_that_one_claims_is_taken_from_the_others_limit(self):
        ledger = self.ledger(6)
        ledger.claim([a_claim(pool=self.FOUR.id)])
        assert self.later(ledger) == [2, 3]

    def test_a_limit_that_is_used_up_brings_nothing(self):
        ledger = self.ledger(4)
        ledger.claim([a_claim(a_demand(4), pool=self.FOUR.id)])
        assert self.later(ledger) == [0, 0]

    def test_the_host_of_a_node_to_come_limits_it_too(self):
        ledger = self.ledger(1000, memory=14 * GIB)
        assert ledger.room(self.ONE.id, a_demand(memory=16 * GIB)).after_scale_up == 0

    def test_labels_that_such_nodes_will_have_meet_a_users_selector(self):
        growth = NewNode({"nvidia.com/gpu": 1}, 2, labels={"team": "vision"})
        ledger = Ledger([Pool(self.ONE, (), growth)], [])
        for value, later in (("vision", 2), ("audio", 0)):
            assert (
                ledger.room(self.ONE.id, a_demand(), node_selector=[("team", value)]).after_scale_up == later
            )


def test_a_node_in_quarantine_offers_nothing_even_where_its_pods_are_released():
    pod = a_pod("a", owner=("team", "chat"))
    ledger = Ledger([a_pool(SHAPE, a_node("a", gpus=8))], [pod], quarantined={("a", "nvidia.com/gpu")})
    ledger.release(("team", "chat"))
    assert ledger.room(ID, a_demand()).now == 0
