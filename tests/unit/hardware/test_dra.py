"""ResourceSlices: what a DRA driver offers, and why nothing is planned for it."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.dra import REFUSED, slice_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, Sharing

WHOLE = "deviceclass.resource.kubernetes.io/gpu.nvidia.com"
SLICED = "deviceclass.resource.kubernetes.io/mig.nvidia.com"


def a_device(
    name="gpu-0", *, kind="gpu", uuid="GPU-1", memory="81559Mi", product="NVIDIA H100 80GB HBM3", **strings
):
    attributes = {
        key: {"string": value}
        for key, value in ({"type": kind, "uuid": uuid, "productName": product} | strings).items()
    }
    attributes |= {"cudaComputeCapability": {"version": "9.0.0"}, "driverVersion": {"version": "580.105.8"}}
    return {"name": name, "attributes": attributes, "capacity": {"memory": {"value": memory}}}


def a_slice(*devices, name="s", node="n", driver="gpu.nvidia.com", pool="n", generation=1):
    spec = {"driver": driver, "nodeName": node, "pool": {"name": pool, "generation": generation}}
    return {"kind": "ResourceSlice", "metadata": {"name": name}, "spec": {**spec, "devices": list(devices)}}


def read(*slices, labels=None):
    records = [record for each in slices if (record := slice_record(each))]
    return pools([NodeRecord("n", labels or {}, (), {}, True)], (), packaged(), slices=records)


def test_whole_cards_are_read_and_refused_for_want_of_a_claim():
    (pool,) = read(a_slice(a_device("gpu-0", uuid="GPU-0"), a_device("gpu-1", uuid="GPU-1")))
    shape = pool.shape
    assert (shape.accelerator, shape.accelerators_per_node, shape.id.resource_name) == (
        "nvidia-h100-80gb",
        2,
        WHOLE,
    )
    assert (shape.memory_mib, shape.compute_capability, shape.driver_major) == (81559, (9, 0), 580)
    assert shape.refused == REFUSED


def test_v1beta1_nests_a_device_under_basic():
    device = a_device()
    nested = {"name": device.pop("name"), "basic": device}
    (pool,) = read(a_slice(nested))
    assert (pool.shape.accelerator, pool.shape.memory_mib) == ("nvidia-h100-80gb", 81559)


@pytest.mark.parametrize(
    ("quantity", "memory_mib"),
    [("80Gi", 81920), ("143771Mi", 143771), ("85520809984", 81559), ("much", None)],
)
def test_memory_is_a_quantity(quantity, memory_mib):
    (pool,) = read(a_slice(a_device(memory=quantity)))
    assert pool.shape.memory_mib == memory_mib


def test_memory_may_be_a_bare_quantity():
    (pool,) = read(a_slice(a_device() | {"capacity": {"memory": "80Gi"}}))
    assert pool.shape.memory_mib == 81920


def test_a_card_that_is_cut_is_not_counted_beside_its_slices():
    slices = [
        a_device(f"mig-{index}", kind="mig", uuid=f"MIG-{index}", parentUUID="GPU-0", memory="9984Mi")
        for index in range(2)
    ]
    found = read(a_slice(a_device("gpu-0", uuid="GPU-0"), a_device("gpu-1", uuid="GPU-1"), *slices))
    counts = {pool.shape.id.resource_name: pool.shape.accelerators_per_node for pool in found}
    assert counts == {WHOLE: 1, SLICED: 2}
    assert {pool.shape.sharing for pool in found} == {Sharing.NONE, Sharing.MIG}


def test_devices_of_several_slices_are_one_pools():
    (pool,) = read(a_slice(a_device(uuid="GPU-0"), name="a"), a_slice(a_device(uuid="GPU-1"), name="b"))
    assert pool.shape.accelerators_per_node == 2


def test_slices_of_an_older_generation_are_of_the_past():
    (pool,) = read(
        a_slice(a_device(uuid="GPU-0"), name="a"), a_slice(a_device(uuid="GPU-0"), name="b", generation=2)
    )
    assert pool.shape.accelerators_per_node == 1


@pytest.mark.parametrize(
    "slice_",
    [
        a_slice(a_device(kind="channel")),
        a_slice(a_device(), driver="compute-domain.nvidia.com"),
        a_slice(a_device(), node=""),
        a_slice(a_device() | {"taints": [{"key": "x", "effect": "NoExecute"}]}),
        a_slice(a_device(), node="another"),
    ],
    ids=["channel", "compute domain", "no node", "tainted", "another node"],
)
def test_what_serves_no_engine_makes_no_pool(slice_):
    assert read(slice_) == ()


def test_two_models_on_one_node_are_two_pools():
    found = read(
        a_slice(a_device(uuid="GPU-0"), a_device(uuid="GPU-1", product="NVIDIA L4", memory="23034Mi"))
    )
    assert {pool.shape.accelerator for pool in found} == {"nvidia-h100-80gb", "nvidia-l4"}


def test_the_nodes_own_pool_label_names_it():
    (pool,) = read(a_slice(a_device()), labels={"kubernetes.azure.com/agentpool": "gpupool"})
    assert (pool.shape.id.source.value, pool.shape.id.name) == ("aks-agentpool", "gpupool")
