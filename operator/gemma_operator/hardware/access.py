"""Which namespaces may use which pools: the operator's setting `poolAccess`, laid over the pools.

A pool that an entry names (`name` or `source/name`) is for the namespaces of all entries that name it; a pool that
none names is everybody's. Only new plans are kept off: what runs is not moved by a setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from gemma_operator.hardware.records import Pool, PoolId
from gemma_operator.settings import PoolAccess


def with_access(pools: Iterable[Pool], access: Sequence[PoolAccess]) -> tuple[Pool, ...]:
    """The pools, each with the namespaces that it is kept for."""
    if not access:
        return tuple(pools)
    return tuple(
        replace(pool, shape=replace(pool.shape, namespaces=_namespaces(pool.shape.id, access)))
        for pool in pools
    )


def _namespaces(pool: PoolId, access: Sequence[PoolAccess]) -> tuple[str, ...] | None:
    names = {pool.name, f"{pool.source.value}/{pool.name}"}
    naming = [entry for entry in access if not names.isdisjoint(entry.pools)]
    if not naming:
        return None
    return tuple(sorted({namespace for entry in naming for namespace in entry.namespaces}))
