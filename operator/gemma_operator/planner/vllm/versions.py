"""Which rules an engine's version has.

A version is `MAJOR.MINOR[.PATCH]`; `0.32` is `0.32.0`. A suffix (`0.27.2rc1`) is the version it leads to. A
version older than the oldest rule gets that one; whether a version was run at all is `is_known`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol, TypeVar

from gemma_operator.catalog.records import BatchTier, Engine, EngineVersionRules

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?!\.?\d)")


class _Since(Protocol):
    @property
    def since(self) -> str: ...


S = TypeVar("S", bound=_Since)


@lru_cache(maxsize=256)
def parse(version: str) -> tuple[int, int, int]:
    """A version as numbers; raises ValueError for what is none."""
    match = _VERSION.match(version)
    if match is None:
        raise ValueError(f"not a version: {version!r}")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def rules(engine: Engine, version: str) -> EngineVersionRules:
    """The rules that hold for `version`."""
    return newest(engine.rules, version) or engine.rules[0]


def batch_tier(engine: Engine, *, version: str, accelerator: str, visible_mib: int) -> BatchTier:
    """The engine's default batch on a card of which torch sees `visible_mib`.

    An A100 is small whatever its memory; so is a slice of one.
    """
    tiers = started(engine.batch_tiers, version) or engine.batch_tiers
    small_since = engine.small_accelerators.get(accelerator)
    if small_since is not None and parse(small_since) <= parse(version):
        return tiers[-1]
    return next((tier for tier in tiers if visible_mib >= tier.minimum_visible_mib), tiers[-1])


def block_size(engine: Engine, *, version: str, capability: tuple[int, int] | None, kv_precision: str) -> int:
    """Tokens of the engine's smallest KV block on that card."""
    for rule in started(engine.block_sizes, version):
        same_generation = capability is not None and capability[0] == rule.compute_capability_major
        if same_generation and kv_precision == rule.kv_cache_precision:
            return rule.block_size
    return engine.block_size


def expert_tile(engine: Engine, *, version: str, capability: tuple[int, int] | None, precision: str) -> int:
    """The columns that the width of quantised experts is raised to a multiple of; 1 where it is left as it is."""
    for rule in started(engine.expert_tiles, version):
        below = rule.below_capability
        if rule.precision == precision and (below is None or (capability is not None and capability < below)):
            return rule.tile
    return 1


def is_known(engine: Engine, version: str) -> bool:
    """Whether this very version's planner was run and compared."""
    wanted = parse(version)
    return any(parse(known) == wanted for known in engine.known_versions)


def newest(entries: Iterable[S], version: str) -> S | None:
    """The entry that began last before `version` or with it."""
    return max(started(entries, version), key=lambda entry: parse(entry.since), default=None)


def started(entries: Iterable[S], version: str) -> tuple[S, ...]:
    """Those that had begun at `version`, in their order."""
    wanted = parse(version)
    return tuple(entry for entry in entries if parse(entry.since) <= wanted)
