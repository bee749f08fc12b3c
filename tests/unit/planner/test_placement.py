import random

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.namespaces import NamespaceRules, quota_record
from gemma_operator.planner.choice import Outcome
from gemma_operator.planner.placement import Ask, PlacedClaim, place_all
from unit.planner.builders import GPU, a_demand, a_fit, a_node, a_pod, a_pool, a_request, a_shape, feasible

L4, H100 = a_shape("l4"), a_shape("h100", gpus=8)
L4_FITS, H100_FITS = a_fit(L4), a_fit(H100)
FLEET = (
    a_pool(L4, *(a_node(f"l4-{index:02}") for index in range(16))),
    a_pool(H100, a_node("h100", gpus=8)),
)


def an_ask(number, *fits, replicas=1, name=None, **request):
    return Ask(
        key=("team", name or f"e4b-{number:02}"),
        uid=f"uid-{number:02}",
        created_at="2026-01-01T00:00:00Z",
        replicas=replicas,
        request=a_request(**request),
        feasible=feasible(*(fits or (L4_FITS, H100_FITS))),
    )


def placed(asking, *, fleet=FLEET, pods=(), before=()):
    return place_all(asking, pools=fleet, pods=pods, placed=before, catalog=packaged())


def by_pool(choices):
    pools = [choice.fit.candidate.shape.id.name for choice in choices.values() if choice.placed]
    return {name: pools.count(name) for name in sorted(set(pools))}


def a_claim(ask, choice):
    return PlacedClaim(ask.key, choice.fit.candidate.shape.id, a_demand(), ask.replicas)


@pytest.mark.parametrize("seed", range(20))
def test_twenty_at_once_on_sixteen_l4_and_eight_h100_are_sixteen_and_four(seed):
    asking = [an_ask(number) for number in range(20)]
    random.Random(seed).shuffle(asking)
    choices = placed(asking)
    assert by_pool(choices) == {"h100": 4, "l4": 16}
    assert all(choice.outcome is Outcome.ROOM_NOW for choice in choices.values())
    assert [key for key, choice in sorted(choices.items()) if choice.fit.candidate.shape is H100] == [
        ("team", f"e4b-{number:02}") for number in range(16, 20)
    ]


@pytest.mark.parametrize("killed_after", range(21))
def test_a_kill_in_the_middle_changes_nothing(killed_after):
    asking = [an_ask(number) for number in range(20)]
    whole = placed(asking)
    before, rest = asking[:killed_after], asking[killed_after:]
    claims = [a_claim(ask, whole[ask.key]) for ask in before]
    bound = [a_pod(f"l4-{number:02}", owner=ask.key) for number, ask in enumerate(before[::2]) if number < 16]
    after = placed(rest[::-1], pods=bound, before=claims[::-1])
    assert after == {ask.key: whole[ask.key] for ask in rest}


def test_of_two_for_one_gpu_the_older_gets_it_and_the_other_waits():
    fleet = [a_pool(L4, a_node("n"))]
    young, old = an_ask(0), an_ask(1)
    old = Ask(old.key, old.uid, "2025-12-31T00:00:00Z", 1, old.request, feasible(L4_FITS))
    young = Ask(young.key, young.uid, young.created_at, 1, young.request, feasible(L4_FITS))
    choices = placed([young, old], fleet=fleet)
    assert choices[old.key].outcome is Outcome.ROOM_NOW
    assert choices[young.key].outcome is Outcome.WAITING


def test_of_two_of_one_second_the_uid_decides():
    fleet = [a_pool(L4, a_node("n"))]
    asking = [an_ask(number, L4_FITS) for number in (2, 1)]
    choices = placed(asking, fleet=fleet)
    assert [choices[("team", f"e4b-0{number}")].placed for number in (1, 2)] == [True, False]


def test_a_claim_holds_what_its_pods_have_not_taken_yet():
    claim = PlacedClaim(("team", "other"), H100.id, a_demand(), replicas=6)
    bound = [a_pod("h100", owner=("team", "other")) for _ in range(2)]
    choices = placed([an_ask(0, H100_FITS, replicas=3)], pods=bound, before=[claim])
    assert choices[("team", "e4b-00")].outcome is Outcome.PARTLY
    assert choices[("team", "e4b-00")].best.room.now == 2


def test_pods_beyond_what_is_wanted_free_nothing():
    claim = PlacedClaim(("team", "other"), H100.id, a_demand(), replicas=1)
    bound = [a_pod("h100", owner=("team", "other")) for _ in range(3)]
    assert placed([an_ask(0, H100_FITS)], pods=bound, before=[claim])[("team", "e4b-00")].best.room.now == 5


def test_who_is_planned_anew_may_use_the_gpus_of_its_own_pods():
    fleet = [a_pool(L4, a_node("n"))]
    bound = [a_pod("n", owner=("team", "chat"))]
    assert placed([an_ask(0, L4_FITS, name="chat")], fleet=fleet, pods=bound)[("team", "chat")].placed
    assert not placed([an_ask(0, L4_FITS, name="other")], fleet=fleet, pods=bound)[("team", "other")].placed


def test_who_waits_does_not_speak_for_one_that_has_pods():
    fleet = [a_pool(L4, a_node("n"))]
    bound = [a_pod("n", owner=("team", "chat"))]
    asking = [an_ask(0, L4_FITS, name="a"), an_ask(1, L4_FITS, name="chat"), an_ask(2, L4_FITS, name="z")]
    shared = asking[0].feasible
    asking = [Ask(ask.key, ask.uid, ask.created_at, 1, ask.request, shared) for ask in asking]
    choices = placed(asking, fleet=fleet, pods=bound)
    assert {key[1]: choice.placed for key, choice in choices.items()} == {
        "a": False,
        "chat": True,
        "z": False,
    }


def test_the_pods_of_one_that_moves_stay_where_they_are_until_they_go():
    bound = [a_pod(f"l4-{number:02}", owner=("team", "chat")) for number in range(16)]
    asking = [an_ask(0, H100_FITS, name="chat"), an_ask(1, L4_FITS, name="next")]
    choices = placed(asking, pods=bound)
    assert [choices["team", name].placed for name in ("chat", "next")] == [True, False]


def test_pods_are_found_by_the_name_that_children_have():
    claim = PlacedClaim(("team", "v1.chat"), H100.id, a_demand(), replicas=8)
    bound = [a_pod("h100", owner=("team", "v1-chat")) for _ in range(4)]
    assert not placed([an_ask(0, H100_FITS)], pods=bound, before=[claim])[("team", "e4b-00")].placed
    smaller = PlacedClaim(("team", "v1.chat"), H100.id, a_demand(), replicas=4)
    assert placed([an_ask(0, H100_FITS)], pods=bound, before=[smaller])[("team", "e4b-00")].placed


def test_each_sees_the_growth_that_those_before_it_claimed():
    shape = a_shape("h100", gpus=8)
    fit = a_fit(shape, tp=4)
    fleet = [a_pool(shape, growth=1)]
    choices = placed([an_ask(number, fit) for number in range(3)], fleet=fleet)
    assert [choices[("team", f"e4b-0{n}")].outcome for n in range(3)] == [
        Outcome.SCALE_UP,
        Outcome.SCALE_UP,
        Outcome.WAITING,
    ]


def test_a_node_selector_limits_room_and_claim():
    nodes = [a_node("a", labels={"zone": "a"}), a_node("b", labels={"zone": "b"})]
    fleet = [a_pool(L4, *nodes)]
    asking = [an_ask(number, L4_FITS, node_selector=(("zone", "a"),)) for number in range(2)]
    choices = placed([*asking, an_ask(2, L4_FITS)], fleet=fleet)
    assert [choices[ask.key].placed for ask in asking] == [True, False]
    assert choices[("team", "e4b-02")].placed


def test_nobody_gets_more_than_there_is():
    fleet = [a_pool(H100, *(a_node(f"h{index}", gpus=8) for index in range(3)))]
    sizes = [4, 1, 8, 2, 4, 1, 2, 8, 1]
    asking = [an_ask(number, a_fit(H100, tp=size)) for number, size in enumerate(sizes)]
    choices = placed(asking, fleet=fleet)
    taken = [size for ask, size in zip(asking, sizes, strict=True) if choices[ask.key].placed]
    assert sum(taken) <= 24
    assert fleet[0].nodes[0].allocatable[GPU] == 8


class TestNamespaces:
    def quota(self, gpus, used=0, namespace="team"):
        obj = {
            "metadata": {"name": "q", "namespace": namespace},
            "spec": {"hard": {f"requests.{GPU}": str(gpus)}},
            "status": {"used": {f"requests.{GPU}": str(used)}},
        }
        return NamespaceRules((quota_record(obj),), ())

    def choice(self, *asking, rules, **more):
        return place_all(
            asking,
            pools=FLEET,
            pods=more.pop("pods", ()),
            placed=more.pop("before", ()),
            catalog=packaged(),
            rules=rules,
        )

    def test_what_a_quota_forbids_waits_and_says_why(self):  # FR-18
        (choice,) = self.choice(an_ask(0, L4_FITS), rules=self.quota(1, used=1)).values()
        assert choice.outcome is Outcome.WAITING
        assert "ResourceQuota q allows 1" in choice.barred

    def test_so_many_replicas_as_a_quota_allows_are_placed(self):
        (choice,) = self.choice(an_ask(0, L4_FITS, replicas=3), rules=self.quota(2)).values()
        assert (choice.outcome, choice.best.room.now) == (Outcome.PARTLY, 2)
        assert "ResourceQuota q" in choice.barred

    def test_another_namespace_is_not_limited(self):
        (choice,) = self.choice(an_ask(0, L4_FITS), rules=self.quota(0, namespace="other")).values()
        assert (choice.outcome, choice.barred) == (Outcome.ROOM_NOW, "")

    def test_who_was_placed_before_has_taken_of_the_quota(self):
        choices = self.choice(an_ask(0, L4_FITS), an_ask(1, L4_FITS), rules=self.quota(1))
        assert [choice.outcome for choice in choices.values()] == [Outcome.ROOM_NOW, Outcome.WAITING]

    @pytest.mark.parametrize(("made", "outcome"), [(0, Outcome.WAITING), (1, Outcome.ROOM_NOW)])
    def test_pods_that_exist_are_in_what_is_used_already(self, made, outcome):
        claim = PlacedClaim(("team", "other"), L4.id, a_demand(), 1, made=made)
        (choice,) = self.choice(an_ask(0, L4_FITS), rules=self.quota(2, used=1), before=[claim]).values()
        assert choice.outcome is outcome

    def test_who_is_placed_anew_gives_its_own_pods_back(self):
        ask = an_ask(0, L4_FITS)
        (choice,) = self.choice(
            ask, rules=self.quota(1, used=1), pods=[a_pod("l4-00", owner=ask.key)]
        ).values()
        assert choice.outcome is Outcome.ROOM_NOW

    def test_where_nodes_have_no_room_the_quota_is_not_blamed(self):
        fleet = [a_pool(L4, a_node("n", gpus=0))]
        (choice,) = place_all(
            [an_ask(0, L4_FITS)], pools=fleet, pods=(), placed=(), catalog=packaged(), rules=self.quota(0)
        ).values()
        assert choice.barred == ""


def test_pods_behind_a_gate_claim_nothing_until_it_opens():
    fleet = [a_pool(L4, a_node("n"))]
    for gated, outcome in ((1, Outcome.ROOM_NOW), (0, Outcome.WAITING)):
        claim = PlacedClaim(("team", "queued"), L4.id, a_demand(), 1, made=1, gated=gated)
        (choice,) = placed([an_ask(0, L4_FITS)], fleet=fleet, before=[claim]).values()
        assert choice.outcome is outcome


def test_a_node_in_quarantine_has_no_room():  # FR-14
    fleet = [a_pool(L4, a_node("a", gpus=8), a_node("b"))]

    def place(*quarantined, replicas=1):
        (choice,) = place_all(
            [an_ask(0, L4_FITS, replicas=replicas)],
            pools=fleet,
            pods=(),
            placed=(),
            catalog=packaged(),
            quarantined=quarantined,
        ).values()
        return choice.best.room.now

    assert place() == 9
    assert place(("a", GPU)) == 1
    assert place(("a", "amd.com/gpu")) == 9


def test_of_one_pool_the_smaller_node_is_brought():
    one, eight = (a_shape(gpus=gpus, shape=shape, pool="gpu") for gpus, shape in ((1, "z"), (8, "a")))
    fleet = [a_pool(shape, growth=4) for shape in (eight, one)]
    (choice,) = placed([an_ask(0, a_fit(eight), a_fit(one))], fleet=fleet).values()
    assert (choice.outcome, choice.fit.candidate.shape) == (Outcome.SCALE_UP, one)
