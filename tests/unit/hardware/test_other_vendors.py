"""What no engine here runs on is shown with model and memory and refused, whoever offers it and however."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.dra import slice_record
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools

TYPE = "node.kubernetes.io/instance-type"
NEURON = "aws.amazon.com/neuron"
CORE = "aws.amazon.com/neuroncore"


def node(labels, allocatable):
    return node_record(
        {"metadata": {"name": "n", "labels": labels}, "status": {"allocatable": {"cpu": "8", **allocatable}}}
    )


def read(labels, allocatable, slices=()):
    records = [slice_record(each) for each in slices]
    found = pools([node(labels, allocatable)], (), packaged(), slices=records)
    return {pool.shape.id.resource_name: pool.shape for pool in found}


@pytest.mark.parametrize(
    ("machine", "allocatable", "memory_mib"),
    [
        ("inf1.xlarge", {NEURON: "1", CORE: "4"}, 2048),
        ("inf2.48xlarge", {NEURON: "12", CORE: "24"}, 16384),
        ("trn1.32xlarge", {NEURON: "16", CORE: "32"}, 16384),
        ("trn2.48xlarge", {NEURON: "16", CORE: "128"}, 12288),
        ("trn2.48xlarge", {NEURON: "16", CORE: "64"}, 24576),  # logical cores of two
        ("trn2.48xlarge", {CORE: "128"}, 12288),  # chips by the list of machines
        ("trn9.48xlarge", {CORE: "128"}, None),
    ],
)
def test_a_neuron_core_has_its_part_of_the_chips_memory(machine, allocatable, memory_mib):
    found = read({TYPE: machine}, allocatable)
    assert found[CORE].memory_mib == memory_mib
    assert all(shape.refused for shape in found.values())


def test_cores_of_an_unknown_chip_have_no_memory_that_anybody_told():
    assert read({}, {NEURON: "1", CORE: "2"})[CORE].memory_mib is None


@pytest.mark.parametrize(
    ("name", "memory", "resource", "memory_mib"),
    [
        ("radeon-pro-v520", "8192", "amd.com/gpu", 7618),  # g4ad
        ("gaudi-hl-205", "32768", "habana.ai/gaudi", 30474),  # dl1
    ],
)
def test_awss_list_tells_the_memory_of_other_vendors_gpus(name, memory, resource, memory_mib):
    prefix = "karpenter.k8s.aws/instance-gpu-"
    shape = read({f"{prefix}name": name, f"{prefix}memory": memory}, {resource: "1"})[resource]
    assert (shape.product, shape.memory_mib, shape.accelerator) == (name, memory_mib, "unknown")
    assert "another engine build" in shape.refused


@pytest.mark.parametrize(
    ("labels", "accelerator", "memory_mib", "refused"),
    [
        # Karpenter's p3dn and p2, as its list of machines has them
        (("v100", "32768"), "nvidia-v100-32gb", 30474, "Volta"),
        (("v100", "16384"), "nvidia-v100-16gb", 16384, "Volta"),
        (("k80", "12288"), "nvidia-k80", 11441, "Kepler"),
        (("m60", "8192"), "nvidia-m60", 7618, "Maxwell"),
    ],
)
def test_old_cards_of_aws_are_known_by_name_and_memory(labels, accelerator, memory_mib, refused):
    name, memory = labels
    prefix = "karpenter.k8s.aws/instance-gpu-"
    printed = {f"{prefix}name": name, f"{prefix}memory": memory, TYPE: "p3dn.24xlarge" if "v" in name else ""}
    shape = read(printed, {"nvidia.com/gpu": "1"})["nvidia.com/gpu"]
    assert (shape.accelerator, shape.memory_mib) == (accelerator, memory_mib)
    assert refused in shape.refused


def a_slice(driver, *devices, nested=False):
    listed = [
        {"name": f"d{place}", "basic": each} if nested else {"name": f"d{place}", **each}
        for place, each in enumerate(devices)
    ]
    return {
        "kind": "ResourceSlice",
        "metadata": {"name": driver},
        "spec": {"driver": driver, "nodeName": "n", "pool": {"name": "n"}, "devices": listed},
    }


def a_device(memory=None, **strings):
    attributes = {key: {"string": value} for key, value in strings.items()}
    return {"attributes": attributes, "capacity": {"memory": memory} if memory else {}}


MI300X = a_device({"value": "196592Mi"}, type="amdgpu", productName="AMD_Instinct_MI300X_OAM")
HALF = a_device({"value": "98296Mi"}, type="amdgpu-partition", productName="AMD_Instinct_MI300X_OAM")


@pytest.mark.parametrize(
    ("driver", "device", "accelerator", "memory_mib"),
    [
        ("gpu.amd.com", MI300X, "amd-mi300x", 196592),
        ("gpu.amd.com", HALF, "amd-mi300x", 98296),
        ("gpu.intel.com", a_device("16288Mi", family="Arc", model="A770"), "unknown", 16288),
        ("tpu.google.com", a_device(tpuGen="v4"), "google-tpu-v4", 32768),
        ("neuron.aws.com", a_device(instanceType="trn2.48xlarge"), "aws-trainium2", 98304),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["v1", "v1beta1"])
def test_what_other_vendors_drivers_offer_is_shown_and_refused(
    driver, device, accelerator, memory_mib, nested
):
    found = read({}, {}, slices=[a_slice(driver, device, device, nested=nested)])
    shape = found[f"deviceclass.resource.kubernetes.io/{driver}"]
    assert (shape.accelerator, shape.memory_mib, shape.accelerators_per_node) == (accelerator, memory_mib, 2)
    assert "build" in shape.refused or "another engine" in shape.refused


def test_a_card_that_is_handed_through_to_a_virtual_machine_serves_no_engine():
    assert read({}, {}, slices=[a_slice("gpu.amd.com", a_device(type="amdgpu-vfio"))]) == {}


def test_the_host_of_a_claimed_device_counts_as_any_nodes_does():
    gpu = a_device({"value": "189471Mi"}, type="gpu", productName="NVIDIA GB200")
    slices = [a_slice("gpu.nvidia.com", gpu)]
    resource = "deviceclass.resource.kubernetes.io/gpu.nvidia.com"
    assert read({}, {}, slices)[resource].arch == "arm64"  # built together with its host
    assert "runs windows" in read({"kubernetes.io/os": "windows"}, {}, slices)[resource].refused
