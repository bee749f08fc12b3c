"""What must hold of every fleet: more of it never hurts, and its order says nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.nodepools import nodepool_record, prospects
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord
from gemma_operator.planner.choice import PLACED, Outcome
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.placement import Ask, PlacedClaim, ledger_of, place_all
from unit.planner.builders import GIB, GPU, a_demand, a_request

CATALOG = packaged()
CARDS = ("nvidia-l4", "nvidia-a10g", "nvidia-l40s", "nvidia-a100-80gb", "nvidia-h100-80gb")
MACHINES = ("g5.4xlarge", "g6.4xlarge", "g6.12xlarge", "g6e.4xlarge", "p5.48xlarge")
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def a_node(draw):
    number, card = draw(st.integers(0, 10**6)), draw(st.sampled_from(CARDS))
    labels = {"cloud.google.com/gke-accelerator": CATALOG.accelerators[card].cloud_names[0]}
    if card == "nvidia-a100-80gb":
        labels["cloud.google.com/gke-accelerator"] = card
    if draw(st.booleans()):
        labels["cloud.google.com/gke-nodepool"] = draw(st.sampled_from("ab"))
    host = {
        "cpu": 64000,
        "memory": draw(st.sampled_from([16, 256])) * GIB,
        "ephemeral-storage": 500 * GIB,
        "pods": 110,
    }
    return NodeRecord(
        f"n{number}", labels, (), {**host, GPU: draw(st.sampled_from([0, 1, 2, 4, 8]))}, draw(st.booleans())
    )


@st.composite
def a_nodepool(draw):
    name = draw(st.sampled_from(["k1", "k2", "k3"]))
    requirement = {
        "key": "node.kubernetes.io/instance-type",
        "operator": "In",
        "values": draw(st.lists(st.sampled_from(MACHINES), min_size=1, unique=True)),
    }
    template = {"spec": {"nodeClassRef": {"group": "karpenter.k8s.aws"}, "requirements": [requirement]}}
    return nodepool_record(
        {
            "metadata": {"name": name},
            "spec": {"template": template, "limits": {GPU: str(draw(st.integers(0, 9)))}},
        }
    )


nodes_of = st.lists(a_node(), max_size=5, unique_by=lambda node: node.name)
nodepools_of = st.lists(a_nodepool(), max_size=2, unique_by=lambda pool: pool.name)
requests = st.builds(
    lambda variant, context: a_request(
        variants=(variant,), precisions=("bf16", "w4a16"), context_length=context
    ),
    st.sampled_from(["31B", "12B", "E4B"]),
    st.sampled_from([8192, 65536]),
)
OUTCOMES = (Outcome.NOTHING_FITS, Outcome.WAITING, Outcome.PARTLY, Outcome.SCALE_UP, Outcome.ROOM_NOW)


def fleet(nodes, nodepools):
    return pools(
        nodes, (), CATALOG, prospects=[each for pool in nodepools for each in prospects(pool, CATALOG)]
    )


def choice(found, request, *, replicas=2, placed=()):
    verdict = feasible(request, [pool.shape for pool in found], CATALOG)
    ask = Ask(("team", "chat"), "u", "2026-01-01T00:00:00Z", replicas, request, verdict)
    return place_all([ask], pools=found, pods=(), placed=placed, catalog=CATALOG)["team", "chat"]


@FEW
@given(nodes_of, nodepools_of, a_node(), requests)
def test_one_more_node_never_makes_it_worse(nodes, nodepools, node, request):
    more = [*nodes, replace(node, name="another")]
    before, after = (choice(fleet(each, nodepools), request).outcome for each in (nodes, more))
    assert after in PLACED or before not in PLACED
    assert (after is Outcome.NOTHING_FITS) <= (before is Outcome.NOTHING_FITS)


@FEW
@given(nodes_of, nodepools_of, a_nodepool(), requests)
def test_one_more_nodepool_never_makes_it_worse(nodes, nodepools, nodepool, request):
    more = [*nodepools, replace(nodepool, name="another")]
    before, after = (choice(fleet(nodes, each), request).outcome for each in (nodepools, more))
    assert after in PLACED or before not in PLACED
    assert (after is Outcome.NOTHING_FITS) <= (before is Outcome.NOTHING_FITS)


@FEW
@given(nodes_of, requests, st.integers(0, 65536))
def test_more_memory_never_makes_a_feasible_pool_infeasible(nodes, request, mib):
    def fits(more):
        shapes = [pool.shape for pool in fleet(nodes, ())]
        richer = [replace(shape, memory_mib=shape.memory_mib + more) for shape in shapes if shape.memory_mib]
        found = feasible(request, richer, CATALOG)
        return {
            (fit.candidate.shape.id, fit.candidate.precision, fit.candidate.tensor_parallel)
            for fit in found.fits
        }

    assert fits(0) <= fits(mib)


@FEW
@given(nodes_of, nodepools_of, requests, st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_nodepools_says_nothing(nodes, nodepools, request, random):
    found = fleet(nodes, nodepools)
    shuffled = fleet(random.sample(nodes, len(nodes)), random.sample(nodepools, len(nodepools)))
    assert found == shuffled
    one = choice(found, request)
    other = choice(tuple(random.sample(found, len(found))), request)
    assert (one.outcome, one.fit) == (other.outcome, other.fit)


@FEW
@given(nodepools_of, st.lists(st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 3)), max_size=6))
def test_claims_never_use_more_than_a_nodepools_limits(nodepools, claims):
    found = fleet((), nodepools)
    limits = sum(pool.left[GPU] for pool in nodepools)
    placed = [
        PlacedClaim(("team", f"c{number}"), pool.shape.id, a_demand(gpus), replicas)
        for number, (gpus, replicas) in enumerate(claims)
        for pool in found
    ]
    one = a_demand(1)
    empty, taken = ledger_of(pools=found, pods=(), placed=()), ledger_of(pools=found, pods=(), placed=placed)
    for pool in found:
        assert (
            0
            <= taken.room(pool.shape.id, one).after_scale_up
            <= empty.room(pool.shape.id, one).after_scale_up
            <= limits
        )
