"""Each label of each dialect, one at a time: what it says, and whom it yields to."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware import membership
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, PoolSource, Sharing, Taint, Toleration
from gemma_operator.hardware.tolerations import of_replica, untolerated

GPU = "nvidia.com/gpu"
L4 = {"nvidia.com/gpu.product": "NVIDIA-L4", "nvidia.com/gpu.memory": "23034"}


def shape(labels, *, resource=GPU, count=1):
    node = NodeRecord("n", labels, (), {"cpu": 8000, resource: count}, True)
    (pool,) = pools([node], (), packaged())
    return pool.shape


@pytest.mark.parametrize(
    ("labels", "spot"),
    [
        ({"cloud.google.com/gke-spot": "true"}, True),
        ({"cloud.google.com/gke-spot": "false"}, None),
        ({"cloud.google.com/gke-preemptible": "true"}, True),
        ({"cloud.google.com/gke-provisioning": "spot"}, True),
        ({"cloud.google.com/gke-provisioning": "preemptible"}, True),
        ({"cloud.google.com/gke-provisioning": "standard"}, False),
        ({"cloud.google.com/gke-provisioning": "flex-start"}, False),
        ({"karpenter.sh/capacity-type": "spot"}, True),
        ({"karpenter.sh/capacity-type": "on-demand"}, False),
        ({"karpenter.sh/capacity-type": "reserved"}, False),
        ({"eks.amazonaws.com/capacityType": "SPOT"}, True),
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, False),
        ({"eks.amazonaws.com/capacityType": "CAPACITY_BLOCK"}, False),
        ({"kubernetes.azure.com/scalesetpriority": "spot"}, True),
        ({"kubernetes.azure.com/agentpool": "gpu"}, None),
        ({"karpenter.sh/capacity-type": "on-demand", "cloud.google.com/gke-spot": "true"}, True),
        ({}, None),
    ],
)
def test_who_may_be_taken_away(labels, spot):
    assert membership.spot(labels) is spot


@pytest.mark.parametrize(
    ("labels", "source", "name"),
    [
        ({"karpenter.sh/nodepool": "a"}, PoolSource.KARPENTER_NODEPOOL, "a"),
        ({"karpenter.sh/provisioner-name": "old"}, PoolSource.KARPENTER_NODEPOOL, "old"),
        ({"cloud.google.com/gke-nodepool": "b"}, PoolSource.GKE_NODEPOOL, "b"),
        (
            {"cloud.google.com/gke-nodepool": "b", "cloud.google.com/compute-class": "c"},
            PoolSource.COMPUTE_CLASS,
            "c",
        ),
        ({"kubernetes.azure.com/agentpool": "d"}, PoolSource.AKS_AGENTPOOL, "d"),
        ({"agentpool": "legacy"}, PoolSource.AKS_AGENTPOOL, "legacy"),
        (
            {"kubernetes.azure.com/agentpool": "", "karpenter.sh/nodepool": "nap"},
            PoolSource.KARPENTER_NODEPOOL,
            "nap",
        ),
        ({"eks.amazonaws.com/nodegroup": "e"}, PoolSource.EKS_NODEGROUP, "e"),
        ({"lke.linode.com/pool-id": "17"}, PoolSource.LKE_POOL, "17"),
        ({"oke.oraclecloud.com/pool.name": "f"}, PoolSource.OKE_POOL, "f"),
        (
            {"karpenter.sh/nodepool": "a", "eks.amazonaws.com/nodegroup": "e"},
            PoolSource.KARPENTER_NODEPOOL,
            "a",
        ),
    ],
)
def test_which_label_names_the_pool(labels, source, name):
    found = membership.of_labels(labels)
    assert (found.source, found.name) == (source, name)
    assert labels[found.label] == name


def test_an_empty_label_is_no_pool():
    assert membership.of_labels({"agentpool": "", "kubernetes.azure.com/agentpool": ""}) is None


@pytest.mark.parametrize(
    ("labels", "accelerator", "memory_mib"),
    [
        ({"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"}, "nvidia-a100-40gb", 40960),
        ({"karpenter.k8s.aws/instance-gpu-name": "l4"}, "nvidia-l4", 23034),
        ({"eks.amazonaws.com/instance-gpu-name": "h100"}, "nvidia-h100-80gb", 81559),
        (
            {
                "karpenter.azure.com/sku-gpu-name": "H100",
                "node.kubernetes.io/instance-type": "Standard_NC40ads_H100_v5",
            },
            "nvidia-h100-nvl",
            95830,
        ),
        (
            {
                "karpenter.azure.com/sku-gpu-name": "A100",
                "node.kubernetes.io/instance-type": "Standard_NC24ads_A100_v4",
            },
            "nvidia-a100-80gb",
            81920,
        ),
        ({"karpenter.k8s.aws/instance-gpu-name": "a100"}, "unknown", None),
        (
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "40960"},
            "nvidia-a100-40gb",
            40960,
        ),
        (
            {"karpenter.k8s.aws/instance-gpu-name": "a100", "karpenter.k8s.aws/instance-gpu-memory": "81920"},
            "nvidia-a100-80gb",
            81920,
        ),
        ({"k8s.amazonaws.com/accelerator": "nvidia-l40s"}, "nvidia-l40s", 46068),
        ({"node.kubernetes.io/instance-type": "g6.12xlarge"}, "nvidia-l4", 23034),
        ({"beta.kubernetes.io/instance-type": "g5.xlarge"}, "nvidia-a10g", 23028),
        ({"nvidia.com/gpu.machine": "p5.48xlarge"}, "nvidia-h100-80gb", 81559),
        ({"node.kubernetes.io/instance-type": "standard_nc24ads_a100_v4"}, "nvidia-a100-80gb", 81920),
        ({"nvidia.com/gpu.product": "NVIDIA-H100-PCIe"}, "nvidia-h100-80gb", 81559),
        ({"nvidia.com/gpu.product": "Tesla-T4"}, "nvidia-t4", 15360),
        ({"kubernetes.azure.com/accelerator": "nvidia"}, "unknown", None),
    ],
)
def test_which_label_names_the_card(labels, accelerator, memory_mib):
    found = shape(labels)
    assert (found.accelerator, found.memory_mib) == (accelerator, memory_mib)


def test_the_driver_is_believed_over_the_cloud():
    assert shape(L4 | {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}).accelerator == "nvidia-l4"


def test_a_label_is_believed_over_the_machine_type():
    labels = {"karpenter.k8s.aws/instance-gpu-name": "l4", "node.kubernetes.io/instance-type": "g5.xlarge"}
    assert shape(labels).accelerator == "nvidia-l4"


@pytest.mark.parametrize(("memory", "verified"), [("23034", True), ("22888", True), ("22000", False)])
def test_a_card_whose_memory_is_another_one_is_not_verified(memory, verified):
    assert shape(L4 | {"nvidia.com/gpu.memory": memory}).verified is verified


@pytest.mark.parametrize(("count", "refused"), [(16, False), (17, True)])
def test_more_than_sixteen_are_never_whole_gpus(count, refused):
    assert bool(shape(L4, count=count).refused) is refused


@pytest.mark.parametrize(
    ("labels", "sharing", "clients"),
    [
        ({"nvidia.com/gpu.sharing-strategy": "mps", "nvidia.com/gpu.replicas": "2"}, Sharing.MPS, 2),
        ({"nvidia.com/gpu.sharing-strategy": "none", "nvidia.com/gpu.replicas": "1"}, Sharing.NONE, 1),
        ({"nvidia.com/gpu.replicas": "3"}, Sharing.TIME_SLICING, 3),
        (
            {
                "cloud.google.com/gke-gpu-sharing-strategy": "mps",
                "cloud.google.com/gke-max-shared-clients-per-gpu": "5",
            },
            Sharing.MPS,
            5,
        ),
        ({"cloud.google.com/gke-max-shared-clients-per-gpu": "6"}, Sharing.TIME_SLICING, 6),
        ({"cloud.google.com/gke-max-shared-clients-per-gpu": "1"}, Sharing.NONE, 1),
    ],
)
def test_who_shares_a_card_and_among_how_many(labels, sharing, clients):
    found = shape(L4 | labels)
    assert (found.sharing, found.clients_per_device) == (sharing, clients)
    assert found.memory_mib == 23034 // clients


def test_tickets_on_slices_are_shared_slices():
    prefix = "nvidia.com/mig-1g.10gb"
    labels = {f"{prefix}.memory": "9728", f"{prefix}.count": "7", f"{prefix}.replicas": "2"}
    found = shape(labels | {f"{prefix}.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb-SHARED"}, resource=prefix)
    assert (found.sharing, found.clients_per_device, found.memory_mib) == (Sharing.TIME_SLICING, 2, 4864)
    assert found.accelerator == "nvidia-a100-80gb"


@pytest.mark.parametrize(
    ("labelled", "memory_mib"),
    [
        ({"3g.21gb": "20096"}, 20096),
        ({"3g.20gb": "19968", "3g.21gb": "20096"}, 19968),
        ({"3g.21gb": "20096", "3g.19gb": "18000"}, None),
        ({"3g.22gb": "21000"}, None),
        ({"2g.20gb": "20096"}, None),
        ({"3g.21gb.me": "20096"}, None),
    ],
)
def test_a_slice_is_found_under_the_name_that_old_labels_gave_it(labelled, memory_mib):
    labels = {f"nvidia.com/mig-{profile}.memory": memory for profile, memory in labelled.items()}
    assert shape(labels, resource="nvidia.com/mig-3g.20gb").memory_mib == memory_mib


@pytest.mark.parametrize(
    ("labels", "major"),
    [
        ({"nvidia.com/cuda.driver-version.major": "580", "nvidia.com/cuda.driver.major": "1"}, 580),
        ({"nvidia.com/cuda.driver.major": "535"}, 535),
        ({}, None),
    ],
)
def test_the_driver_is_read_from_new_and_old_labels(labels, major):
    assert shape(L4 | labels).driver_major == major


@pytest.mark.parametrize(
    "resource",
    [
        "amd.com/gpu",
        "google.com/tpu",
        "aws.amazon.com/neuron",
        "aws.amazon.com/neuroncore",
        "gpu.intel.com/xe",
        "habana.ai/gaudi",
        "microsoft.com/directx",
    ],
)
def test_other_vendors_are_recognised_and_refused(resource):
    assert "need another engine build" in shape({}, resource=resource).refused


@pytest.mark.parametrize(
    ("labels", "resource"),
    [
        ({"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"}, "google.com/tpu"),
        ({"beta.amd.com/gpu.family": "AI"}, "amd.com/gpu"),
        ({"karpenter.k8s.aws/instance-accelerator-name": "inferentia2"}, "aws.amazon.com/neuron"),
    ],
)
def test_other_vendors_are_recognised_by_their_labels_alone(labels, resource):
    (pool,) = pools([NodeRecord("n", labels, (), {}, True)], (), packaged())
    assert pool.shape.id.resource_name == resource
    assert pool.shape.refused


@pytest.mark.parametrize(
    "resource",
    [
        "nvidia.com/hostdev",
        "nvidia.com/gpumem",
        "nvidia.com/gpucores",
        "rdma/hca",
        "vpc.amazonaws.com/efa",
        "cpu",
    ],
)
def test_what_is_no_accelerator_makes_no_pool(resource):
    assert pools([NodeRecord("n", {}, (), {resource: 8}, True)], (), packaged()) == ()


@pytest.mark.parametrize(
    "key",
    [
        "node.kubernetes.io/not-ready",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "karpenter.sh/unregistered",
        "ToBeDeletedByClusterAutoscaler",
        "cloud.google.com/impending-node-termination",
        "ebs.csi.aws.com/agent-not-ready",
        "startup-taint.cluster-autoscaler.kubernetes.io/registry-cache",
        "status-taint.cluster-autoscaler.kubernetes.io/unhealthy",
        "ignore-taint.cluster-autoscaler.kubernetes.io/cilium",
        "readiness.k8s.io/gpu-driver",
        "remediator.kubernetes.azure.com/unschedulable",
        "remediator.aks.microsoft.com/unschedulable",
        "aws-node-termination-handler/spot-itn",
    ],
)
def test_a_taint_of_a_nodes_life_keeps_pods_off_and_changes_no_shape(key):
    record = node_record(
        {
            "kind": "Node",
            "metadata": {"name": "n"},
            "spec": {"taints": [{"key": key, "effect": "NoSchedule"}]},
        }
    )
    assert (record.schedulable, record.taints) == (False, ())


def test_azures_count_is_a_promise_where_nothing_is_printed():
    labels = {"karpenter.azure.com/sku-gpu-name": "A100", "karpenter.azure.com/sku-gpu-count": "2"}
    (pool,) = pools([NodeRecord("n", labels, (), {}, True)], (), packaged())
    assert (pool.shape.accelerators_per_node, pool.shape.accelerator) == (2, "unknown")


def test_a_toleration_of_one_effect_tolerates_no_other():
    toleration = Toleration(key="team", operator="Exists", value="", effect="NoExecute")
    taints = [Taint("team", "x", effect) for effect in ("NoSchedule", "NoExecute")]
    assert untolerated(taints, [toleration]) == (taints[0],)


@pytest.mark.parametrize(
    ("taint", "forbidden", "allowed"),
    [
        (Taint("nvidia.com/gpu", "present", "NoSchedule"), True, True),
        (Taint("amd.com/gpu", "", "NoExecute"), True, True),
        (Taint("sku", "gpu", "NoSchedule"), True, True),
        (Taint("sku", "cpu", "NoSchedule"), False, False),
        (Taint("cloud.google.com/gke-spot", "true", "NoSchedule"), False, True),
        (Taint("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule"), False, True),
        (Taint("team", "x", "NoSchedule"), False, False),
    ],
)
def test_what_is_tolerated_unasked(taint, forbidden, allowed):
    for spot, tolerated in (("Forbidden", forbidden), ("Allowed", allowed), ("Required", allowed)):
        given = of_replica(users=(), pools=(), spot=spot)
        assert (untolerated([taint], given) == ()) is tolerated
