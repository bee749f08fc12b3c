"""Google Kubernetes Engine: node pools, ComputeClasses, accelerator and sharing labels.

Source: kubernetes/autoscaler, cloudprovider/gce/gce_cloud_provider.go (GPULabel) and the labels that
published nodes print. GKE tells no memory, and shows sharing and partitions in its own labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts, Membership, number
from gemma_operator.hardware.records import PoolSource, Sharing

NODEPOOL: Final = "cloud.google.com/gke-nodepool"
COMPUTE_CLASS: Final = "cloud.google.com/compute-class"
ACCELERATOR: Final = "cloud.google.com/gke-accelerator"
TPU: Final = "cloud.google.com/gke-tpu-accelerator"
PROVISIONING: Final = "cloud.google.com/gke-provisioning"

_COUNT = "cloud.google.com/gke-accelerator-count"
_STRATEGY = "cloud.google.com/gke-gpu-sharing-strategy"
_CLIENTS = "cloud.google.com/gke-max-shared-clients-per-gpu"
_PARTITION = "cloud.google.com/gke-gpu-partition-size"
_STRATEGIES = {"time-sharing": Sharing.TIME_SLICING, "mps": Sharing.MPS}
_TAKEN_AWAY = ("cloud.google.com/gke-spot", "cloud.google.com/gke-preemptible")
_PROVISIONING = {"spot": True, "preemptible": True, "standard": False, "flex-start": False}


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """The card by `gke-accelerator`, sharing by GKE's own labels."""
    if not resource.startswith("nvidia.com/"):
        return NOTHING
    name = labels.get(ACCELERATOR, "")
    card = cards.of_cloud_name(name) if name else None
    sharing = _sharing(labels)
    return Facts(
        product=name,
        card=card.name if card else "",
        memory_mib=card.slices_mib.get(labels.get(_PARTITION, "")) if card else None,
        sharing=sharing,
        clients=number(labels, _CLIENTS) if sharing in {Sharing.TIME_SLICING, Sharing.MPS} else None,
        promised=number(labels, _COUNT) if name else None,
    )


def membership(labels: Mapping[str, str]) -> Membership | None:
    """The ComputeClass before the node pool: pools that a class makes come and go under new names."""
    if name := labels.get(COMPUTE_CLASS):
        return Membership(source=PoolSource.COMPUTE_CLASS, name=name, label=COMPUTE_CLASS)
    if name := labels.get(NODEPOOL):
        return Membership(source=PoolSource.GKE_NODEPOOL, name=name, label=NODEPOOL)
    return None


def spot(labels: Mapping[str, str]) -> bool | None:
    """Preemptible machines carry no `gke-spot`; flex-start runs to its end."""
    if any(labels.get(label) == "true" for label in _TAKEN_AWAY):
        return True
    return _PROVISIONING.get(labels.get(PROVISIONING, ""))


def _sharing(labels: Mapping[str, str]) -> Sharing | None:
    if strategy := _STRATEGIES.get(labels.get(_STRATEGY, "")):
        return strategy
    clients = number(labels, _CLIENTS)
    if clients is not None and clients > 1:
        return Sharing.TIME_SLICING
    return Sharing.MIG if labels.get(_PARTITION) else None
