"""Combinations that are known to be bad, or to be less than they look: the shape of compatibility.yaml.

Every condition of an entry must hold for it to match; an absent one matches everything. What follows from a
match is its effect. Kept out: how a combination is asked (planner.compatibility).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gemma_operator.catalog.reading import Entry

_ISSUE: Final = re.compile(r"https://github\.com/([^/]+/[^/]+)/(?:issues|pull)/(\d+)")
_ENGINE_REPOSITORY: Final = "vllm-project/vllm"
#: The engine that an entry speaks of where it names none, and whose versions a checkpoint's minimum is.
VLLM: Final = "VLLM"


class Effect(Enum):
    """What follows from a match."""

    #: The candidate is rejected.
    REFUSE = "refuse"
    #: The plan is marked unverified, and its reason says why.
    WARN = "warn"
    #: It works, but less than one might think: the reason says so.
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Versions:
    """Engine versions: from one on, before one, or exactly these."""

    since: str | None
    before: str | None
    exactly: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Compute capabilities: from one on, below one, or exactly one."""

    since: tuple[int, int] | None
    below: tuple[int, int] | None
    exactly: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Incompatibility:
    """One entry. `message` says what to change; the reference of the first source is added where it is shown."""

    name: str
    effect: Effect
    message: str
    sources: tuple[str, ...]
    #: The first engine version that has it no more, where one is known.
    fixed_in: str | None
    engines: frozenset[str]
    variants: frozenset[str] | None
    precisions: frozenset[str] | None
    #: Repositories of a hub, as shell patterns.
    repositories: tuple[str, ...]
    accelerators: frozenset[str] | None
    capabilities: Capabilities | None
    versions: Versions | None
    #: The major version below which a driver is too old.
    driver_below: int | None
    architectures: frozenset[str] | None
    sharing: frozenset[str] | None
    tensor_parallel: frozenset[int] | None
    kv_cache_precision: str | None
    modalities: frozenset[str]
    features: frozenset[str]
    #: Features that the user wrote, not those that a default brings.
    named_features: frozenset[str]
    without_features: frozenset[str]
    #: The user's own flags, as shell patterns of their value; a pattern behind `!` must not match.
    flags: Mapping[str, tuple[str, ...]]
    #: A limit that changes the sums: the engine runs without its hybrid KV cache manager.
    hybrid_kv_cache: bool

    @property
    def told(self) -> str:
        """The message with its reference."""
        return f"{self.message} ({reference(self.sources[0])})"


def reference(source: str) -> str:
    """An issue as people write it; any other source as it stands."""
    match = _ISSUE.match(source)
    if match is None:
        return source.removeprefix("https://")
    repository = "vllm" if match[1] == _ENGINE_REPOSITORY else match[1]
    return f"{repository}#{match[2]}"


def incompatibility(name: str, entry: Entry) -> Incompatibility:
    """Reads an entry."""
    return Incompatibility(
        name=name,
        effect=_effect(entry),
        message=entry.text("message"),
        sources=_sources(entry),
        fixed_in=entry.text("fixedIn") if entry.has("fixedIn") else None,
        engines=frozenset(entry.texts("engines", (VLLM,))),
        variants=_set(entry, "variants"),
        precisions=_set(entry, "precisions"),
        repositories=entry.texts("repositories", ()),
        accelerators=_set(entry, "accelerators"),
        capabilities=_capabilities(entry),
        versions=_versions(entry),
        driver_below=entry.integer("driverBelow") if entry.has("driverBelow") else None,
        architectures=_set(entry, "architectures"),
        sharing=_set(entry, "sharing"),
        tensor_parallel=frozenset(entry.integers("tensorParallel")) if entry.has("tensorParallel") else None,
        kv_cache_precision=entry.text("kvCachePrecision") if entry.has("kvCachePrecision") else None,
        modalities=frozenset(entry.texts("modalities", ())),
        features=frozenset(entry.texts("features", ())),
        named_features=frozenset(entry.texts("namedFeatures", ())),
        without_features=frozenset(entry.texts("withoutFeatures", ())),
        flags=_flags(entry),
        hybrid_kv_cache=entry.boolean("hybridKvCache", True),
    )


def _effect(entry: Entry) -> Effect:
    said = entry.text("effect", Effect.REFUSE.value)
    if said not in {effect.value for effect in Effect}:
        raise entry.error(f"effect must be refuse, warn or limit, not {said!r}")
    return Effect(said)


def _sources(entry: Entry) -> tuple[str, ...]:
    sources = entry.texts("sources")
    if not sources:
        raise entry.error("sources must name at least one")
    return sources


def _set(entry: Entry, key: str) -> frozenset[str] | None:
    return frozenset(entry.texts(key)) if entry.has(key) else None


def _versions(entry: Entry) -> Versions | None:
    if not entry.has("engineVersion"):
        return None
    inner = entry.entry("engineVersion")
    found = Versions(
        since=inner.text("from") if inner.has("from") else None,
        before=inner.text("before") if inner.has("before") else None,
        exactly=inner.texts("exactly", ()),
    )
    inner.done()
    return found


def _capabilities(entry: Entry) -> Capabilities | None:
    if not entry.has("computeCapability"):
        return None
    inner = entry.entry("computeCapability")
    found = Capabilities(
        since=inner.capability("from") if inner.has("from") else None,
        below=inner.capability("below") if inner.has("below") else None,
        exactly=inner.capability("exactly") if inner.has("exactly") else None,
    )
    inner.done()
    return found


def _flags(entry: Entry) -> Mapping[str, tuple[str, ...]]:
    if not entry.has("flags"):
        return {}
    inner = entry.entry("flags")
    return {name: inner.texts(name) for name in inner.names()}
