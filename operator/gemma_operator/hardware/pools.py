"""Nodes and AcceleratorPools made into pools: what can be planned for, and which nodes have it now.

Order-independent: the same nodes give the same pools with the same names, whatever order events came in.
The shape's hash holds what a plan depends on and nothing that changes by itself (no counts of nodes, no
driver version, no room), because a plan keeps its pool by that name for months.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware import declarations, dra, foreign, gke, membership, prices, selectors
from gemma_operator.hardware.cards import UNKNOWN, Cards
from gemma_operator.hardware.declarations import Declaration
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.devices import Device, arch_of, device, resources_of
from gemma_operator.hardware.dra import SliceRecord
from gemma_operator.hardware.facts import Membership
from gemma_operator.hardware.prospects import Prospect, together
from gemma_operator.hardware.records import (
    NewNode,
    NodeRecord,
    Pool,
    PoolId,
    PoolShape,
    PoolSource,
    Toleration,
)


@dataclass(frozen=True, slots=True)
class _Seat:
    """The devices of one resource of one node, and the pool that has them."""

    node: NodeRecord
    device: Device
    group: Membership
    declaration: Declaration | None
    shape: str
    #: The node is not there yet: what the pool may bring.
    new: NewNode | None = None


def pools(
    nodes: Iterable[NodeRecord],
    accelerator_pools: Iterable[DeclaredPool],
    catalog: Catalog,
    *,
    slices: Iterable[SliceRecord] = (),
    prospects: Iterable[Prospect] = (),
) -> tuple[Pool, ...]:
    """Every pool of the fleet; each (node, resource) is in exactly one, declared ones also without a node."""
    cards = Cards(catalog)
    declared = declarations.of(accelerator_pools, cards)
    slices_of: defaultdict[str, list[SliceRecord]] = defaultdict(list)
    for record in slices:
        slices_of[record.node].append(record)
    seats: defaultdict[PoolId, list[_Seat]] = defaultdict(list)
    by_resource: defaultdict[str, list[NodeRecord]] = defaultdict(list)
    for node in sorted(nodes, key=lambda node: node.name):
        for seat in (*_seats(node, declared, cards), *_claimed(node, slices_of.get(node.name, ()), cards)):
            seats[_id(seat)].append(seat)
            by_resource[seat.device.resource].append(node)
    for seat in _expected(prospects, declared, cards):
        seats[_id(seat)].append(seat)
        by_resource[seat.device.resource].append(seat.node)
    offering = _Offering(by_resource)
    found = [_pool(id_, members, offering) for id_, members in seats.items()]
    grown = declarations.with_growth(found, declared)
    with_prices = (prices.priced(pool, catalog) for pool in grown)
    return tuple(sorted(with_prices, key=lambda pool: pool.shape.id.sort_key))


def filtered(found: Iterable[Pool], node_selector: Sequence[tuple[str, str]]) -> tuple[Pool, ...]:
    """The pools as a deployment with a `nodeSelector` sees them: nodes without the labels are not there.

    A node that does not exist yet has the labels that its pool declares, and no others.
    """
    if not node_selector:
        return tuple(found)
    left: list[Pool] = []
    for pool in found:
        nodes = tuple(node for node in pool.nodes if has_labels(node.labels, node_selector))
        growth = pool.growth if brings(pool, node_selector) else None
        if nodes or growth:
            left.append(replace(pool, nodes=nodes, growth=growth))
    return tuple(left)


def brings(pool: Pool, node_selector: Iterable[tuple[str, str]]) -> bool:
    """Whether the pool may bring a node with these labels."""
    if pool.growth is None:
        return False
    return has_labels({**pool.growth.labels, **dict(pool.shape.selector)}, node_selector)


def has_labels(labels: Mapping[str, str], selector: Iterable[tuple[str, str]]) -> bool:
    """Whether a node with these labels is selected."""
    return all(labels.get(key) == value for key, value in selector)


def _seats(node: NodeRecord, declared: Sequence[Declaration], cards: Cards) -> list[_Seat]:
    matching = [declaration for declaration in declared if declaration.pool.holds(node.labels)]
    resources = dict.fromkeys(resources_of(node, cards))
    if (
        matching
    ):  # a node that just came up lists its devices minutes later, and is a node of the pool by then
        resources |= dict.fromkeys(declaration.pool.resource_name for declaration in matching)
    return [_seat(node, resource, matching, cards) for resource in resources]


def _seat(node: NodeRecord, resource: str, matching: Sequence[Declaration], cards: Cards) -> _Seat:
    owner = next((each for each in matching if each.pool.resource_name == resource), None)
    if owner is not None:
        read = device(node, resource, cards, declared=owner.facts)
        group = Membership(source=PoolSource.ACCELERATOR_POOL, name=owner.pool.name, label="")
        shape = owner.shape.id.shape if owner.takes(node, read) else _hash(node, read, group)
        return _Seat(node=node, device=read, group=group, declaration=owner, shape=shape)
    read = device(node, resource, cards)
    group = membership.of_labels(node.labels) or membership.group_of(read, node.labels)
    return _Seat(node=node, device=read, group=group, declaration=None, shape=_hash(node, read, group))


def _claimed(node: NodeRecord, slices: Sequence[SliceRecord], cards: Cards) -> Iterator[_Seat]:
    """Devices that are had through a ResourceClaim: nobody can declare an AcceleratorPool for them."""
    for each in dra.devices_of(slices, cards) if slices else ():
        read = replace(
            each,
            arch=arch_of(node, cards.named(each.accelerator)),
            refused=foreign.operating_system_refused(node.labels) or each.refused,
        )
        group = membership.of_labels(node.labels) or membership.group_of(read, node.labels)
        yield _Seat(node=node, device=read, group=group, declaration=None, shape=_hash(node, read, group))


def _expected(
    prospects: Iterable[Prospect], declared: Sequence[Declaration], cards: Cards
) -> Iterator[_Seat]:
    """Nodes to come; those that an AcceleratorPool selects are its own to tell of."""
    for prospect in sorted(prospects, key=lambda each: each.node.name):
        node = prospect.node
        if not any(declaration.pool.holds(node.labels) for declaration in declared):
            for resource in resources_of(node, cards):
                yield replace(_seat(node, resource, (), cards), new=prospect.new)


def _id(seat: _Seat) -> PoolId:
    return PoolId(
        source=seat.group.source,
        name=seat.group.name,
        resource_name=seat.device.resource,
        shape=seat.shape,
    )


def _hash(node: NodeRecord, read: Device, group: Membership) -> str:
    """Of everything that makes a plan for one node no plan for another.

    A product tells apart only what a selector must tell apart: unknown cards, and groups nobody named.
    """
    named = read.accelerator != UNKNOWN and group.source is not PoolSource.GROUP
    parts = (
        read.accelerator,
        "" if named else read.product,
        read.memory_mib,
        read.compute_capability,
        read.count,
        tuple((taint.key, taint.value, taint.effect) for taint in node.taints),
        read.sharing.value,
        read.clients,
        membership.spot(node.labels),
        read.arch,
        read.refused,
    )
    return declarations.short_hash(parts)


class _Offering:
    """Nodes that offer a resource, by the labels that a pool selects first: asked once a group, not once a shape."""

    def __init__(self, by_resource: Mapping[str, Sequence[NodeRecord]]) -> None:
        self._by_resource = by_resource
        self._known: dict[tuple[str, tuple[tuple[str, str], ...]], list[NodeRecord]] = {}

    def others(self, resource: str, base: Mapping[str, str], seats: Sequence[_Seat]) -> Iterator[NodeRecord]:
        """Nodes outside of these seats that `base` does not tell apart from them."""
        question = (resource, tuple(sorted(base.items())))
        if question not in self._known:
            self._known[question] = [
                node for node in self._by_resource[resource] if has_labels(node.labels, question[1])
            ]
        inside = {seat.node.name for seat in seats}
        return (node for node in self._known[question] if node.name not in inside)


def _pool(id_: PoolId, seats: Sequence[_Seat], offering: _Offering) -> Pool:
    members = tuple(seat.node for seat in seats if seat.new is None)
    growth = together(seat.new for seat in seats if seat.new is not None)
    declaration = seats[0].declaration
    if declaration is not None and declaration.shape.id == id_:
        shape = replace(declaration.shape, driver_major=_oldest_driver(seats))
        return Pool(shape=shape, nodes=members)
    growth = growth if growth is not None and growth.more_nodes else None
    return Pool(shape=_shape(id_, seats, offering), nodes=members, growth=growth)


def _shape(id_: PoolId, seats: Sequence[_Seat], offering: _Offering) -> PoolShape:
    first = seats[0]
    read = first.device
    members = [seat.node for seat in seats]
    declared = first.declaration.pool if first.declaration else None
    base = dict(declared.node_selector) if declared else _base(first, members)
    return PoolShape(
        id=id_,
        accelerator=read.accelerator,
        product=read.product,
        memory_mib=read.memory_mib,
        compute_capability=read.compute_capability,
        accelerators_per_node=read.count,
        sharing=read.sharing,
        clients_per_device=read.clients,
        spot=membership.spot(first.node.labels),
        arch=read.arch,
        driver_major=_oldest_driver(seats),
        taints=first.node.taints,
        tolerations=declared.tolerations if declared else _class_tolerations(id_),
        selector=selectors.selector(
            base, members=members, others=offering.others(id_.resource_name, base, seats)
        ),
        node_price=declared.node_price if declared else None,
        verified=read.verified,
        refused=read.refused,
        device_memory_mib=read.whole_memory_mib,
    )


def _base(seat: _Seat, members: Sequence[NodeRecord]) -> dict[str, str]:
    """The pool's own label; of a group without one, nothing."""
    value = selectors.shared_value(seat.group.label, members) if seat.group.label else None
    return {seat.group.label: value} if value is not None else {}


def _class_tolerations(id_: PoolId) -> tuple[Toleration, ...]:
    """GKE taints the nodes of a ComputeClass with its name."""
    if id_.source is not PoolSource.COMPUTE_CLASS:
        return ()
    return (Toleration(key=gke.COMPUTE_CLASS, operator="Equal", value=id_.name, effect=""),)


def _oldest_driver(seats: Iterable[_Seat]) -> int | None:
    known = [seat.device.driver_major for seat in seats if seat.device.driver_major is not None]
    return min(known, default=None)
