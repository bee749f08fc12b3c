"""Nodes of clouds that name their cards by labels of their own, and cards that only some regions have."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.planner import memory

GPU = "nvidia.com/gpu"
TYPE = "node.kubernetes.io/instance-type"


def read(labels, count=1, *, resource=GPU):
    node = {
        "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux", **labels}},
        "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110", resource: str(count)}},
    }
    (pool,) = pools([node_record(node)], (), packaged())
    return pool.shape


def ack(name, memory="", count=1, **extra):
    labels = {f"aliyun.accelerator/nvidia_{key}": str(value) for key, value in extra.items()}
    named = {"aliyun.accelerator/nvidia_name": name, "aliyun.accelerator/nvidia_count": str(count), **labels}
    return named | ({"aliyun.accelerator/nvidia_mem": memory} if memory else {})


@pytest.mark.parametrize(
    ("labels", "accelerator", "memory_mib", "verified"),
    [
        (ack("NVIDIA-A10", "23028MiB"), "nvidia-a10", 23028, True),
        (ack("NVIDIA-L20", "46068MiB"), "nvidia-l20", 46068, True),
        (ack("NVIDIA-L20", "49140MiB"), "nvidia-l20", 49140, False),  # ECC is off
        (ack("NVIDIA-H20", "97871MiB"), "nvidia-h20", 97871, True),
        (ack("NVIDIA-X1-Future", "65536MiB"), "unknown", 65536, False),
        (
            ack("NVIDIA-A10", "22GiB"),
            "nvidia-a10",
            23028,
            True,
        ),  # a unit that nobody writes: the catalog's figure
        (ack("NVIDIA-A10"), "nvidia-a10", 23028, True),
    ],
)
def test_acks_labels_are_the_drivers_words(labels, accelerator, memory_mib, verified):
    found = read(labels)
    assert (found.accelerator, found.memory_mib, found.verified) == (accelerator, memory_mib, verified)


def test_more_devices_than_ack_counted_are_shares():
    """A card that HAMi hands out ten times."""
    assert "a machine of this type has 1" in read(ack("NVIDIA-A10", "23028MiB"), 10).refused


@pytest.mark.parametrize(
    ("strategy", "spot"),
    [("NoSpot", False), ("SpotAsPriceGo", True), ("SpotWithPriceLimit", True), ("", None)],
)
def test_ack_tells_what_may_be_taken_away(strategy, spot):
    assert read(ack("NVIDIA-A10") | {"node.alibabacloud.com/spot-strategy": strategy}).spot is spot


@pytest.mark.parametrize(
    ("name", "accelerator"),
    [
        ("H100_NVLINK_80GB", "nvidia-h100-80gb"),
        ("H100_PCIE", "nvidia-h100-80gb"),
        ("A100_NVLINK", "nvidia-a100-40gb"),
        ("A100_NVLINK_80GB", "nvidia-a100-80gb"),
        ("A40", "nvidia-a40"),
        ("RTX_A6000", "nvidia-rtx-a6000"),
        ("rtxp6000-8x", "unknown"),
    ],
)
@pytest.mark.parametrize("label", ["class", "model"])
def test_coreweaves_names_are_a_list_of_its_own(label, name, accelerator):
    assert read({f"gpu.nvidia.com/{label}": name, "gpu.nvidia.com/count": "8"}, 8).accelerator == accelerator


def test_a_model_is_found_beside_a_class_that_is_a_nickname():
    labels = {"gpu.nvidia.com/class": "a40-8x", "gpu.nvidia.com/model": "A40", "gpu.nvidia.com/vram": "48"}
    assert (read(labels).accelerator, read(labels).memory_mib) == ("nvidia-a40", 46068)


def test_the_driver_is_believed_over_coreweaves_label():
    labels = {"gpu.nvidia.com/model": "A40", f"{GPU}.product": "NVIDIA-L40", f"{GPU}.memory": "46068"}
    assert read(labels).accelerator == "nvidia-l40"


@pytest.mark.parametrize(
    ("machine", "count", "accelerator"),
    [
        ("VM.GPU.A100.40G.1", 1, "nvidia-a100-40gb"),
        ("VM.GPU.A100.80G.4", 4, "nvidia-a100-80gb"),
        ("VM.GPU.A100.B40G.2", 2, "nvidia-a100-40gb"),
        ("VM.GPU.L40S.2", 2, "nvidia-l40s"),
        ("BM.GPU.GB300.4", 4, "nvidia-gb300"),
        ("BM.GPU.B300.8", 8, "nvidia-b300"),
        ("VM.GPU3.1", 1, "nvidia-v100-16gb"),
    ],
)
def test_oracles_shapes_name_their_cards(machine, count, accelerator):
    found = read({TYPE: machine, "oke.oraclecloud.com/pool.name": "gpu"}, count)
    assert (found.accelerator, found.id.source.value) == (accelerator, "oke-pool")


@pytest.mark.parametrize(
    ("product", "capability", "memory_mib", "accelerator"),
    [
        ("NVIDIA-H200-NVL", "9.0", 143771, "nvidia-h200"),
        ("NVIDIA-H800-PCIe", "9.0", 81559, "nvidia-h800"),
        ("NVIDIA-A800-80GB-PCIe", "8.0", 81920, "nvidia-a800-80gb"),
        ("NVIDIA-H20-3e", "9.0", 143771, "unknown"),  # another card than the H20
        ("NVIDIA-L20X", "9.0", 143771, "unknown"),  # a Hopper, whatever its letter
        ("NVIDIA-A16", "8.6", 15356, "nvidia-a16"),
    ],
)
def test_cards_of_one_family_are_told_apart(product, capability, memory_mib, accelerator):
    major, minor = capability.split(".")
    labels = {f"{GPU}.product": product, f"{GPU}.memory": str(memory_mib), f"{GPU}.count": "1"}
    labels |= {f"{GPU}.compute.major": major, f"{GPU}.compute.minor": minor}
    found = read(labels)
    assert (found.accelerator, found.memory_mib) == (accelerator, memory_mib)
    assert found.verified is (accelerator != "unknown")


@pytest.mark.parametrize(("product", "capability"), [("NVIDIA-Thor", (11, 0)), ("Orin", (8, 7))])
def test_memory_that_is_the_hosts_is_not_taken_whole(product, capability):
    catalog = packaged()
    labels = {f"{GPU}.product": product, f"{GPU}.count": "1", "kubernetes.io/arch": "arm64"}
    silent, told = read(labels), read(labels | {f"{GPU}.memory": "62841"})
    assert "no label tells" in silent.refused
    assert (told.compute_capability, told.memory_mib, told.verified) == (capability, 62841, False)
    card = catalog.accelerators[told.accelerator]
    seen = memory.device(told, card, catalog.engines["VLLM"], version="0.32")
    assert seen.utilization_percent == 80


@pytest.mark.parametrize(
    ("labels", "resource", "accelerator", "memory_mib"),
    [
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI300A"}, "amd.com/gpu", "amd-mi300a", 131072),
        ({"amd.com/gpu.device-id": "740f"}, "amd.com/gpu", "amd-mi210", 65536),
        ({TYPE: "trn2u.48xlarge"}, "aws.amazon.com/neuron", "aws-trainium2", 98304),
        (
            {"karpenter.k8s.aws/instance-accelerator-name": "trainium3"},
            "aws.amazon.com/neuron",
            "aws-trainium3",
            147456,
        ),
    ],
)
def test_other_vendors_newer_and_older_chips_tell_their_memory(labels, resource, accelerator, memory_mib):
    found = read(labels, 4, resource=resource)
    assert (found.accelerator, found.memory_mib) == (accelerator, memory_mib)
    assert "build" in found.refused or "another engine" in found.refused
