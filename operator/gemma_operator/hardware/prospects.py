"""Nodes that are not there yet, as they will look when Karpenter or GKE brings them.

A NodePool or a ComputeClass says which machines it may bring; the catalog says what those machines hold. Each is made
into the node that it would become, and read by the same dialects as the live ones: so it falls into the shape that the
first real node will have, wherever the cloud's list and the driver agree.

What is not known is not checked: the disk of a node that Karpenter brings is its NodeClass' business, and how many
machines a cloud has left nobody tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import Accelerator, MachineType
from gemma_operator.hardware.records import NewNode, NodeRecord

GPU: Final = "nvidia.com/gpu"
#: The resource that counts a vendor's devices; those that no engine here runs on are shown with the reason.
RESOURCES: Final[Mapping[str, str]] = {
    "nvidia": GPU,
    "amd": "amd.com/gpu",
    "aws": "aws.amazon.com/neuron",
    "google": "google.com/tpu",
}
#: Where nothing limits a pool: as many as one deployment may have replicas.
MANY_NODES: Final = 1000
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Prospect:
    """One kind of node that a pool may bring: as it will look, and what of it there may be."""

    node: NodeRecord
    new: NewNode


def allocatable_of(
    machine: MachineType, card: Accelerator | None, *, accelerators: int | None = None
) -> dict[str, int]:
    """What a node of this machine has to give, as far as a list tells."""
    resource = RESOURCES.get(card.vendor, GPU) if card else GPU
    found = {resource: machine.accelerators if accelerators is None else accelerators}
    if machine.host_cpu_millis:
        found["cpu"] = machine.host_cpu_millis
    if machine.host_memory_mib:
        found["memory"] = machine.host_memory_mib * MIB
    return found


def nodes_within(left: Mapping[str, int], allocatable: Mapping[str, int]) -> int:
    """Nodes that a limit has room for. A limit on what no list tells of a node holds once it is used up."""
    each = {**allocatable, "nodes": 1}
    counts = [
        amount // each[name] if each.get(name) else (0 if amount <= 0 else MANY_NODES)
        for name, amount in left.items()
    ]
    return max(0, min((MANY_NODES, *counts)))


def together(new: Iterable[NewNode]) -> NewNode | None:
    """Of several machines of one shape the one with the roomiest host: whoever brings nodes picks what fits."""
    found = list(new)
    if not found:
        return None
    roomiest = max(found, key=_host)
    return NewNode(
        allocatable=roomiest.allocatable,
        more_nodes=roomiest.more_nodes,
        limits=roomiest.limits,
        labels=_shared(found),
    )


def _host(new: NewNode) -> tuple[float, float, int]:
    """A host of which nothing is told limits nothing."""
    unknown = float("inf")
    return (
        new.allocatable.get("memory", unknown),
        new.allocatable.get("cpu", unknown),
        new.more_nodes,
    )


def _shared(found: Sequence[NewNode]) -> dict[str, str]:
    first, *others = (new.labels for new in found)
    return {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}
