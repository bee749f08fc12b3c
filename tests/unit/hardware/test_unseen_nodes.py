"""Nodes that nobody has shown: what two daemons' sources say that they write, in any combination, reads as the truth.

The nodes are made by `labelling`, which knows nothing of the package; the rest are names that each platform's own
source lists and no recorded node carries.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware import membership
from gemma_operator.hardware.dra import slice_record
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, Sharing
from unit.hardware.labelling import GPU, Config, Machine, labels_and_allocatable

CARDS = [
    (card, product)
    for card in packaged().accelerators.values()
    if card.vendor == "nvidia" and card.memory_mib and card.compute_capability
    for product in card.products
]
STRATEGIES = {"none": Sharing.NONE, "time-slicing": Sharing.TIME_SLICING, "mps": Sharing.MPS}


def read(labels, allocatable):
    node = {
        "metadata": {"name": "n", "labels": {"kubernetes.io/os": "linux", **labels}},
        "status": {"allocatable": {"cpu": "8", "memory": "64Gi", "pods": "110", **allocatable}},
    }
    return {pool.shape.id.resource_name: pool.shape for pool in pools([node_record(node)], (), packaged())}


def read_one(labels, allocatable):
    (shape,) = read(labels, allocatable).values()
    return shape


cards = st.sampled_from(CARDS)
sharings = st.sampled_from(["time-slicing", "mps"])


@given(card=cards, count=st.integers(1, 16))
def test_whole_cards(card, count):
    known, product = card
    machine = Machine(product, known.memory_mib, known.compute_capability, whole=count)
    shape = read_one(*labels_and_allocatable(machine, Config()))
    assert (shape.accelerator, shape.memory_mib, shape.accelerators_per_node) == (
        known.name,
        known.memory_mib,
        count,
    )
    assert (shape.sharing, shape.compute_capability) == (Sharing.NONE, known.compute_capability)
    assert (shape.verified, shape.refused) == (True, known.refused)


@given(
    card=cards, count=st.integers(1, 8), sharing=sharings, replicas=st.integers(2, 48), rename=st.booleans()
)
def test_shared_cards_with_and_without_a_new_name(card, count, sharing, replicas, rename):
    known, product = card
    machine = Machine(product, known.memory_mib, known.compute_capability, whole=count)
    config = Config(sharing=sharing, replicas=replicas, rename=rename)
    shape = read_one(*labels_and_allocatable(machine, config))
    assert shape.id.resource_name == (f"{GPU}.shared" if rename else GPU)
    assert (shape.accelerator, shape.sharing, shape.clients_per_device) == (
        known.name,
        STRATEGIES[sharing],
        replicas,
    )
    assert shape.memory_mib == known.memory_mib // replicas
    assert (shape.accelerators_per_node, shape.device_memory_mib) == (count * replicas, known.memory_mib)
    assert shape.refused == known.refused


A100 = ("NVIDIA-A100-SXM4-80GB", 81920, (8, 0))
PROFILES = {"1g.10gb": (7, 9728), "2g.20gb": (3, 19968), "3g.40gb": (2, 40192), "1g.10gb.me": (1, 9728)}


@given(
    profile=st.sampled_from(sorted(PROFILES)),
    cut=st.integers(1, 8),
    replicas=st.sampled_from([1, 1, 2, 5]),
    rename=st.booleans(),
)
def test_slices_under_the_single_strategy(profile, cut, replicas, rename):
    each, mib = PROFILES[profile]
    machine = Machine(*A100, whole=0, cut=cut, slices={profile: (each, mib)})
    sharing = "time-slicing" if replicas > 1 else "none"
    config = Config("single", sharing=sharing, replicas=replicas, rename=rename and replicas > 1)
    shape = read_one(*labels_and_allocatable(machine, config))
    assert (shape.accelerator, shape.memory_mib, shape.refused) == ("nvidia-a100-80gb", mib // replicas, "")
    assert shape.accelerators_per_node == each * cut * replicas
    assert (shape.sharing, shape.clients_per_device) == (
        (Sharing.TIME_SLICING, replicas) if replicas > 1 else (Sharing.MIG, 1)
    )
    assert not shape.verified


@given(
    chosen=st.sets(st.sampled_from(sorted(PROFILES)), min_size=1),
    whole=st.integers(0, 4),
    cut=st.integers(1, 4),
    shared=st.sets(st.sampled_from([GPU, *(f"nvidia.com/mig-{name}" for name in PROFILES)])),
    replicas=st.integers(2, 6),
    rename=st.booleans(),
)
def test_slices_and_whole_cards_under_the_mixed_strategy(chosen, whole, cut, shared, replicas, rename):
    machine = Machine(*A100, whole=whole, cut=cut, slices={name: PROFILES[name] for name in chosen})
    config = Config(
        "mixed",
        sharing="time-slicing" if shared else "none",
        replicas=replicas if shared else 1,
        shared=tuple(shared),
        rename=rename,
    )
    found = read(*labels_and_allocatable(machine, config))
    expected = {f"nvidia.com/mig-{name}": (PROFILES[name][0] * cut, PROFILES[name][1]) for name in chosen}
    expected |= {GPU: (whole, 81920)} if whole else {}
    assert len(found) == len(expected)
    for name, (count, mib) in expected.items():
        times = replicas if name in shared else 1
        shape = found[f"{name}.shared" if rename and times > 1 else name]
        alone = Sharing.NONE if name == GPU else Sharing.MIG
        assert shape.sharing is (Sharing.TIME_SLICING if times > 1 else alone)
        assert (shape.accelerator, shape.accelerators_per_node) == ("nvidia-a100-80gb", count * times)
        assert (shape.memory_mib, shape.clients_per_device) == (mib // times, times)
        assert shape.refused == ""


@given(whole=st.integers(0, 4), cut=st.integers(1, 4), profiles=st.sets(st.sampled_from(sorted(PROFILES))))
def test_a_layout_that_the_single_strategy_cannot_name_is_refused(whole, cut, profiles):
    machine = Machine(*A100, whole=whole, cut=cut, slices={name: PROFILES[name] for name in profiles})
    labels, allocatable = labels_and_allocatable(machine, Config("single"))
    valid = whole == 0 and len(profiles) == 1
    shape = read_one(labels, allocatable)
    assert ("INVALID" in labels[f"{GPU}.product"]) is not valid
    assert ("MIG layout is invalid" in shape.refused) is not valid


@given(
    memory=st.integers(2000, 400_000),
    name=st.from_regex(r"NVIDIA-[A-Z][0-9]{2,4}[A-Z]?-[0-9]{2,3}GB", fullmatch=True),
    capability=st.sampled_from([(8, 0), (8, 9), (9, 0), (10, 0), (12, 0), (13, 0)]),
)
def test_a_name_that_nobody_knows_is_planned_from_what_the_driver_says_and_not_from_its_name(
    memory, name, capability
):
    if packaged_knows(name):
        return
    shape = read_one(*labels_and_allocatable(Machine(name, memory, capability), Config()))
    assert (shape.accelerator, shape.memory_mib, shape.compute_capability) == ("unknown", memory, capability)
    assert not shape.verified
    assert shape.refused == ""


def packaged_knows(name):
    return any(product.lower().endswith(name.lower().removeprefix("nvidia-")) for _, product in CARDS)


@pytest.mark.parametrize(
    ("product", "label_mib", "mib"),
    [
        ("NVIDIA-A10-24Q", "24512", 24512),  # AKS, NV36ads A10 v5: a whole card by its profile
        ("NVIDIA-A10-4Q", "", 3809),
        ("GRID-A100D-7-80C", "", 76185),
        ("GRID-A100-1-5CME", "", 4761),
        ("NVIDIA-RTX-Pro-6000-Blackwell-DC-1-12Q", "", 11427),
        ("GRID-T4-16C", "16384", 16384),
    ],
)
def test_a_vgpu_profile_is_as_large_as_it_says_and_no_card_of_the_catalog(product, label_mib, mib):
    labels = {
        f"{GPU}.product": product,
        f"{GPU}.count": "1",
        **({f"{GPU}.memory": label_mib} if label_mib else {}),
    }
    shape = read_one(labels, {GPU: "1"})
    assert (shape.accelerator, shape.memory_mib, shape.verified) == ("unknown", mib, False)


def test_azures_visualisation_machine_is_its_card_by_type_and_its_memory_by_the_driver():
    labels = {
        "node.kubernetes.io/instance-type": "Standard_NV36ads_A10_v5",
        "kubernetes.azure.com/agentpool": "infnp",
        f"{GPU}.product": "NVIDIA-A10-24Q",
        f"{GPU}.memory": "24512",
        f"{GPU}.count": "1",
        "nvidia.com/cuda.driver-version.major": "570",
    }
    shape = read_one(labels, {GPU: "1"})
    assert (shape.accelerator, shape.memory_mib, shape.driver_major) == ("nvidia-a10", 24512, 570)
    assert not shape.verified


@pytest.mark.parametrize(
    ("labels", "resource", "accelerator", "memory_mib"),
    [
        ({"karpenter.k8s.aws/instance-gpu-name": "t4g"}, GPU, "nvidia-t4g", 15360),
        ({"node.kubernetes.io/instance-type": "g5g.16xlarge"}, GPU, "nvidia-t4g", 15360),
        (
            {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-device"},
            "google.com/tpu",
            "google-tpu-v5e",
            16384,
        ),
        (
            {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"},
            "google.com/tpu",
            "google-tpu-v6e",
            32768,
        ),
        (
            {"node.kubernetes.io/instance-type": "trn1.32xlarge"},
            "aws.amazon.com/neuron",
            "aws-trainium",
            32768,
        ),
        (
            {"node.kubernetes.io/instance-type": "trn2.48xlarge"},
            "aws.amazon.com/neuron",
            "aws-trainium2",
            98304,
        ),
        (
            {"node.kubernetes.io/instance-type": "inf2.24xlarge"},
            "aws.amazon.com/neuron",
            "aws-inferentia2",
            32768,
        ),
        ({"amd.com/gpu.device-id": "75b3"}, "amd.com/gpu", "amd-mi355x", 294912),
        ({"beta.amd.com/gpu.device-id.74a5": "8"}, "amd.com/gpu", "amd-mi325x", 262144),
        (
            {"beta.amd.com/gpu.device-id.74a1": "8", "beta.amd.com/gpu.vram.191G": "8"},
            "amd.com/gpu",
            "amd-mi300x",
            195584,
        ),
        ({"amd.com/gpu.product-name": "AMD_Instinct_MI350X"}, "amd.com/cpx_nps1", "amd-mi350x", 294912),
        # two kinds in one node: the counts name both, so neither is believed
        (
            {"amd.com/gpu.device-id.74a1": "4", "amd.com/gpu.device-id.74a5": "4"},
            "amd.com/gpu",
            "unknown",
            None,
        ),
        ({"amd.com/gpu.vram.64G": "2", "amd.com/gpu.vram.16G": "1"}, "amd.com/gpu", "unknown", None),
    ],
)
def test_what_is_recognised_only_to_be_refused_tells_its_memory(labels, resource, accelerator, memory_mib):
    shape = read_one(labels, {resource: "2"})
    assert (shape.accelerator, shape.memory_mib) == (accelerator, memory_mib)
    assert shape.refused


def test_a_gh200_of_144_gb_is_not_the_one_of_96():
    labels, allocatable = labels_and_allocatable(Machine("NVIDIA-GH200-144G-HBM3e", 146831, (9, 0)), Config())
    shape = read_one({**labels, "kubernetes.io/arch": "arm64"}, allocatable)
    assert (shape.accelerator, shape.memory_mib, shape.arch, shape.verified) == (
        "nvidia-gh200-144gb",
        146831,
        "arm64",
        True,
    )


@pytest.mark.parametrize(
    ("labels", "spot"),
    [
        ({"kubernetes.azure.com/scalesetpriority": "regular"}, False),
        ({"kubernetes.azure.com/priority": "spot"}, True),
        ({"kubernetes.azure.com/priority": "regular", "karpenter.sh/capacity-type": "on-demand"}, False),
        ({"oci.oraclecloud.com/oke-is-preemptible": "true"}, True),
        ({"oci.oraclecloud.com/oke-is-preemptible": "false"}, None),
        ({"oke.oraclecloud.com/pool.name": "gpu"}, None),
    ],
)
def test_who_may_be_taken_away_on_azure_and_oracle(labels, spot):
    assert membership.spot(labels) is spot


def a_partition(name, kind, mib, **attributes):
    said = {"type": {"string": kind}, "productName": {"string": "NVIDIA H100 80GB HBM3"}}
    said |= {key: {"string": value} for key, value in attributes.items()}
    counters = [{"counterSet": "gpu-0-counter-set", "counters": {"memory-slice-0": {"value": "1"}}}]
    return {
        "name": name,
        "attributes": said,
        "capacity": {"memory": {"value": f"{mib}Mi"}},
        "consumesCounters": counters,
    }


@pytest.mark.parametrize("nested", [False, True], ids=["v1", "v1beta1"])
def test_a_card_that_may_be_cut_at_will_is_one_card(nested):
    """Its slices are offers: none is there before a claim takes it."""
    whole = a_partition("gpu-0", "gpu", 81559, uuid="GPU-0")
    offers = [
        a_partition(f"gpu-0-mig-1g10gb-19-{place}", "mig", 9856, parentUUID="GPU-0", profile="1g.10gb")
        for place in range(7)
    ]
    devices = [whole, *offers]
    if nested:
        devices = [{"name": each.pop("name"), "basic": each} for each in devices]
    spec = {"driver": "gpu.nvidia.com", "nodeName": "n", "pool": {"name": "n", "generation": 1}}
    counters = {**spec, "sharedCounters": [{"name": "gpu-0-counter-set", "counters": {}}]}
    slices = [
        slice_record({"metadata": {"name": "a"}, "spec": counters}),
        slice_record({"metadata": {"name": "b"}, "spec": {**spec, "devices": devices}}),
    ]
    (pool,) = pools([NodeRecord("n", {}, (), {}, True)], (), packaged(), slices=slices)
    assert (pool.shape.id.resource_name, pool.shape.accelerators_per_node, pool.shape.memory_mib) == (
        "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
        1,
        81559,
    )
    assert pool.shape.sharing is Sharing.NONE
