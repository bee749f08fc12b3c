"""Karpenter and what speaks its labels: AWS' provider, EKS Auto Mode, Azure's node auto-provisioning.

Source: kubernetes-sigs/karpenter, pkg/apis/v1/labels.go; aws/karpenter-provider-aws and
Azure/karpenter-provider-azure, their labels.go. Counts and memory are those of the provider's list of
machines: a promise and a nominal figure, not what a driver found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.catalog.records import Accelerator
from gemma_operator.hardware.cards import MEMORY_TOLERANCE_PERCENT, Cards
from gemma_operator.hardware.facts import NOTHING, Facts, Membership, number
from gemma_operator.hardware.records import PoolSource

NODEPOOL: Final = "karpenter.sh/nodepool"
CAPACITY_TYPE: Final = "karpenter.sh/capacity-type"

#: Before v1beta1 a NodePool was a Provisioner.
_POOL_LABELS = (NODEPOOL, "karpenter.sh/provisioner-name")
#: Azure's H100 is the card of 80 GB or the NVL of 94: only the machine type tells, so the name is no name.
_AZURE_PREFIX = "karpenter.azure.com/sku-gpu-"
_GPU_PREFIXES = (
    "karpenter.k8s.aws/instance-gpu-",
    "eks.amazonaws.com/instance-gpu-",
    _AZURE_PREFIX,
)
#: By these a pod asks a NodePool for one kind of GPU node among several that it may bring.
GPU_LABELS: Final = tuple(f"{prefix}{key}" for prefix in _GPU_PREFIXES for key in ("name", "count"))
_GPU_KEYS = ("name", "memory", "count")
_CAPACITY = {"spot": True, "on-demand": False, "reserved": False}


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """The card by its short name; AMD's, where the manufacturer says so, is nothing of `nvidia.com`."""
    prefix = _printed_prefix(labels)
    if prefix is None or not resource.startswith("nvidia.com/"):
        return NOTHING
    name, nominal_mib = listed_gpu(labels)
    named = name and prefix != _AZURE_PREFIX
    card = cards.of_cloud_name(name, nominal_mib=nominal_mib) if named else None
    return Facts(
        product=name,
        card=card.name if card else "",
        memory_mib=_part_of(card, nominal_mib),
        nominal_mib=nominal_mib,
        promised=number(labels, f"{prefix}count"),
    )


def listed_gpu(labels: Mapping[str, str]) -> tuple[str, int | None]:
    """(name, memory in MiB) of the machine's GPU in the provider's list, whoever made it."""
    prefix = _printed_prefix(labels)
    return (labels.get(f"{prefix}name", ""), number(labels, f"{prefix}memory")) if prefix else ("", None)


def _printed_prefix(labels: Mapping[str, str]) -> str | None:
    printed = (prefix for prefix in _GPU_PREFIXES if any(f"{prefix}{key}" in labels for key in _GPU_KEYS))
    return next(printed, None)


def _part_of(card: Accelerator | None, nominal_mib: int | None) -> int | None:
    """The memory of a machine with a fraction of a card (g6f says `l4` and 2861), as sure as a list can be."""
    if card is None or card.memory_mib is None or nominal_mib is None:
        return None
    sure_mib = nominal_mib * (100 - MEMORY_TOLERANCE_PERCENT) // 100
    return sure_mib if nominal_mib * (100 + MEMORY_TOLERANCE_PERCENT) < card.memory_mib * 100 else None


def membership(labels: Mapping[str, str]) -> Membership | None:
    """The NodePool; an empty value is no pool."""
    for label in _POOL_LABELS:
        if name := labels.get(label):
            return Membership(source=PoolSource.KARPENTER_NODEPOOL, name=name, label=label)
    return None


def spot(labels: Mapping[str, str]) -> bool | None:
    """`karpenter.sh/capacity-type`."""
    return _CAPACITY.get(labels.get(CAPACITY_TYPE, ""))
