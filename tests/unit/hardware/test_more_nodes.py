"""Nodes that nobody published as a whole, put together from what each platform's sources say it writes."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, Sharing

GPU = "nvidia.com/gpu"


def read(labels, allocatable=None, *, taints=()):
    node = {
        "kind": "Node",
        "metadata": {
            "name": "n",
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **labels},
        },
        "spec": {"taints": list(taints)},
        "status": {
            "allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110", **(allocatable or {GPU: "1"})}
        },
    }
    return pools([node_record(node)], (), packaged())


def shape(labels, allocatable=None):
    (pool,) = read(labels, allocatable)
    return pool.shape


def gke(accelerator, machine, **extra):
    return {
        "cloud.google.com/gke-nodepool": "p",
        "cloud.google.com/gke-accelerator": accelerator,
        "node.kubernetes.io/instance-type": machine,
        "cloud.google.com/gke-provisioning": "standard",
        **{f"cloud.google.com/{key.replace('_', '-')}": value for key, value in extra.items()},
    }


def gfd(product, memory, *, count=1, capability="9.0", **extra):
    major, minor = capability.split(".")
    return {
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(memory),
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
        **extra,
    }


def aws(name, memory, count, machine):
    prefix = "karpenter.k8s.aws/instance-gpu-"
    named = {f"{prefix}name": name, f"{prefix}memory": str(memory), f"{prefix}count": str(count)}
    return {"karpenter.sh/nodepool": "gpu", "node.kubernetes.io/instance-type": machine, **named}


@pytest.mark.parametrize(
    ("labels", "count", "accelerator", "memory_mib", "verified"),
    [
        (gke("nvidia-rtx-pro-6000", "g4-standard-48"), 1, "nvidia-rtx-pro-6000", 97887, True),
        (gke("nvidia-rtx-pro-6000", "g4-standard-24"), 1, "nvidia-rtx-pro-6000", 48943, False),
        (gke("nvidia-rtx-pro-6000", "g4-standard-6"), 1, "nvidia-rtx-pro-6000", 12235, False),
        (gke("nvidia-h100-mega-80gb", "a3-megagpu-8g"), 8, "nvidia-h100-80gb", 81559, True),
        (gke("nvidia-b200", "a4-highgpu-8g"), 8, "nvidia-b200", 183359, True),
        (aws("h100", 81920, 8, "p5.48xlarge"), 8, "nvidia-h100-80gb", 81559, True),
        (aws("l40s", 45776, 4, "g6e.12xlarge"), 4, "nvidia-l40s", 46068, True),
        (aws("rtx-pro-server-6000", 98304, 1, "g7e.2xlarge"), 1, "nvidia-rtx-pro-6000", 97887, True),
        (aws("a100", 40960, 8, "p4d.24xlarge"), 8, "nvidia-a100-40gb", 40960, True),
        (aws("l4", 2861, 0, "g6f.xlarge"), 1, "nvidia-l4", 2660, False),
        (aws("rtx-pro-4500", 32768, 1, "g7.2xlarge"), 1, "nvidia-rtx-pro-4500", 30474, False),
        (
            {"node.kubernetes.io/instance-type": "Standard_ND96isr_H100_v5"},
            8,
            "nvidia-h100-80gb",
            81559,
            True,
        ),
        ({"node.kubernetes.io/instance-type": "Standard_NV12ads_A10_v5"}, 1, "nvidia-a10", 8192, False),
        ({"node.kubernetes.io/instance-type": "g6f.4xlarge"}, 1, "nvidia-l4", 11444, False),
    ],
)
def test_a_machine_is_known_by_its_labels(labels, count, accelerator, memory_mib, verified):
    found = shape(labels, {GPU: str(count)})
    assert (found.accelerator, found.memory_mib, found.verified) == (accelerator, memory_mib, verified)
    assert found.accelerators_per_node == count
    assert found.refused == ""


def test_aks_auto_provisioning_with_a_gpu():
    labels = {
        "karpenter.sh/nodepool": "gpu",
        "karpenter.sh/capacity-type": "spot",
        "kubernetes.azure.com/agentpool": "",
        "karpenter.azure.com/sku-gpu-name": "A100",
        "karpenter.azure.com/sku-gpu-manufacturer": "nvidia",
        "karpenter.azure.com/sku-gpu-count": "4",
        "node.kubernetes.io/instance-type": "Standard_NC96ads_A100_v4",
    }
    found = shape(labels, {GPU: "4"})
    assert (found.accelerator, found.spot) == ("nvidia-a100-80gb", True)
    assert (found.id.source.value, found.id.name) == ("karpenter-nodepool", "gpu")


def test_an_eks_managed_group_with_the_autoscalers_label():
    labels = {"eks.amazonaws.com/nodegroup": "l4", "k8s.amazonaws.com/accelerator": "nvidia-l4"}
    found = shape(labels | {"eks.amazonaws.com/capacityType": "ON_DEMAND"})
    assert (found.accelerator, found.spot, found.id.source.value) == ("nvidia-l4", False, "eks-nodegroup")


def test_a_gb200_node_is_arm64_and_says_so():
    labels = gke("nvidia-gb200", "a4x-highgpu-4g") | {"kubernetes.io/arch": "arm64"}
    found = shape(labels, {GPU: "4"})
    assert (found.accelerator, found.arch, found.memory_mib) == ("nvidia-gb200", "arm64", 189471)


@pytest.mark.parametrize(("product", "arch"), [("NVIDIA-GB200", "arm64"), ("NVIDIA-B200", "")])
def test_a_card_that_is_built_together_with_its_host_tells_the_architecture(product, arch):
    (pool,) = pools(
        [NodeRecord("n", {"nvidia.com/gpu.product": product}, (), {GPU: 4}, True)], (), packaged()
    )
    assert pool.shape.arch == arch


@pytest.mark.parametrize("host_gb", ["480GB", "120GB"])
def test_the_number_in_a_gh200s_name_is_its_hosts(host_gb):
    assert shape({"nvidia.com/gpu.product": f"NVIDIA-GH200-{host_gb}"}).memory_mib == 97871


@pytest.mark.parametrize(
    ("card", "profile", "memory_mib"),
    [
        ("nvidia-a100-80gb", "1g.10gb", 9728),
        ("nvidia-a100-80gb", "3g.40gb", 40192),
        ("nvidia-a100-80gb", "2g.20gb", 19968),
        ("nvidia-h100-80gb", "2g.20gb", 20096),
        ("nvidia-h100-80gb", "1g.20gb", 20096),
        ("nvidia-h100-80gb", "3g.40gb", 40448),
        ("nvidia-tesla-a100", "3g.20gb", 20096),
    ],
)
def test_a_partition_of_gke_has_the_memory_that_the_driver_printed_elsewhere(card, profile, memory_mib):
    found = shape(gke(card, "a2", gke_gpu_partition_size=profile), {GPU: "2"})
    assert (found.sharing, found.memory_mib, found.verified, found.refused) == (
        Sharing.MIG,
        memory_mib,
        False,
        "",
    )


def test_a_partition_of_gke_that_nobody_printed_is_refused():
    found = shape(gke("nvidia-h100-80gb", "a3-highgpu-1g", gke_gpu_partition_size="7g.80gb"), {GPU: "1"})
    assert (found.sharing, found.memory_mib) == (Sharing.MIG, None)
    assert "no label tells the memory of a slice" in found.refused


@pytest.mark.parametrize(
    ("product", "memory", "memory_mib"),
    [
        ("GRID-A100-8C", 8192, 8192),
        ("NVIDIA-A10-4Q", 4096, 4096),
        ("GRID-A100-8C", None, 7618),
        ("GRID-A100D-80C", None, 76185),
        ("NVIDIA-L40S-48Q", None, 45711),
    ],
)
def test_a_vgpu_profile_has_its_own_memory_and_is_no_card_of_the_catalog(product, memory, memory_mib):
    labels = gfd(product, memory, capability="8.0")
    if memory is None:
        del labels["nvidia.com/gpu.memory"]
    found = shape(labels)
    assert (found.accelerator, found.memory_mib, found.verified) == ("unknown", memory_mib, False)
    assert found.refused == ""


def test_mps_gives_each_client_its_part():
    labels = gfd("NVIDIA-H200-SHARED", 143771, count=8)
    labels |= {"nvidia.com/gpu.sharing-strategy": "mps", "nvidia.com/gpu.replicas": "10"}
    found = shape(labels, {GPU: "80"})
    assert (found.sharing, found.clients_per_device, found.memory_mib) == (Sharing.MPS, 10, 14377)


def test_shared_slices_under_the_renamed_resource():
    prefix = "nvidia.com/mig-1g.10gb"
    labels = {f"{prefix}.memory": "9728", f"{prefix}.count": "7", f"{prefix}.replicas": "4"}
    labels |= {f"{prefix}.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"}
    found = shape(labels, {f"{prefix}.shared": "28"})
    assert (found.sharing, found.clients_per_device, found.memory_mib) == (Sharing.TIME_SLICING, 4, 2432)


def test_whole_cards_and_slices_of_one_node_are_pools_of_their_own():  # FR-15
    labels = gfd("NVIDIA-H100-80GB-HBM3", 81559, count=8) | {
        "nvidia.com/mig.strategy": "mixed",
        "nvidia.com/mig-3g.40gb.memory": "40320",
        "nvidia.com/mig-3g.40gb.count": "2",
        "nvidia.com/mig-3g.40gb.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
    }
    found = read(labels, {GPU: "6", "nvidia.com/mig-3g.40gb": "2"})
    assert {
        pool.shape.id.resource_name: (pool.shape.accelerators_per_node, pool.shape.memory_mib)
        for pool in found
    } == {GPU: (6, 81559), "nvidia.com/mig-3g.40gb": (2, 40320)}


def test_a_node_that_is_being_cut_anew_has_no_room_and_keeps_its_shape():  # FR-15
    labels = gfd("NVIDIA-H100-80GB-HBM3", 81559, count=8)
    (before,), (during,) = (
        read(labels | {"nvidia.com/mig.config.state": state}, {GPU: "8"}) for state in ("success", "pending")
    )
    assert during.shape.id == before.shape.id
    assert [node.schedulable for node in during.nodes] == [False]
    assert "MIG layout" in during.nodes[0].held_back


@pytest.mark.parametrize(("offered", "labelled", "refused"), [(4, 2, True), (4, 4, False), (6, 8, False)])
def test_more_devices_than_the_labels_describe_are_of_another_model(offered, labelled, refused):
    found = shape(gfd("NVIDIA-L4", 23034, count=labelled, capability="8.9"), {GPU: str(offered)})
    assert bool(found.refused) is refused


@pytest.mark.parametrize(
    ("labels", "offered"),
    [
        # NVIDIA's device plugin with time-slicing or MIG, and nobody who labels it
        ({"node.kubernetes.io/instance-type": "g5.2xlarge"}, 12),
        (aws("l4", 22888, 1, "g6.xlarge"), 4),
        ({"node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4"}, 7),
        (gke("nvidia-l4", "g2-standard-8", gke_accelerator_count="1"), 4),
    ],
)
def test_more_devices_than_the_machine_has_are_no_whole_cards(labels, offered):
    found = shape(labels, {GPU: str(offered)})
    assert f"{offered} of nvidia.com/gpu are offered and a machine of this type has 1" in found.refused
    assert shape(labels, {GPU: "1"}).refused == ""


def test_a_machine_that_lost_a_card_offers_the_others():
    found = shape({"node.kubernetes.io/instance-type": "p5.48xlarge"}, {GPU: "7"})
    assert (found.accelerators_per_node, found.refused) == (7, "")


def test_an_unknown_card_is_planned_from_its_memory_and_not_verified():
    found = shape(gfd("NVIDIA-X1-Future", 65536, capability="12.0"))
    assert (found.accelerator, found.memory_mib, found.compute_capability) == ("unknown", 65536, (12, 0))
    assert (found.verified, found.refused) == (False, "")


def test_an_invalid_layout_is_refused():
    assert "MIG layout is invalid" in shape(gfd("NVIDIA-A100-SXM4-40GB-MIG-INVALID", 0), {GPU: "1"}).refused


@pytest.mark.parametrize(
    ("vram", "memory_mib"), [("191G", 195584), ("144G", 147456), ("", 196608), ("lots", 196608)]
)
def test_amds_memory_is_read_and_the_card_refused(vram, memory_mib):
    found = shape({"amd.com/gpu.device-id": "74b5", "amd.com/gpu.vram": vram}, {"amd.com/gpu": "8"})
    assert (found.accelerator, found.memory_mib) == ("amd-mi300x", memory_mib)
    assert "ROCm" in found.refused


def test_a_windows_node_is_refused_whatever_it_offers():
    labels = {"kubernetes.io/os": "windows", "node.kubernetes.io/instance-type": "g6.xlarge"}
    assert "windows" in shape(labels).refused


@pytest.mark.parametrize(
    ("labels", "resource", "accelerator", "memory_mib"),
    [
        (
            {"cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice"},
            "google.com/tpu",
            "google-tpu-v5p",
            97280,
        ),
        ({"cloud.google.com/gke-tpu-accelerator": "tpu7x"}, "google.com/tpu", "google-tpu-v7x", 196608),
        (
            {"karpenter.k8s.aws/instance-accelerator-name": "trainium2"},
            "aws.amazon.com/neuron",
            "aws-trainium2",
            98304,
        ),
        (
            {"eks.amazonaws.com/instance-accelerator-name": "inferentia2"},
            "aws.amazon.com/neuron",
            "aws-inferentia2",
            32768,
        ),
    ],
)
def test_tpus_and_neuron_chips_are_known_with_their_memory_and_refused(
    labels, resource, accelerator, memory_mib
):
    found = shape(labels, {resource: "4"})
    assert (found.accelerator, found.memory_mib) == (accelerator, memory_mib)
    assert "CUDA build" in found.refused
