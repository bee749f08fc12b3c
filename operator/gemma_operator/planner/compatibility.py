"""Whether a combination is known to be bad, or less than it looks: the catalog's entries, matched.

A card of unknown compute capability, driver or architecture matches no entry that asks for one: it is planned
and marked unverified instead. Kept out: the entries themselves (compatibility.yaml), and what follows from a
match (`feasible` rejects, `fit` marks, `needs` reckons).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from gemma_operator.catalog.incompatibilities import Capabilities, Effect, Incompatibility, Versions
from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner.values import DRAFTING, OWN_IMAGE, Candidate, KvPrecision, Request
from gemma_operator.planner.vllm import versions

_NOT: Final = "!"


@dataclass(frozen=True, slots=True)
class Combination:
    """What is put together. What is still open or not known is None or empty."""

    variant: str
    precision: str
    accelerator: str
    compute_capability: tuple[int, int] | None
    engine: str
    engine_version: str
    tensor_parallel: int
    kv_cache_precision: str | None = None
    repository: str = ""
    driver_major: int | None = None
    architecture: str = ""
    sharing: str = "none"
    modalities: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    #: Features that the user wrote.
    named_features: frozenset[str] = frozenset()
    #: The user's own flags.
    flags: Mapping[str, str] = field(default_factory=dict)


def known_bad(entries: Iterable[Incompatibility], asked: Combination) -> Incompatibility | None:
    """The first entry that refuses; entries about the KV cache only once its precision is named."""
    return next(matching(entries, asked, Effect.REFUSE), None)


def matching(
    entries: Iterable[Incompatibility], asked: Combination, effect: Effect
) -> Iterator[Incompatibility]:
    """Every entry of one effect that matches."""
    return (entry for entry in entries if entry.effect is effect and _matches(entry, asked))


def of_engine(entries: Iterable[Incompatibility], engine: str, version: str) -> tuple[Incompatibility, ...]:
    """The entries that can match at all with that engine: one request has one version of one."""
    return tuple(
        entry for entry in entries if engine in entry.engines and _version_holds(entry.versions, version)
    )


class Compatibility:
    """The entries that can concern one request; verdicts are kept."""

    def __init__(self, request: Request, catalog: Catalog) -> None:
        self._request = request
        self._flags = dict(request.engine_overrides)
        self._features = request.features | (frozenset({OWN_IMAGE}) if request.engine_image else frozenset())
        self._drafting = self._features | {DRAFTING}
        self._entries = tuple(
            entry
            for entry in of_engine(catalog.incompatibilities, request.engine, request.engine_version)
            if entry.modalities <= request.modalities
            and entry.features <= self._drafting
            and entry.named_features <= request.named_features
            and _flags_hold(entry.flags, self._flags)
        )
        #: False where an entry that the request itself matches (flags and version) turns the manager off.
        self.hybrid_kv_cache = all(entry.hybrid_kv_cache for entry in self._entries)
        self._by_shape: dict[tuple[object, ...], frozenset[int]] = {}
        self._by_candidate: dict[tuple[object, ...], frozenset[int]] = {}

    def refusal(
        self,
        candidate: Candidate,
        shape: PoolShape,
        *,
        kv_precision: KvPrecision | None = None,
        drafting: bool = False,
    ) -> str | None:
        """Why the candidate cannot serve like that, in words."""
        found = self._matching(candidate, shape, kv_precision, drafting)
        return next((entry.told for entry in found if entry.effect is Effect.REFUSE), None)

    def warnings(
        self, candidate: Candidate, shape: PoolShape, kv_precision: KvPrecision, *, drafting: bool = False
    ) -> tuple[str, ...]:
        """What marks the plan unverified."""
        found = self._matching(candidate, shape, kv_precision, drafting)
        return tuple(entry.told for entry in found if entry.effect is Effect.WARN)

    def limits(
        self, candidate: Candidate, shape: PoolShape, kv_precision: KvPrecision, *, drafting: bool = False
    ) -> tuple[str, ...]:
        """What works, but less than one might think."""
        found = self._matching(candidate, shape, kv_precision, drafting)
        return tuple(entry.told for entry in found if entry.effect is Effect.LIMIT)

    def _matching(
        self, candidate: Candidate, shape: PoolShape, kv_precision: KvPrecision | None, drafting: bool
    ) -> Sequence[Incompatibility]:
        """Few shapes and few checkpoints make a thousand candidates: each is asked once, and mostly they share none."""
        common = self._of_shape(candidate, shape) & self._of_candidate(candidate, shape, drafting)
        if not common:
            return ()
        asked = None if kv_precision is None else kv_precision.value
        return [self._entries[at] for at in sorted(common) if _kv_cache_holds(self._entries[at], asked)]

    def _of_shape(self, candidate: Candidate, shape: PoolShape) -> frozenset[int]:
        """Places of the entries that hold whatever would be served there."""
        key = (shape.accelerator, shape.compute_capability, shape.driver_major, shape.arch, shape.sharing)
        found = self._by_shape.get(key)
        if found is None:
            asked = self._asked(candidate, shape, drafting=False)
            found = self._by_shape[key] = self._places(_shape_holds, asked)
        return found

    def _of_candidate(self, candidate: Candidate, shape: PoolShape, drafting: bool) -> frozenset[int]:
        """Places of the entries that hold wherever it would be served, and whatever its KV cache is."""
        repository = candidate.checkpoint.repo if candidate.checkpoint else ""
        key = (candidate.variant.name, candidate.precision, repository, candidate.tensor_parallel, drafting)
        found = self._by_candidate.get(key)
        if found is None:
            asked = self._asked(candidate, shape, drafting=drafting)
            found = self._by_candidate[key] = self._places(_candidate_holds, asked)
        return found

    def _places(
        self, holds: Callable[[Incompatibility, Combination], bool], asked: Combination
    ) -> frozenset[int]:
        return frozenset(at for at, entry in enumerate(self._entries) if holds(entry, asked))

    def _asked(self, candidate: Candidate, shape: PoolShape, *, drafting: bool) -> Combination:
        return Combination(
            variant=candidate.variant.name,
            precision=candidate.precision,
            accelerator=shape.accelerator,
            compute_capability=shape.compute_capability,
            engine=self._request.engine,
            engine_version=self._request.engine_version,
            tensor_parallel=candidate.tensor_parallel,
            repository=candidate.checkpoint.repo if candidate.checkpoint else "",
            driver_major=shape.driver_major,
            architecture=shape.arch,
            sharing=shape.sharing.value,
            modalities=self._request.modalities,
            features=self._drafting if drafting else self._features,
            named_features=self._request.named_features,
            flags=self._flags,
        )


def driver_refusal(request: Request, shape: PoolShape, catalog: Catalog) -> str | None:
    """Why the driver of a pool is too old, whatever would be served there."""
    own_image = request.engine_image is not None
    for entry in of_engine(catalog.incompatibilities, request.engine, request.engine_version):
        concerns = not (own_image and OWN_IMAGE in entry.without_features)
        if concerns and entry.effect is Effect.REFUSE and _driver_alone(entry, shape):
            return f"driver {shape.driver_major} is too old: {entry.told}"
    return None


def _driver_alone(entry: Incompatibility, shape: PoolShape) -> bool:
    return (
        entry.driver_below is not None
        and entry.variants is None
        and entry.precisions is None
        and not entry.features
        and _driver_holds(entry, shape.driver_major)
        and _capability_holds(entry.capabilities, shape.compute_capability)
    )


def _matches(entry: Incompatibility, asked: Combination) -> bool:
    return (
        asked.engine in entry.engines
        and _version_holds(entry.versions, asked.engine_version)
        and entry.modalities <= asked.modalities
        and entry.named_features <= asked.named_features
        and _flags_hold(entry.flags, asked.flags)
        and _shape_holds(entry, asked)
        and _candidate_holds(entry, asked)
        and _kv_cache_holds(entry, asked.kv_cache_precision)
    )


def _shape_holds(entry: Incompatibility, asked: Combination) -> bool:
    return (
        _one_of(entry.accelerators, asked.accelerator)
        and _capability_holds(entry.capabilities, asked.compute_capability)
        and _driver_holds(entry, asked.driver_major)
        and _one_of(entry.architectures, asked.architecture)
        and _one_of(entry.sharing, asked.sharing)
    )


def _candidate_holds(entry: Incompatibility, asked: Combination) -> bool:
    return (
        _one_of(entry.variants, asked.variant)
        and _one_of(entry.precisions, asked.precision)
        and (entry.tensor_parallel is None or asked.tensor_parallel in entry.tensor_parallel)
        and entry.features <= asked.features
        and not entry.without_features & asked.features
        and _repository_holds(entry.repositories, asked.repository)
    )


def _kv_cache_holds(entry: Incompatibility, precision: str | None) -> bool:
    """One that speaks of the KV cache holds only once its precision is named."""
    return entry.kv_cache_precision in (None, precision)


def _one_of(wanted: frozenset[str] | None, value: str) -> bool:
    return wanted is None or value in wanted


def _repository_holds(patterns: Sequence[str], repository: str) -> bool:
    return not patterns or any(fnmatchcase(repository.lower(), pattern.lower()) for pattern in patterns)


def _driver_holds(entry: Incompatibility, driver_major: int | None) -> bool:
    return entry.driver_below is None or (driver_major is not None and driver_major < entry.driver_below)


def _capability_holds(wanted: Capabilities | None, capability: tuple[int, int] | None) -> bool:
    if wanted is None:
        return True
    return capability is not None and (
        (wanted.since is None or capability >= wanted.since)
        and (wanted.below is None or capability < wanted.below)
        and (wanted.exactly is None or capability == wanted.exactly)
    )


def _version_holds(wanted: Versions | None, version: str) -> bool:
    if wanted is None:
        return True
    asked = versions.parse(version)
    return (
        (wanted.since is None or asked >= versions.parse(wanted.since))
        and (wanted.before is None or asked < versions.parse(wanted.before))
        and (not wanted.exactly or asked in map(versions.parse, wanted.exactly))
    )


def _flags_hold(wanted: Mapping[str, Sequence[str]], flags: Mapping[str, str]) -> bool:
    return all(_value_holds(patterns, flags.get(name)) for name, patterns in wanted.items())


def _value_holds(patterns: Sequence[str], value: str | None) -> bool:
    """A flag that is not given matches only where nothing is asked but what it must not be."""
    must = [pattern for pattern in patterns if not pattern.startswith(_NOT)]
    must_not = [pattern.removeprefix(_NOT) for pattern in patterns if pattern.startswith(_NOT)]
    if value is None:
        return not must
    return (not must or any(fnmatchcase(value, pattern) for pattern in must)) and not any(
        fnmatchcase(value, pattern) for pattern in must_not
    )
