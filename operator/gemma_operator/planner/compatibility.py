"""Whether a combination is known to be bad: the catalog's entries, matched.

A card of unknown compute capability matches no entry that asks for one: it is planned and marked unverified
instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gemma_operator.catalog.records import Incompatibility
from gemma_operator.planner.vllm import versions


@dataclass(frozen=True, slots=True)
class Combination:
    """What is put together. `kv_cache_precision` is None where it is still open."""

    variant: str
    precision: str
    accelerator: str
    compute_capability: tuple[int, int] | None
    engine_version: str
    tensor_parallel: int
    kv_cache_precision: str | None = None


def known_bad(entries: Iterable[Incompatibility], asked: Combination) -> Incompatibility | None:
    """The first entry that matches; entries about the KV cache only once its precision is named."""
    return next((entry for entry in entries if _matches(entry, asked)), None)


def of_version(entries: Iterable[Incompatibility], version: str) -> tuple[Incompatibility, ...]:
    """The entries that can match at all with that engine: one request has one version."""
    return tuple(entry for entry in entries if _below_version(entry, version))


def _matches(entry: Incompatibility, asked: Combination) -> bool:
    return (
        _one_of(entry.variants, asked.variant)
        and _one_of(entry.precisions, asked.precision)
        and _one_of(entry.accelerators, asked.accelerator)
        and (entry.tensor_parallel is None or asked.tensor_parallel in entry.tensor_parallel)
        and (entry.kv_cache_precision is None or entry.kv_cache_precision == asked.kv_cache_precision)
        and _below_capability(entry, asked.compute_capability)
        and _below_version(entry, asked.engine_version)
    )


def _one_of(wanted: frozenset[str] | None, value: str) -> bool:
    return wanted is None or value in wanted


def _below_capability(entry: Incompatibility, capability: tuple[int, int] | None) -> bool:
    if entry.below_compute_capability is None:
        return True
    return capability is not None and capability < entry.below_compute_capability


def _below_version(entry: Incompatibility, version: str) -> bool:
    if entry.below_engine_version is None:
        return True
    return versions.parse(version) < versions.parse(entry.below_engine_version)
