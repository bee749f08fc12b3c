"""Room for a rollout: one replica more, beside everybody else's claims, and whether a drain would help at all."""

from __future__ import annotations

import pytest

from gemma_operator.hardware.namespaces import NamespaceRules, quota_record
from gemma_operator.planner.placement import PlacedClaim
from gemma_operator.planner.spare import Spare, spare
from unit.planner.builders import a_demand, a_node, a_pod, a_pool, a_shape

SHAPE, ELSEWHERE = a_shape(), a_shape(pool="elsewhere")
OWNER = ("team", "chat")


def a_claim(name="chat", replicas=1, *, shape=SHAPE, demand=None, made=0):
    return PlacedClaim(("team", name), shape.id, demand or a_demand(), replicas, made=made)


def nodes(count, shape=SHAPE, prefix="n"):
    return a_pool(shape, *(a_node(f"{prefix}{place}", gpus=1) for place in range(count)))


def mine(node, **changes):
    return a_pod(node, owner=OWNER, **changes)


def found(*pools, pods=(), placed=(), own=None, **more):
    return spare(own or a_claim(), pools=pools, pods=pods, placed=placed, **more)


def test_a_free_gpu_is_a_spare_replica():
    assert found(nodes(2), pods=[mine("n0")]) == Spare(1, drained_frees_room=True)


def test_none_is_free_where_the_own_replica_has_the_last():
    assert found(nodes(1), pods=[mine("n0")]) == Spare(0, drained_frees_room=True)


def test_what_another_deployment_claims_is_not_free():
    other = a_claim("other", replicas=1)
    assert found(nodes(2), pods=[mine("n0")], placed=[other]).replicas == 0


def test_what_it_claims_itself_is_its_own_room():
    own = a_claim(replicas=2)
    assert found(nodes(2), pods=[mine("n0")], placed=[own], own=own).replicas == 1


def test_an_own_pod_that_is_leaving_counts_as_gone_and_anothers_does_not():
    leaving = [mine("n0"), mine("n1", leaving=True)]
    assert found(nodes(2), pods=leaving).replicas == 1
    others = [mine("n0"), a_pod("n1", owner=("team", "other"), leaving=True)]
    assert found(nodes(2), pods=others).replicas == 0


def test_a_replica_of_another_size_needs_its_own_size():
    pool = a_pool(SHAPE, a_node("n", gpus=4))
    own = a_claim(demand=a_demand(4))
    assert found(pool, pods=[mine("n", gpus=2)], own=own) == Spare(0, drained_frees_room=True)


def test_a_pod_of_another_pool_frees_nothing_here():
    pools = (nodes(1), nodes(1, ELSEWHERE, prefix="e"))
    assert found(*pools, pods=[mine("e0")]) == Spare(1, drained_frees_room=False)


def test_a_pool_that_is_gone_has_no_room_and_is_not_waited_for_by_a_drain():
    assert found(nodes(1, ELSEWHERE, prefix="e"), pods=[mine("e0")]) == Spare(0, drained_frees_room=False)


def test_a_node_that_refuses_pods_is_no_room():
    refusing = [("n1", SHAPE.id.resource_name)]
    assert found(nodes(2), pods=[mine("n0")], quarantined=refusing).replicas == 0


@pytest.mark.parametrize(("hard", "replicas"), [("1", 0), ("2", 1), ("9", 1)])
def test_what_a_quota_forbids_is_no_room(hard, replicas):
    quota = {
        "metadata": {"name": "gpus", "namespace": "team"},
        "status": {"hard": {"requests.nvidia.com/gpu": hard}, "used": {"requests.nvidia.com/gpu": "1"}},
    }
    rules = NamespaceRules(quotas=(quota_record(quota),))
    assert found(nodes(2), pods=[mine("n0")], rules=rules).replicas == replicas
