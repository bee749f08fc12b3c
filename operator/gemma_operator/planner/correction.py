"""What an engine that refused to start measured, and the sums that follow from it.

A plan is made again once, with the difference between what was measured and what was reckoned added to the overhead
of every candidate of the same request: one figure, measured once, on the safe side for cards that it was not measured
on. It stands in the plan (`correction_mib`), so it is part of every later sum for the same inputs, whoever restarts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gemma_operator.api.conditions import Reason
from gemma_operator.catalog.records import Catalog
from gemma_operator.planner.values import Feasible, Fit, Plan


@dataclass(frozen=True, slots=True)
class Refusal:
    """Memory of one GPU, in the engine's own figures, when it would not start."""

    #: KvCacheTooSmall or OutOfMemory.
    reason: Reason
    #: What it lacked, in MiB; 0 where it did not say.
    short_mib: int
    #: What it had for its KV cache, in MiB; None where it did not come so far.
    kv_cache_mib: int | None = None


def correction_mib(plan: Plan, refusal: Refusal) -> int:
    """Measured minus reckoned use of one GPU, in MiB: always more than nothing.

    With a KV cache that was measured it is what the plan had promised beyond it; an engine that needs more than the
    plan reckoned with is short although it has as much as was promised, so it is never less than what it lacked.
    """
    beyond = 0 if refusal.kv_cache_mib is None else plan.memory.kv_cache - refusal.kv_cache_mib
    return max(beyond, refusal.short_mib, 1)


def corrected(catalog: Catalog, engine: str, mib: int) -> Catalog:
    """The catalog with an overhead that is so much larger on each GPU."""
    if not mib:
        return catalog
    known = catalog.engines[engine]
    overhead = replace(
        known.overhead,
        base_gib=known.overhead.base_gib + mib / 1024,
        base_parallel_gib=known.overhead.base_parallel_gib + mib / 1024,
    )
    return replace(catalog, engines={**catalog.engines, engine: replace(known, overhead=overhead)})


def without(feasible: Feasible, refused: Plan) -> Feasible:
    """All but what refused: the same engine with the same settings on the same pool would refuse again."""
    fits = tuple(fit for fit in feasible.fits if not _is(fit, refused))
    return replace(feasible, fits=fits)


def words(mib: int) -> str:
    """For status and events."""
    return f"reckoned with {mib} MiB a GPU more than before, as an engine that refused to start measured"


def _is(fit: Fit, plan: Plan) -> bool:
    checkpoint, shape = fit.candidate.checkpoint, fit.candidate.shape
    return (
        checkpoint is not None
        and shape is not None
        and (checkpoint.name, shape.id, fit.settings) == (plan.checkpoint_name, plan.pool, plan.settings)
    )
