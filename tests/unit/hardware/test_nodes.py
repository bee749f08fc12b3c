import pytest

from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.records import Taint


def a_node(*, labels=None, taints=(), unschedulable=False, conditions=None, deleted=False, allocatable=None):
    status = {
        "allocatable": allocatable or {"cpu": "3920m", "memory": "1Gi", "pods": "58", "nvidia.com/gpu": "1"}
    }
    if conditions is not None:
        status["conditions"] = [{"type": kind, "status": value} for kind, value in conditions.items()]
    metadata = {"name": "n1", "labels": labels or {}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {"taints": list(taints), "unschedulable": unschedulable}
    return {"kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def test_allocatable_is_normalised():
    record = node_record(a_node())
    assert record.allocatable == {"cpu": 3920, "memory": 2**30, "pods": 58, "nvidia.com/gpu": 1}


def test_a_figure_that_is_none_is_left_out():
    record = node_record(a_node(allocatable={"cpu": "4", "nvidia.com/gpu": "many"}))
    assert record.allocatable == {"cpu": 4000}


def test_something_else_is_no_node():
    assert node_record({"kind": "Pod", "metadata": {"name": "p"}}) is None
    assert node_record({"kind": "Node", "metadata": {}}) is None


def test_only_taints_that_keep_pods_off_are_kept_in_an_order_of_their_own():
    record = node_record(
        a_node(
            taints=[
                {"key": "sku", "value": "gpu", "effect": "NoSchedule"},
                {"key": "nvidia.com/gpu", "effect": "NoExecute"},
                {"key": "soft", "effect": "PreferNoSchedule"},
            ]
        )
    )
    assert record.taints == (Taint("nvidia.com/gpu", "", "NoExecute"), Taint("sku", "gpu", "NoSchedule"))
    assert record.schedulable


def test_a_node_answers_as_long_as_it_is_ready_cordoned_or_not():
    assert node_record(a_node(unschedulable=True)).answers
    assert not node_record(a_node(conditions={"Ready": "Unknown"})).answers


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (a_node(unschedulable=True), "is cordoned"),
        (a_node(deleted=True), "is being deleted"),
        (a_node(conditions={"Ready": "False"}), "is not Ready"),
        (a_node(conditions={"Ready": "Unknown"}), "is not Ready"),
        (
            a_node(taints=[{"key": "ToBeDeletedByClusterAutoscaler", "value": "17", "effect": "NoSchedule"}]),
            "has the taint ToBeDeletedByClusterAutoscaler",
        ),
        (
            a_node(taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            "has the taint node.kubernetes.io/unreachable",
        ),
        (
            a_node(taints=[{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]),
            "has the taint karpenter.sh/disrupted",
        ),
        (
            a_node(taints=[{"key": "node.cilium.io/agent-not-ready", "effect": "NoSchedule"}]),
            "has the taint node.cilium.io/agent-not-ready",
        ),
        (
            a_node(labels={"nvidia.com/mig.config.state": "pending"}),
            "has its MIG layout changed (nvidia.com/mig.config.state=pending)",
        ),
    ],
)
def test_a_node_that_takes_no_pods_says_why_and_keeps_its_shape(node, why):
    record = node_record(node)
    assert (record.schedulable, record.held_back) == (False, why)
    assert record.taints == ()


@pytest.mark.parametrize("conditions", [None, {}, {"MemoryPressure": "False"}, {"Ready": "True"}])
def test_a_listing_without_a_ready_condition_says_nothing_against_the_node(conditions):
    assert node_record(a_node(conditions=conditions)).schedulable


def test_a_mig_layout_that_is_done_holds_nothing_back():
    assert node_record(a_node(labels={"nvidia.com/mig.config.state": "success"})).schedulable
