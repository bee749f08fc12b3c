"""Karpenter's NodePools: which GPU nodes they may still bring.

A NodePool names no machines: it has requirements, which each machine of the catalog is tried against. A requirement on
something that the catalog does not tell of a machine (a zone, a local disk) is taken as met: Karpenter knows, and a
plan that waits says so. Static NodePools (`replicas`) bring nothing on demand.

Sources: kubernetes-sigs/karpenter pkg/apis/v1/nodepool.go, labels.go; the labels of a machine from
aws/karpenter-provider-aws website/content/en/docs/reference/instance-types.md and
Azure/karpenter-provider-azure pkg/apis/v1beta1/labels.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.catalog.records import Accelerator, Catalog, MachineType
from gemma_operator.hardware import karpenter
from gemma_operator.hardware.nodes import amounts, kept_taints
from gemma_operator.hardware.prospects import Prospect, allocatable_of, nodes_within
from gemma_operator.hardware.records import NewNode, NodeRecord, Taint

INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
_AWS: Final[Mapping[str, str]] = {
    "karpenter.k8s.aws": "karpenter.k8s.aws/instance-",
    "eks.amazonaws.com": "eks.amazonaws.com/instance-",
}
_AZURE: Final = "karpenter.azure.com"
_CAPACITY_TYPES: Final = ("on-demand", "spot", "reserved")
_AWS_NAME = re.compile(
    r"(?P<family>(?P<category>[a-z]+)(?P<generation>[0-9]+)[a-z0-9-]*)\.(?P<size>[a-z0-9-]+)"
)
#: Labels about devices: one that the catalog does not tell of a machine is one that the machine has not.
_DEVICES = re.compile(r"/(instance|sku)-(gpu|accelerator)-")
#: As Karpenter takes a size apart (Azure/skewer vmsize.go): `NDR_` and `xl_` are no part of the accelerator's name.
_AZURE_NAME = re.compile(
    r"Standard_(?P<family>[A-Z])[A-Za-z0-9-]+?(?:_NDR|_noib|_flex)?(?:_(?:xl_)?(?P<gpu>[A-Z0-9]+))?(?:_v(?P<version>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of `requirements`: a label of the node, and what it may be."""

    key: str
    operator: str
    values: tuple[str, ...]

    def met_by(self, value: str | None) -> bool:
        """Whether a node with this value of the label, or without it (None), is allowed."""
        if value is None:
            return self.operator in {"NotIn", "DoesNotExist"}
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        if self.operator in _COMPARED:
            return _compared(self.operator, value, self.values)
        return self.operator != "DoesNotExist"


@dataclass(frozen=True, slots=True)
class NodePoolRecord:
    """What is kept of a NodePool: `left` is what its limits leave, None where it brings no nodes now."""

    name: str
    provider: str
    requirements: tuple[Requirement, ...]
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    left: Mapping[str, int] | None


def nodepool_record(obj: Mapping[str, Any]) -> NodePoolRecord | None:
    """The record of a NodePool (karpenter.sh/v1)."""
    metadata, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    template = spec.get("template") or {}
    node = template.get("spec") or {}
    return NodePoolRecord(
        name=metadata.get("name", ""),
        provider=(node.get("nodeClassRef") or {}).get("group", ""),
        requirements=tuple(
            Requirement(each.get("key", ""), each.get("operator", ""), tuple(each.get("values") or ()))
            for each in node.get("requirements") or ()
        ),
        labels=dict((template.get("metadata") or {}).get("labels") or {}),
        taints=kept_taints(node.get("taints") or ()),
        left=None if _is_closed(obj) else _left(spec, obj.get("status") or {}),
    )


def prospects(pool: NodePoolRecord, catalog: Catalog) -> Iterator[Prospect]:
    """Every GPU node that the pool may bring; also while its limits leave none, so that its shapes stay known."""
    for machine in catalog.machine_types.values():
        card = catalog.accelerators.get(machine.accelerator)
        labels = _labels_of(machine, card, pool)
        if not machine.accelerators or labels is None or not _allowed(pool, labels):
            continue
        allocatable = allocatable_of(machine, card)
        left = pool.left or {}
        more = 0 if pool.left is None else nodes_within(left, allocatable)
        for capacity_type in _capacity_types(pool):
            printed = _printed(pool, labels, capacity_type)
            yield Prospect(
                NodeRecord(
                    name=f"{pool.name}/{machine.name}/{capacity_type}",
                    labels=printed,
                    taints=pool.taints,
                    allocatable=allocatable,
                    schedulable=False,
                    held_back="is not there yet",
                ),
                NewNode(allocatable, more, limits=left, labels=printed),
            )


def _is_closed(obj: Mapping[str, Any]) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    unready = any(each.get("type") == "Ready" and each.get("status") == "False" for each in conditions)
    static = (obj.get("spec") or {}).get("replicas") is not None
    return unready or static or bool((obj.get("metadata") or {}).get("deletionTimestamp"))


def _left(spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, int]:
    limits, used = amounts(spec.get("limits") or {}), amounts(status.get("resources") or {})
    return {name: limit - used.get(name, 0) for name, limit in limits.items()}


def _allowed(pool: NodePoolRecord, labels: Mapping[str, str]) -> bool:
    """Every requirement on a label that the catalog tells of the machine is met."""
    return all(
        requirement.met_by(labels.get(requirement.key))
        for requirement in pool.requirements
        if requirement.key in labels or _DEVICES.search(requirement.key)
    )


def _capacity_types(pool: NodePoolRecord) -> Sequence[str]:
    """On demand, where nothing is said (Karpenter's default)."""
    asked = [each for each in pool.requirements if each.key == karpenter.CAPACITY_TYPE]
    if not asked:
        return _CAPACITY_TYPES[:1]
    return [kind for kind in _CAPACITY_TYPES if all(each.met_by(kind) for each in asked)]


def _printed(pool: NodePoolRecord, labels: Mapping[str, str], capacity_type: str) -> dict[str, str]:
    """The labels that such a node will carry, as far as they are certain."""
    settled = {
        each.key: each.values[0]
        for each in pool.requirements
        if each.operator == "In" and len(each.values) == 1
    }
    return {
        **settled,
        **pool.labels,
        **labels,
        karpenter.NODEPOOL: pool.name,
        karpenter.CAPACITY_TYPE: capacity_type,
    }


def _labels_of(machine: MachineType, card: Accelerator | None, pool: NodePoolRecord) -> dict[str, str] | None:
    """The labels of such a node, as far as lists tell; None for a machine of another cloud."""
    listed = _listed(machine, card, pool)
    if listed is None:
        return None
    host = {"kubernetes.io/os": "linux", "kubernetes.io/arch": (card and card.architecture) or "amd64"}
    return {**host, **listed}


def _listed(machine: MachineType, card: Accelerator | None, pool: NodePoolRecord) -> dict[str, str] | None:
    """What the provider's list of machines says of it."""
    if pool.provider in _AWS:
        return _aws_labels(machine, card, prefix=_AWS[pool.provider])
    if pool.provider == _AZURE:
        return _azure_labels(machine, card)
    named = [each for each in pool.requirements if each.key == INSTANCE_TYPE and each.operator == "In"]
    return {INSTANCE_TYPE: machine.name} if any(machine.name in each.values for each in named) else None


def _aws_labels(machine: MachineType, card: Accelerator | None, *, prefix: str) -> dict[str, str] | None:
    name = _AWS_NAME.fullmatch(machine.name)
    if name is None:
        return None
    found = {
        INSTANCE_TYPE: machine.name,
        f"{prefix}family": name["family"],
        f"{prefix}category": name["category"],
        f"{prefix}generation": name["generation"],
        f"{prefix}size": name["size"],
    }
    vendor = card.vendor if card else ""
    kind = "accelerator" if vendor == "aws" else "gpu"  # Neuron chips have labels of their own
    found[f"{prefix}{kind}-manufacturer"] = vendor
    found[f"{prefix}{kind}-count"] = str(machine.accelerators)
    short = [each for each in card.cloud_names if not each.startswith("nvidia-")] if card else []
    if short:
        found[f"{prefix}{kind}-name"] = short[0]
    if kind == "gpu" and card is not None and card.memory_mib:
        found[f"{prefix}gpu-memory"] = str(card.memory_mib)
    if machine.host_cpu_millis:
        found[f"{prefix}cpu"] = str(-(-machine.host_cpu_millis // 1000))
    return found


def _azure_labels(machine: MachineType, card: Accelerator | None) -> dict[str, str] | None:
    name = _AZURE_NAME.fullmatch(machine.name)
    if name is None:
        return None
    prefix = "karpenter.azure.com/sku-"
    found = {
        INSTANCE_TYPE: machine.name,
        f"{prefix}name": machine.name,
        f"{prefix}family": name["family"],
        f"{prefix}gpu-manufacturer": card.vendor if card else "",
        f"{prefix}gpu-count": str(machine.accelerators),
    }
    for part, key in (("gpu", "gpu-name"), ("version", "version")):
        if name[part]:
            found[f"{prefix}{key}"] = name[part]
    return found


def _compared(operator: str, value: str, values: Sequence[str]) -> bool:
    if not values or not (value.isdecimal() and values[0].isdecimal()):
        return False
    return _COMPARED[operator](int(value), int(values[0]))


_COMPARED: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "Gt": lambda one, other: one > other,
    "Lt": lambda one, other: one < other,
    "Gte": lambda one, other: one >= other,
    "Lte": lambda one, other: one <= other,
}
