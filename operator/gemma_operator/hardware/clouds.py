"""Node groups of clouds that tell little more than a name and a machine type: EKS, AKS, LKE, OKE.

Sources: the labels that AWS managed node groups, Azure (MicrosoftDocs/azure-aks-docs, use-labels),
Linode and Oracle put on their nodes, as published nodes print them. Which card a machine has stands in
the catalog's list of machine types, one for all clouds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts, Membership
from gemma_operator.hardware.records import PoolSource

#: The beta label is the only one in old listings; GFD's machine is EC2's type, where it runs there.
MACHINE_TYPE_LABELS: Final = (
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "nvidia.com/gpu.machine",
)
EKS_CAPACITY: Final = "eks.amazonaws.com/capacityType"

_POOL_LABELS: Final = (
    ("kubernetes.azure.com/agentpool", PoolSource.AKS_AGENTPOOL),
    ("agentpool", PoolSource.AKS_AGENTPOOL),
    ("eks.amazonaws.com/nodegroup", PoolSource.EKS_NODEGROUP),
    ("lke.linode.com/pool-id", PoolSource.LKE_POOL),
    ("oke.oraclecloud.com/pool.name", PoolSource.OKE_POOL),
)
_AWS_ACCELERATOR = "k8s.amazonaws.com/accelerator"  # the autoscaler's, set by hand on managed node groups
_EKS_CAPACITY = {"SPOT": True, "ON_DEMAND": False, "CAPACITY_BLOCK": False}
_DOMAINS: Final[dict[str, tuple[str, ...]]] = {
    "nvidia": ("nvidia.com/", "microsoft.com/directx"),
    "amd": ("amd.com/",),
    "google": ("google.com/tpu",),
    "aws": ("aws.amazon.com/neuron",),
}
#: The second is the auto-provisioner's own; it also writes `regular`, which AKS itself never does
#: (Azure/karpenter-provider-azure pkg/apis/v1beta1/labels.go).
_AKS_PRIORITIES = ("kubernetes.azure.com/scalesetpriority", "kubernetes.azure.com/priority")
_AKS_PRIORITY = {"spot": True, "regular": False}
#: docs.oracle.com, Using Preemptible Capacity to Provision Worker Nodes: on preemptible nodes alone.
_OKE_PREEMPTIBLE = "oci.oraclecloud.com/oke-is-preemptible"


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """The card by machine type, else by the label that EKS' users set for the autoscaler."""
    machines = (cards.of_machine(labels.get(label, "")) for label in MACHINE_TYPE_LABELS)
    machine = next((machine for machine in machines if machine), None)
    if machine is None:
        return _by_accelerator_label(labels, resource=resource, cards=cards)
    card = cards.named(machine.accelerator)
    if card is not None and not _offers(card.vendor, resource):
        return NOTHING
    return Facts(
        card=machine.accelerator,
        memory_mib=machine.memory_mib,
        promised=machine.accelerators or None,
    )


def membership(labels: Mapping[str, str]) -> Membership | None:
    """The cloud's own group; AKS' auto-provisioned nodes carry the label with an empty value."""
    for label, source in _POOL_LABELS:
        if name := labels.get(label):
            return Membership(source=source, name=name, label=label)
    return None


def spot(labels: Mapping[str, str]) -> bool | None:
    """AKS and OKE mark what may be taken away and write nothing on other nodes, so absence tells nothing."""
    if labels.get(_OKE_PREEMPTIBLE) == "true":
        return True
    for label in _AKS_PRIORITIES:
        if (found := _AKS_PRIORITY.get(labels.get(label, ""))) is not None:
            return found
    return _EKS_CAPACITY.get(labels.get(EKS_CAPACITY, ""))


def _by_accelerator_label(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    name = labels.get(_AWS_ACCELERATOR, "")
    if not name or not resource.startswith("nvidia.com/"):
        return NOTHING
    card = cards.of_cloud_name(name)
    return Facts(product=name, card=card.name if card else "")


def _offers(vendor: str, resource: str) -> bool:
    """Whether the resource is one of this vendor's: a machine can have two kinds of devices."""
    return resource.startswith(_DOMAINS.get(vendor, ()))
