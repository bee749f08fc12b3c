"""What is said of an AcceleratorPool: whether it is a candidate, how many nodes it has, who else claims them. Pure.

A pool that nobody can plan with is left out of the fleet by the same rule that says so here (`read`), so the
status never calls a pool accepted that no deployment would get, nor the other way round.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gemma_operator.api import conditions
from gemma_operator.api.conditions import Condition, Reason
from gemma_operator.api.parse import parse_pool
from gemma_operator.catalog.records import Catalog
from gemma_operator.errors import InvalidSpec
from gemma_operator.hardware import declarations
from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.declared import DeclaredPool, declared_pool
from gemma_operator.hardware.records import Pool, PoolSource
from gemma_operator.planner.feasible import nearest_accelerators

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the fleet shows of one AcceleratorPool."""

    nodes: int
    #: The pool that has a node which this one selects too, and that node; the first by name has it.
    overlap: tuple[str, str] | None = None


def read(obj: Mapping[str, Any]) -> DeclaredPool:
    """The pool as the planner takes it, or InvalidSpec: the schema's rules first, then what they cannot say."""
    parse_pool(obj)
    return declared_pool(obj)


def declared(objects: Iterable[Mapping[str, Any]]) -> Iterator[DeclaredPool]:
    """The pools that can be read; what is wrong with another is said in its status, each time that it is looked at."""
    for obj in objects:
        try:
            yield read(obj)
        except InvalidSpec as error:
            logger.debug("AcceleratorPool %s is left out: %s", obj["metadata"]["name"], error)


def seen(name: str, *, pools: Iterable[Pool], overlapping: Mapping[str, tuple[str, str]]) -> Seen:
    """Its nodes, of whatever shape, each counted once."""
    nodes = {
        node.name
        for pool in pools
        if (pool.shape.id.source, pool.shape.id.name) == (PoolSource.ACCELERATOR_POOL, name)
        for node in pool.nodes
    }
    return Seen(nodes=len(nodes), overlap=overlapping.get(name))


def status_json(obj: Mapping[str, Any], found: Seen, *, catalog: Catalog, now_iso: str) -> dict[str, Any]:
    """The whole status: the same pool and the same nodes give the same one."""
    generation = obj["metadata"].get("generation", 0)
    said = conditions.stamp(said_of(obj, found, catalog=catalog), generation=generation)
    before = (obj.get("status") or {}).get("conditions", ())
    return {
        "observedGeneration": generation,
        "conditions": conditions.merge(before, said, now_iso=now_iso),
        "nodes": found.nodes,
    }


def said_of(obj: Mapping[str, Any], found: Seen, *, catalog: Catalog) -> tuple[Condition, ...]:
    """Ready, and what is present only while true: Stalled, as kstatus reads it, and Overlapping."""
    ready = accepted(obj, catalog=catalog)
    said = [ready]
    if ready.status != "True":
        said.append(conditions.stalled(ready.reason, ready.message))
    if found.overlap is not None:
        owner, node = found.overlap
        said.append(
            conditions.overlapping(
                f"node {node} is selected by AcceleratorPool {owner} too, which has it as the first by name: "
                "make the two nodeSelectors exclude each other"
            )
        )
    return tuple(said)


def accepted(obj: Mapping[str, Any], *, catalog: Catalog) -> Condition:
    """Ready: whether deployments may be planned on it."""
    try:
        pool = read(obj)
    except InvalidSpec as error:
        return conditions.not_ready(Reason.INVALID_SPEC, str(error))
    (declaration,) = declarations.of((pool,), Cards(catalog))
    if not declaration.shape.refused:
        return conditions.ready(Reason.ACCEPTED, _offer(pool))
    if pool.accelerator not in catalog.accelerators:
        return conditions.not_ready(Reason.UNKNOWN_ACCELERATOR, _unknown(pool.accelerator, catalog))
    return conditions.not_ready(Reason.INVALID_SPEC, f"spec.accelerator: {declaration.shape.refused}")


def _offer(pool: DeclaredPool) -> str:
    most = "1 node" if pool.max_nodes == 1 else f"{pool.max_nodes} nodes"
    growth = f"may grow to {most}" if pool.max_nodes else "does not grow"
    return f"a candidate: {pool.accelerators_per_node} {pool.accelerator} a node; {growth}"


def _unknown(name: str, catalog: Catalog) -> str:
    near = nearest_accelerators(name, catalog)
    known = f"nearest: {', '.join(near)}" if near else "nothing is near"
    return (
        f"spec.accelerator: {name} is not in the catalog ({known}): write a catalog name, or set "
        "acceleratorMemoryMiB and computeCapability"
    )
