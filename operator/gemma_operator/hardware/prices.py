"""Which price a pool's node has: its own word first, then the user's price file from the narrow to the wide.

`AcceleratorPool.hourlyPrice`, the file's price of that pool, of the machine type of all its nodes, and last of
its cards one by one. A pool of which nothing is known has no price, never a guessed one: the price of a spot
node is not that of one that stays, and a slice or a shared card is no part of a list.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_operator.catalog.prices import Prices
from gemma_operator.catalog.records import Catalog, Price
from gemma_operator.hardware.clouds import MACHINE_TYPE_LABELS
from gemma_operator.hardware.records import Pool, PoolShape, Sharing

#: A card whose memory is further from the catalog's is a part of one (a fractional machine).
_TOLERANCE_PERCENT: Final = 7


def priced(pool: Pool, catalog: Catalog) -> Pool:
    """The pool with its price, where one is known."""
    if pool.shape.node_price is not None or catalog.prices.date == "":
        return pool
    price = _price(pool, catalog.prices, catalog)
    return pool if price is None else replace(pool, shape=replace(pool.shape, node_price=price))


def _price(pool: Pool, prices: Prices, catalog: Catalog) -> Price | None:
    shape = pool.shape
    spot = shape.spot is True
    named = prices.pools.get(f"{shape.id.source.value}/{shape.id.name}") or prices.pools.get(shape.id.name)
    if named is not None:
        return named
    machine = prices.machine_types.get(_machine_type(pool))
    if machine is not None:
        return machine.of(spot=spot)
    card = prices.accelerators.get(shape.accelerator)
    each = card.of(spot=spot) if card is not None and _whole(shape, catalog) else None
    return None if each is None else Price(each.amount * shape.accelerators_per_node, each.currency)


def _machine_type(pool: Pool) -> str:
    """The one that all nodes have; of a pool without a node, the one that it selects or would bring."""
    coming = dict(pool.growth.labels) if pool.growth else {}
    sources = [node.labels for node in pool.nodes] or [{**coming, **dict(pool.shape.selector)}]
    types = {
        next((labels[label] for label in MACHINE_TYPE_LABELS if label in labels), "") for labels in sources
    }
    return types.pop() if len(types) == 1 else ""


def _whole(shape: PoolShape, catalog: Catalog) -> bool:
    card = catalog.accelerators.get(shape.accelerator)
    if card is None or shape.sharing is not Sharing.NONE:
        return False
    if card.memory_mib is None or shape.memory_mib is None:
        return True
    return abs(shape.memory_mib - card.memory_mib) * 100 <= card.memory_mib * _TOLERANCE_PERCENT
