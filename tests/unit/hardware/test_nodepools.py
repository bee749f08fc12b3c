"""Karpenter's NodePools: which nodes they may bring, how many, and how a pod asks for them."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.declared import declared_pool
from gemma_operator.hardware.nodepools import Requirement, nodepool_record, prospects
from gemma_operator.hardware.pools import filtered, pools
from gemma_operator.hardware.records import NodeRecord, Taint

GPU = "nvidia.com/gpu"
TYPE = "node.kubernetes.io/instance-type"
AWS = "karpenter.k8s.aws/instance-"
NEURON = {("aws-inferentia2", 12), ("aws-trainium2", 16)}


def a_nodepool(
    *requirements, name="gpu", provider="karpenter.k8s.aws", limits=None, used=None, ready=None, **spec
):
    node = {
        "nodeClassRef": {"group": provider, "kind": "NodeClass", "name": "default"},
        "requirements": [
            {"key": key, "operator": how, "values": list(values)} for key, how, *values in requirements
        ],
        **spec.pop("node", {}),
    }
    obj = {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {"template": {"metadata": {"labels": spec.pop("labels", {})}, "spec": node}, **spec},
        "status": {"resources": used or {}},
    }
    if limits:
        obj["spec"]["limits"] = limits
    if ready is not None:
        obj["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
    return obj


def brought(obj, *, nodes=(), declared=()):
    catalog = packaged()
    return pools(nodes, declared, catalog, prospects=prospects(nodepool_record(obj), catalog))


def cards(found):
    return {(pool.shape.accelerator, pool.shape.accelerators_per_node) for pool in found}


def only(found):
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("operator", "values", "value", "met"),
    [
        ("In", ("a", "b"), "a", True),
        ("In", ("b",), "a", False),
        ("NotIn", ("a",), "a", False),
        ("NotIn", ("b",), "a", True),
        ("Exists", (), "a", True),
        ("DoesNotExist", (), "a", False),
        ("Gt", ("3",), "4", True),
        ("Gt", ("4",), "4", False),
        ("Lt", ("4",), "3", True),
        ("Gte", ("4",), "4", True),
        ("Lte", ("3",), "4", False),
        ("Gt", ("x",), "4", False),
        ("Gt", (), "4", False),
        ("In", ("a",), None, False),
        ("NotIn", ("a",), None, True),
        ("Exists", (), None, False),
        ("DoesNotExist", (), None, True),
        ("Gt", ("3",), None, False),
    ],
)
def test_a_requirement(operator, values, value, met):
    assert Requirement("key", operator, values).met_by(value) is met


def test_a_named_machine_is_planned_as_a_node_that_would_come():
    pool = only(brought(a_nodepool((TYPE, "In", "g6.12xlarge"))))
    shape = pool.shape
    assert (shape.accelerator, shape.memory_mib, shape.accelerators_per_node) == ("nvidia-l4", 23034, 4)
    assert (shape.id.source.value, shape.id.name, shape.spot) == ("karpenter-nodepool", "gpu", False)
    assert pool.nodes == ()
    assert pool.growth.allocatable == {GPU: 4, "cpu": 47810, "memory": 178933 << 20}
    assert pool.growth.more_nodes == 1000


@pytest.mark.parametrize(
    ("requirements", "found"),
    [
        ([(f"{AWS}family", "In", "g6e")], {("nvidia-l40s", 1), ("nvidia-l40s", 4), ("nvidia-l40s", 8)}),
        ([(f"{AWS}gpu-name", "In", "h100")], {("nvidia-h100-80gb", 1), ("nvidia-h100-80gb", 8)}),
        ([(f"{AWS}gpu-name", "In", "h100"), (f"{AWS}gpu-count", "Gt", "1")], {("nvidia-h100-80gb", 8)}),
        (
            [(f"{AWS}family", "In", "g5", "g6"), (f"{AWS}size", "NotIn", "48xlarge", "12xlarge", "24xlarge")],
            {("nvidia-a10g", 1), ("nvidia-l4", 1)},
        ),
        (
            [(f"{AWS}category", "In", "p"), (f"{AWS}generation", "Gt", "5")],
            {("nvidia-b200", 8), ("nvidia-b300", 8), ("nvidia-gb200", 4)},
        ),
        ([(f"{AWS}category", "In", "c", "m", "r")], set()),
        ([(f"{AWS}gpu-count", "DoesNotExist"), (f"{AWS}accelerator-count", "DoesNotExist")], set()),
        ([(f"{AWS}gpu-count", "DoesNotExist"), (f"{AWS}size", "In", "48xlarge")], NEURON),
        (
            [("kubernetes.io/arch", "In", "arm64")],
            {("nvidia-t4g", 1), ("nvidia-t4g", 2), ("nvidia-gb200", 4)},
        ),
        ([(f"{AWS}accelerator-manufacturer", "In", "aws"), (f"{AWS}size", "In", "48xlarge")], NEURON),
        ([(f"{AWS}family", "In", "g6f")], set()),
        ([(TYPE, "In", "g2-standard-8")], set()),
        ([(TYPE, "In", "g6.xlarge"), (f"{AWS}cpu", "Gt", "4")], set()),
        ([(TYPE, "In", "g6.xlarge"), ("topology.kubernetes.io/zone", "In", "z")], {("nvidia-l4", 1)}),
    ],
)
def test_requirements_choose_machines(requirements, found):
    assert cards(brought(a_nodepool(*requirements))) == found


def test_auto_mode_has_labels_of_its_own():
    obj = a_nodepool(("eks.amazonaws.com/instance-gpu-name", "In", "l4"), provider="eks.amazonaws.com")
    assert cards(brought(obj)) == {("nvidia-l4", 1), ("nvidia-l4", 4), ("nvidia-l4", 8)}


def test_azures_machines_are_chosen_by_azures_labels():
    obj = a_nodepool(("karpenter.azure.com/sku-gpu-name", "In", "H100"), provider="karpenter.azure.com")
    assert cards(brought(obj)) == {("nvidia-h100-nvl", 1), ("nvidia-h100-nvl", 2), ("nvidia-h100-80gb", 8)}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("GB200", {("nvidia-gb200", 4)}),
        ("GB300", {("nvidia-gb300", 4)}),
        ("H200", {("nvidia-h200", 8)}),
        ("RTXPRO6000BSE", {("nvidia-rtx-pro-6000", 1), ("nvidia-rtx-pro-6000", 2)}),
    ],
)
def test_azures_newer_sizes_are_known_by_the_accelerator_in_their_name(name, found):
    obj = a_nodepool(("karpenter.azure.com/sku-gpu-name", "In", name), provider="karpenter.azure.com")
    assert cards(brought(obj)) == found


def test_a_nodepool_of_gb200_brings_nodes_that_are_arm64():
    obj = a_nodepool(("karpenter.azure.com/sku-gpu-name", "In", "GB200"), provider="karpenter.azure.com")
    pool = only(brought(obj))
    assert (pool.shape.arch, pool.growth.labels["kubernetes.io/arch"]) == ("arm64", "arm64")


def test_chips_that_are_no_gpus_are_brought_under_their_own_resource_and_refused():
    found = brought(a_nodepool((TYPE, "In", "trn2.48xlarge")))
    shape = only(found).shape
    assert (shape.id.resource_name, shape.accelerator, shape.memory_mib) == (
        "aws.amazon.com/neuron",
        "aws-trainium2",
        98304,
    )
    assert shape.refused
    amd = brought(a_nodepool((TYPE, "In", "Standard_ND96isr_MI300X_v5"), provider="karpenter.azure.com"))
    assert (only(amd).shape.id.resource_name, only(amd).shape.accelerator) == ("amd.com/gpu", "amd-mi300x")


def test_of_an_unknown_provider_only_named_machines_are_known():
    assert brought(a_nodepool(provider="karpenter.example.com")) == ()
    named = a_nodepool((TYPE, "In", "g2-standard-48"), provider="karpenter.example.com")
    assert cards(brought(named)) == {("nvidia-l4", 4)}


@pytest.mark.parametrize(
    ("requirement", "spots"),
    [
        (None, {False}),
        ((("karpenter.sh/capacity-type"), "In", "spot"), {True}),
        (("karpenter.sh/capacity-type", "In", "spot", "on-demand"), {True, False}),
        (("karpenter.sh/capacity-type", "NotIn", "on-demand"), {True, False}),
        (("karpenter.sh/capacity-type", "In", "reserved"), {False}),
    ],
)
def test_who_may_be_taken_away(requirement, spots):
    requirements = [(TYPE, "In", "g6.xlarge"), *([requirement] if requirement else [])]
    assert {pool.shape.spot for pool in brought(a_nodepool(*requirements))} == spots


@pytest.mark.parametrize(
    ("limits", "used", "more"),
    [
        ({GPU: "8"}, {}, 2),
        ({GPU: "8"}, {GPU: "5"}, 0),
        ({GPU: "8", "cpu": "50"}, {}, 1),
        ({"cpu": "100"}, {"cpu": "90"}, 0),
        ({"memory": "400Gi"}, {"memory": "100Gi"}, 1),
        ({"nodes": "3"}, {"nodes": "1"}, 2),
        ({"example.com/other": "1"}, {"example.com/other": "1"}, 0),
        ({"example.com/other": "2"}, {"example.com/other": "1"}, 1000),
    ],
)
def test_limits_less_what_is_used_is_what_may_come(limits, used, more):
    pool = only(brought(a_nodepool((TYPE, "In", "g6.12xlarge"), limits=limits, used=used)))
    assert (pool.growth.more_nodes if pool.growth else 0) == more


@pytest.mark.parametrize("change", [{"ready": False}, {"replicas": 2}])
def test_a_nodepool_that_brings_nothing_now_is_known_and_does_not_grow(change):
    pool = only(brought(a_nodepool((TYPE, "In", "g6.xlarge"), **change)))
    assert (pool.shape.accelerator, pool.growth) == ("nvidia-l4", None)


def test_its_taints_are_the_nodes():
    taint = {"key": "team", "value": "vision", "effect": "NoSchedule"}
    pool = only(
        brought(
            a_nodepool(
                (TYPE, "In", "g6.xlarge"),
                node={"taints": [taint], "startupTaints": [{"key": "x", "effect": "NoSchedule"}]},
            )
        )
    )
    assert pool.shape.taints == (Taint("team", "vision", "NoSchedule"),)


def a_live_node(machine="g6.12xlarge", *, gpus=4, **labels):
    printed = {"karpenter.sh/nodepool": "gpu", "karpenter.sh/capacity-type": "on-demand", TYPE: machine}
    printed |= {"kubernetes.io/arch": "amd64", f"{AWS}gpu-name": "l4", f"{AWS}gpu-count": str(gpus)} | labels
    printed |= {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}
    printed |= {"nvidia.com/gpu.compute.major": "8", "nvidia.com/gpu.compute.minor": "9"}
    return NodeRecord("live", printed, (), {GPU: gpus, "cpu": 47000, "memory": 170 << 30}, True)


def test_the_first_node_that_comes_has_the_shape_that_was_planned():
    obj = a_nodepool((TYPE, "In", "g6.12xlarge"), limits={GPU: "8"}, used={GPU: "4"})
    before, after = only(brought(obj)), only(brought(obj, nodes=[a_live_node()]))
    assert after.shape.id == before.shape.id
    assert ([node.name for node in after.nodes], after.growth.more_nodes) == (["live"], 1)


def test_a_pod_asks_by_labels_that_a_node_has_before_it_is_there():
    obj = a_nodepool((f"{AWS}family", "In", "g6"))
    found = {
        pool.shape.accelerators_per_node: dict(pool.shape.selector)
        for pool in brought(obj, nodes=[a_live_node()])
    }
    assert set(found) == {1, 4, 8}
    assert all(not any(label.startswith("nvidia.com/") for label in selector) for selector in found.values())
    assert found[1] == {"karpenter.sh/nodepool": "gpu", f"{AWS}gpu-count": "1"}
    assert found[4] == {"karpenter.sh/nodepool": "gpu", f"{AWS}gpu-count": "4"}


def test_spot_and_on_demand_of_one_nodepool_are_asked_for_apart():
    obj = a_nodepool((TYPE, "In", "g6.xlarge"), ("karpenter.sh/capacity-type", "In", "spot", "on-demand"))
    assert {dict(pool.shape.selector).get("karpenter.sh/capacity-type") for pool in brought(obj)} == {
        "spot",
        "on-demand",
    }


def test_of_several_machines_the_roomiest_host_is_reckoned_with():
    obj = a_nodepool((TYPE, "In", "g6.xlarge", "g6.16xlarge", "g6.4xlarge"))
    assert only(brought(obj)).growth.allocatable["memory"] == 234021 << 20


def test_an_accelerator_pool_that_selects_its_nodes_has_them():
    declared = declared_pool(
        {
            "metadata": {"name": "mine"},
            "spec": {
                "accelerator": "nvidia-l4",
                "acceleratorsPerNode": 1,
                "maxNodes": 2,
                "nodeSelector": {"karpenter.sh/nodepool": "gpu"},
            },
        }
    )
    pool = only(brought(a_nodepool((TYPE, "In", "g6.xlarge")), declared=[declared]))
    assert (pool.shape.id.source.value, pool.shape.id.name) == ("accelerator-pool", "mine")


@pytest.mark.parametrize(
    ("selector", "kept"), [({"team": "vision"}, True), ({"tier": "gold"}, True), ({"team": "audio"}, False)]
)
def test_a_users_node_selector_is_met_by_what_the_nodepool_labels(selector, kept):
    obj = a_nodepool((TYPE, "In", "g6.xlarge"), ("tier", "In", "gold"), labels={"team": "vision"})
    assert bool(filtered(brought(obj), tuple(selector.items()))) is kept
