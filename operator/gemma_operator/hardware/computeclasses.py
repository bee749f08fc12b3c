"""GKE's ComputeClasses: which GPU nodes one may still bring, in the order of its priorities.

Only a class that creates node pools by itself brings nodes that nobody has seen; otherwise its priorities choose among
node pools that exist, and what those can grow to is not in the cluster. How many machines GKE finds nobody tells.

Source: docs.cloud.google.com/kubernetes-engine/docs/reference/crds/computeclass (cloud.google.com/v1). GKE taints GPU
nodes with `nvidia.com/gpu=present` and a class' nodes with its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.catalog.records import Accelerator, Catalog, MachineType
from gemma_operator.hardware import gke
from gemma_operator.hardware.prospects import GPU, MANY_NODES, Prospect, allocatable_of
from gemma_operator.hardware.records import NewNode, NodeRecord, Taint

_INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"


@dataclass(frozen=True, slots=True)
class Priority:
    """One rule of a class that names a GPU or a machine."""

    accelerator: str
    count: int
    machine_type: str
    #: `cloud.google.com/gke-provisioning`: standard, spot or flex-start.
    provisioning: str


@dataclass(frozen=True, slots=True)
class ComputeClassRecord:
    """What is kept of a ComputeClass: `priorities` of one that makes node pools by itself, else none."""

    name: str
    priorities: tuple[Priority, ...]
    #: Nothing says that it cannot bring nodes now.
    well: bool


def computeclass_record(obj: Mapping[str, Any]) -> ComputeClassRecord | None:
    """The record of a ComputeClass."""
    metadata, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    creation = (spec.get("nodePoolAutoCreation") or {}).get("enabled") is True
    return ComputeClassRecord(
        name=metadata.get("name", ""),
        priorities=tuple(_priority(each) for each in spec.get("priorities") or ()) if creation else (),
        well=not _is_unwell(obj),
    )


def prospects(found: ComputeClassRecord, catalog: Catalog) -> Iterator[Prospect]:
    """The GPU nodes of each priority that the catalog knows."""
    for place, priority in enumerate(found.priorities):
        machine = catalog.machine_types.get(priority.machine_type)
        card = _card(priority, machine, catalog)
        name = priority.accelerator or _accelerator_name(card)
        if not name or (machine is not None and not machine.accelerators):
            continue
        if machine is not None:
            allocatable = allocatable_of(machine, card, accelerators=priority.count or None)
        else:
            allocatable = {GPU: priority.count or 1}
        labels = _labels(found.name, priority, accelerator=name, card=card)
        yield Prospect(
            NodeRecord(
                name=f"{found.name}/{place}",
                labels=labels,
                taints=(
                    Taint(gke.COMPUTE_CLASS, found.name, "NoSchedule"),
                    Taint(GPU, "present", "NoSchedule"),
                ),
                allocatable=allocatable,
                schedulable=False,
                held_back="is not there yet",
            ),
            NewNode(allocatable, MANY_NODES if found.well else 0, labels=labels),
        )


def _priority(obj: Mapping[str, Any]) -> Priority:
    gpu = obj.get("gpu") or {}
    flexible = (obj.get("flexStart") or {}).get("enabled") is True
    return Priority(
        accelerator=gpu.get("type", ""),
        count=int(gpu.get("count") or 0),
        machine_type=obj.get("machineType", ""),
        provisioning="spot" if obj.get("spot") is True else "flex-start" if flexible else "standard",
    )


def _card(priority: Priority, machine: MachineType | None, catalog: Catalog) -> Accelerator | None:
    """Of the machine, else the one that GKE calls so."""
    if machine is not None:
        return catalog.accelerators.get(machine.accelerator)
    return next((c for c in catalog.accelerators.values() if priority.accelerator in c.cloud_names), None)


def _accelerator_name(card: Accelerator | None) -> str:
    """GKE's name for the card of a machine that a priority names alone."""
    return next((name for name in card.cloud_names if name.startswith("nvidia-")), "") if card else ""


def _labels(name: str, priority: Priority, *, accelerator: str, card: Accelerator | None) -> dict[str, str]:
    """What such a node will print, as far as it is certain."""
    found = {
        "kubernetes.io/os": "linux",
        gke.COMPUTE_CLASS: name,
        gke.ACCELERATOR: accelerator,
        gke.PROVISIONING: priority.provisioning,
        "kubernetes.io/arch": (card and card.architecture) or "amd64",
    }
    if priority.machine_type:
        found[_INSTANCE_TYPE] = priority.machine_type
    if priority.provisioning == "spot":
        found["cloud.google.com/gke-spot"] = "true"
    return found


def _is_unwell(obj: Mapping[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    unhealthy = any(each.get("type") == "Health" and each.get("status") == "False" for each in conditions)
    return unhealthy or bool((obj.get("metadata") or {}).get("deletionTimestamp"))
