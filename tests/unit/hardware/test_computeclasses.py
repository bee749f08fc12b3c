"""GKE's ComputeClasses: which nodes their priorities may bring."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.computeclasses import computeclass_record, prospects
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.tolerations import of_replica, untolerated

GPU = "nvidia.com/gpu"


def a_class(*priorities, name="inference", creates=True, **more):
    spec = {"priorities": list(priorities), "nodePoolAutoCreation": {"enabled": creates}}
    return {
        "apiVersion": "cloud.google.com/v1",
        "kind": "ComputeClass",
        "metadata": {"name": name},
        "spec": spec,
        **more,
    }


def brought(obj, nodes=()):
    catalog = packaged()
    return pools(nodes, (), catalog, prospects=prospects(computeclass_record(obj), catalog))


def only(found):
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("priority", "accelerator", "count", "memory_mib"),
    [
        ({"gpu": {"type": "nvidia-l4", "count": 2}}, "nvidia-l4", 2, 23034),
        ({"gpu": {"type": "nvidia-l4"}}, "nvidia-l4", 1, 23034),
        ({"machineType": "a3-highgpu-8g"}, "nvidia-h100-80gb", 8, 81559),
        ({"machineType": "g2-standard-24", "gpu": {"type": "nvidia-l4", "count": 2}}, "nvidia-l4", 2, 23034),
        ({"machineType": "g4-standard-12"}, "nvidia-rtx-pro-6000", 1, 24471),
        ({"gpu": {"type": "nvidia-h100-mega-80gb", "count": 8}}, "nvidia-h100-80gb", 8, 81559),
    ],
)
def test_a_priority_is_a_kind_of_node(priority, accelerator, count, memory_mib):
    pool = only(brought(a_class(priority)))
    shape = pool.shape
    assert (shape.accelerator, shape.accelerators_per_node, shape.memory_mib) == (
        accelerator,
        count,
        memory_mib,
    )
    assert (shape.id.source.value, shape.id.name) == ("compute-class", "inference")
    assert pool.growth.allocatable[GPU] == count


@pytest.mark.parametrize(
    ("priority", "arch"),
    [
        ({"gpu": {"type": "nvidia-gb200", "count": 4}}, "arm64"),
        ({"machineType": "a4x-maxgpu-4g-metal"}, "arm64"),
        ({"gpu": {"type": "nvidia-b200", "count": 8}}, "amd64"),
        ({"gpu": {"type": "nvidia-of-tomorrow"}}, "amd64"),
    ],
)
def test_a_card_that_is_built_together_with_its_host_comes_with_it(priority, arch):
    pool = only(brought(a_class(priority)))
    assert (pool.shape.arch, pool.growth.labels["kubernetes.io/arch"]) == (arch, arch)


@pytest.mark.parametrize(
    "priority",
    [{"machineType": "n2-standard-8"}, {"nodepools": ["a"]}, {"tpu": {"type": "tpu-v6e-slice"}}, {"gpu": {}}],
)
def test_a_priority_without_a_gpu_brings_none(priority):
    assert brought(a_class(priority)) == ()


@pytest.mark.parametrize(
    ("priority", "spot"),
    [
        ({}, False),
        ({"spot": True}, True),
        ({"flexStart": {"enabled": True}}, False),
        ({"spot": False}, False),
    ],
)
def test_spot_and_flex_start(priority, spot):
    assert only(brought(a_class({"gpu": {"type": "nvidia-l4", "count": 1}, **priority}))).shape.spot is spot


def test_a_class_that_creates_no_node_pools_brings_nothing_that_nobody_has_seen():
    assert brought(a_class({"gpu": {"type": "nvidia-l4"}}, creates=False)) == ()


@pytest.mark.parametrize(
    "more",
    [
        {"status": {"conditions": [{"type": "Health", "status": "False"}]}},
        {"metadata": {"name": "inference", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_a_class_that_is_not_well_is_known_and_does_not_grow(more):
    assert only(brought(a_class({"gpu": {"type": "nvidia-l4"}}, **more))).growth is None


def test_a_replica_tolerates_the_taints_that_gke_puts_there():
    shape = only(brought(a_class({"gpu": {"type": "nvidia-l4"}}))).shape
    assert untolerated(shape.taints, of_replica(users=(), pools=shape.tolerations, spot="Forbidden")) == ()


def test_priorities_of_one_class_are_asked_for_apart():
    found = brought(
        a_class({"gpu": {"type": "nvidia-l4"}}, {"gpu": {"type": "nvidia-h100-80gb", "count": 8}})
    )
    assert {dict(pool.shape.selector)["cloud.google.com/gke-accelerator"] for pool in found} == {
        "nvidia-l4",
        "nvidia-h100-80gb",
    }


def test_the_first_node_that_comes_has_the_shape_that_was_planned():
    obj = a_class({"machineType": "g2-standard-8"})
    labels = {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "cloud.google.com/compute-class": "inference",
        "cloud.google.com/gke-nodepool": "nap-g2-1",
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-provisioning": "standard",
        "node.kubernetes.io/instance-type": "g2-standard-8",
    }
    taints = [
        {"key": "cloud.google.com/compute-class", "value": "inference", "effect": "NoSchedule"},
        {"key": GPU, "value": "present", "effect": "NoSchedule"},
    ]
    live = {
        "kind": "Node",
        "metadata": {"name": "live", "labels": labels},
        "spec": {"taints": taints},
        "status": {"allocatable": {GPU: "1", "cpu": "7910m"}},
    }
    before, after = only(brought(obj)), only(brought(obj, [node_record(live)]))
    assert after.shape.id == before.shape.id
    assert [node.name for node in after.nodes] == ["live"]
