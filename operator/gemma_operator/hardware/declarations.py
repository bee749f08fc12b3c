"""AcceleratorPools next to the nodes that they claim: one declared shape, and what can still grow.

A declared pool keeps one identity from before its first node to after its last: a plan that waits for a
node is on the shape that the node will join. So a node joins when nothing that it prints contradicts the
declaration; one that does contradict it (fewer GPUs, another card, a taint nobody tolerates) is a shape of
its own under the pool's name, with the facts of the node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gemma_operator.catalog.records import Accelerator
from gemma_operator.hardware import foreign, gfd, membership, tolerations
from gemma_operator.hardware.cards import UNKNOWN, Cards
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.devices import Device
from gemma_operator.hardware.facts import Facts
from gemma_operator.hardware.records import (
    NewNode,
    NodeRecord,
    Pool,
    PoolId,
    PoolShape,
    PoolSource,
    Sharing,
)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One AcceleratorPool, its shape, and what it tells about devices that tell nothing themselves."""

    pool: DeclaredPool
    shape: PoolShape
    facts: Facts

    def takes(self, node: NodeRecord, device: Device) -> bool:
        """Whether nothing that the node prints contradicts the declaration."""
        tolerated = tolerations.of_replica(
            users=(), pools=self.pool.tolerations, spot="Allowed" if self.pool.spot else "Forbidden"
        )
        return (
            device.accelerator in {UNKNOWN, self.shape.accelerator}
            and _is_at_least(device.memory_mib, self.shape.memory_mib)
            and (device.count in {0, self.pool.accelerators_per_node} or not node.allocatable)
            and device.sharing is self.shape.sharing
            and membership.spot(node.labels) in {None, self.pool.spot}
            and not tolerations.untolerated(node.taints, tolerated)
            and not foreign.operating_system_refused(node.labels)
        )


def of(accelerator_pools: Iterable[DeclaredPool], cards: Cards) -> tuple[Declaration, ...]:
    """All declarations, by name: the first that matches a node has it."""
    return tuple(
        _declaration(pool, cards.named(pool.accelerator))
        for pool in sorted(accelerator_pools, key=lambda pool: pool.name)
    )


def overlapping(
    nodes: Iterable[NodeRecord], accelerator_pools: Iterable[DeclaredPool]
) -> Mapping[str, tuple[str, str]]:
    """By name of an AcceleratorPool that lost a node: (the pool that has it, one such node)."""
    ordered = sorted(accelerator_pools, key=lambda pool: pool.name)
    found: dict[str, tuple[str, str]] = {}
    for node in sorted(nodes, key=lambda node: node.name):
        owners: dict[str, str] = {}
        for pool in ordered:
            if not pool.holds(node.labels):
                continue
            owner = owners.setdefault(pool.resource_name, pool.name)
            if owner != pool.name:
                found.setdefault(pool.name, (owner, node.name))
    return found


def with_growth(found: Sequence[Pool], declared: Sequence[Declaration]) -> list[Pool]:
    """The pools with what each AcceleratorPool can still bring, declared shapes without a node among them."""
    by_id = {pool.shape.id: pool for pool in found}
    for declaration in declared:
        id_ = declaration.shape.id
        pool = by_id.get(id_, Pool(shape=declaration.shape, nodes=()))
        present = {
            node.name
            for other in found
            if (other.shape.id.source, other.shape.id.name) == (id_.source, id_.name)
            for node in other.nodes
        }
        more = declaration.pool.max_nodes - len(present)
        by_id[id_] = replace(pool, growth=_new_node(declaration.pool, more) if more > 0 else None)
    return list(by_id.values())


def _declaration(pool: DeclaredPool, card: Accelerator | None) -> Declaration:
    memory_mib = _declared_memory(pool, card)
    sharing = _declared_sharing(pool.resource_name)
    capability = pool.compute_capability or (card.compute_capability if card else None)
    unified = card is not None and card.memory_mib is None and card.visible_mib is not None
    refused = card.refused if card else ""
    if not refused and memory_mib is None and not unified:
        refused = f"the catalog has no memory for {pool.accelerator}: set acceleratorMemoryMiB"
    shape = PoolShape(
        id=_id(pool, memory_mib=memory_mib, capability=capability),
        accelerator=card.name if card else UNKNOWN,
        product=pool.accelerator,
        memory_mib=memory_mib,
        compute_capability=capability,
        accelerators_per_node=pool.accelerators_per_node,
        sharing=sharing,
        clients_per_device=1,
        spot=pool.spot,
        arch=card.architecture if card else "",
        driver_major=None,
        taints=(),
        tolerations=pool.tolerations,
        selector=pool.node_selector,
        node_price=pool.node_price,
        verified=card is not None and sharing is Sharing.NONE and (unified or memory_mib == card.memory_mib),
        refused=refused,
        device_memory_mib=memory_mib,
    )
    facts = Facts(
        product=pool.accelerator,
        card=card.name if card else "",
        memory_mib=memory_mib,
        compute_capability=capability,
        sharing=sharing,
        clients=1,
    )
    return Declaration(pool=pool, shape=shape, facts=facts)


def _id(pool: DeclaredPool, *, memory_mib: int | None, capability: tuple[int, int] | None) -> PoolId:
    """From what was declared alone, so that it does not change when nodes come."""
    parts = (pool.accelerator, memory_mib, capability, pool.accelerators_per_node, pool.spot)
    return PoolId(
        source=PoolSource.ACCELERATOR_POOL,
        name=pool.name,
        resource_name=pool.resource_name,
        shape=short_hash(parts),
    )


def short_hash(parts: object) -> str:
    """A shape's name: eight hexadecimal digits, the same on every run and machine."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _declared_memory(pool: DeclaredPool, card: Accelerator | None) -> int | None:
    """The smaller of what was declared and what the catalog measured: 81920 is printed on an H100's box."""
    known = [mib for mib in (pool.memory_mib, card.memory_mib if card else None) if mib]
    return min(known, default=None)


def _declared_sharing(resource_name: str) -> Sharing:
    if resource_name.startswith(gfd.MIG_RESOURCE_PREFIX):
        return Sharing.MIG
    return Sharing.TIME_SLICING if resource_name.endswith(".shared") else Sharing.NONE


def _is_at_least(memory_mib: int | None, declared_mib: int | None) -> bool:
    return memory_mib is None or declared_mib is None or memory_mib >= declared_mib


def _new_node(pool: DeclaredPool, more: int) -> NewNode:
    return NewNode(
        allocatable={pool.resource_name: pool.accelerators_per_node, **dict(pool.host)}, more_nodes=more
    )
