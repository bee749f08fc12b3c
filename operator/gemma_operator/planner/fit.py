"""The settings with which one candidate can serve, or the numbers why it cannot.

A card offers what the engine may use of it; weights and overhead come off; the rest is the KV cache, which
must hold the context as often as the concurrency says. The first step of `steps` that fits with the band to
spare wins; only where none does, the first that fits at all, and the plan is tight.

One `Fitting` serves all candidates of a request: candidates on equal cards share their verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gemma_operator.catalog.records import BatchTier, Catalog, Checkpoint, Variant
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner import memory, outside, unchecked, unseen, weights
from gemma_operator.planner.drafters import Drafters
from gemma_operator.planner.needs import UTILIZATION, Card, Needs, Row
from gemma_operator.planner.shapes import seen_of
from gemma_operator.planner.values import (
    Adapters,
    Candidate,
    Code,
    Fit,
    GivenUp,
    KvPrecision,
    Memory,
    Rejection,
    Request,
    Settings,
)
from gemma_operator.planner.vllm import adapters, kv_cache, overhead, versions

MIB: Final = 1024**2
#: Modalities that a prompt may hold items of, in the order in which limits are written.
ITEMS: Final = ("image", "video", "audio")


@dataclass(frozen=True, slots=True)
class _Found:
    settings: Settings
    memory: Memory
    kv_tokens: int
    given_up: tuple[GivenUp, ...]
    tight: bool
    unverified: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Refused:
    code: Code
    details: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class _Step:
    """One combination of settings that fits."""

    row: Row
    #: The engine's own defaults there, for what was given up.
    first: Row
    sequences: int
    overhead_bytes: int
    tight: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is the same for every candidate on equal cards."""

    device: memory.Device
    tier: BatchTier
    unverified: tuple[str, ...]


class Fitting:
    """Fits the candidates of one request."""

    def __init__(self, request: Request, catalog: Catalog) -> None:
        self._request = request
        self._catalog = catalog
        self._engine = catalog.engines[request.engine]
        self.rules = versions.rules(self._engine, request.engine_version)
        self.band_bytes = overhead.band_bytes(self._engine.overhead)
        self.needs = Needs(request, catalog)
        self._outside = outside.of(request, self._engine.overhead)
        self._drafters = Drafters(request, catalog, self.needs)
        self._adapters = (
            Adapters(count=request.adapters, rank=self._engine.adapter_rank) if request.adapters else None
        )
        self._verdicts: dict[tuple[object, ...], _Found | _Refused] = {}
        self._cards: dict[tuple[object, ...], _Seen | None] = {}
        self._limits: dict[str, tuple[tuple[str, int], ...]] = {}
        self._weights: dict[tuple[str, int, int], int] = {}

    def fit(self, candidate: Candidate) -> Fit | Rejection:
        """The verdict on a candidate that has a checkpoint and a pool."""
        checkpoint, shape = candidate.checkpoint, candidate.shape
        if checkpoint is None or shape is None:
            raise ValueError("only a candidate with a checkpoint and a pool can be fitted")
        key = (checkpoint.name, candidate.tensor_parallel, seen_of(shape))
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = self._verdict(candidate, checkpoint, shape)
        if isinstance(verdict, _Refused):
            return Rejection(candidate=candidate, code=verdict.code, details=verdict.details)
        known, taken = self.needs.compatibility, verdict.settings.kv_cache_precision
        return self._drafters.added(
            Fit(
                candidate=candidate,
                settings=verdict.settings,
                memory=verdict.memory,
                kv_tokens=verdict.kv_tokens,
                given_up=verdict.given_up,
                tight=verdict.tight,
                unverified=(*verdict.unverified, *known.warnings(candidate, shape, taken)),
                limits=known.limits(candidate, shape, taken),
            )
        )

    def incompatible(self, candidate: Candidate, shape: PoolShape) -> str | None:
        """What is known to be bad there, with the KV cache that the user insists on."""
        asked = self._request.kv_cache_precision
        insisted = None if asked == "Auto" else KvPrecision(asked)
        known = self.needs.compatibility.refusal(candidate, shape, kv_precision=insisted)
        return known or self.needs.batch_refusal(candidate)

    def _verdict(self, candidate: Candidate, checkpoint: Checkpoint, shape: PoolShape) -> _Found | _Refused:
        card, seen = self.card(candidate, checkpoint, shape), self._seen(shape)
        if card is None or seen is None:
            return _Refused(Code.UNKNOWN_MEMORY, {"accelerator": shape.accelerator})
        if message := self._outside.refusal(card.device):
            return _Refused(Code.INCOMPATIBLE, {"message": message})
        least = min(tried[-1][1] for tried in card.overheads.values())
        if card.room_bytes <= least:
            return _Refused(Code.WEIGHTS_TOO_LARGE, card.sizes_mib(least))
        step = self._step(candidate, shape, card)
        if step is None:
            return self._too_small(candidate, shape, card)
        return self._found(candidate, card, step, seen.unverified)

    def _step(self, candidate: Candidate, shape: PoolShape, card: Card) -> _Step | None:
        """The first that fits outside the band, else the first that fits."""
        inside: _Step | None = None
        first: Row | None = None
        for row in self.needs.rows(candidate, shape, card.tier):
            first = first or row
            spare = card.room_bytes - row.kv_bytes
            if card.least_overhead_bytes(row) > spare:
                continue
            for sequences, overhead_bytes in card.overheads[row.batched_tokens]:
                if overhead_bytes + self.band_bytes <= spare:
                    return _Step(row, first, sequences, overhead_bytes, tight=False)
                if inside is None and overhead_bytes <= spare:
                    inside = _Step(row, first, sequences, overhead_bytes, tight=True)
        return inside

    def card(self, candidate: Candidate, checkpoint: Checkpoint, shape: PoolShape) -> Card | None:
        """What the candidate meets there; None where nothing tells the memory."""
        seen = self._seen(shape)
        if seen is None:
            return None
        return Card(
            device=seen.device,
            weights_bytes=self._weights_bytes(candidate, checkpoint),
            tier=seen.tier,
            overheads=self.needs.overheads(candidate, seen.tier),
        )

    def _seen(self, shape: PoolShape) -> _Seen | None:
        key = seen_of(shape)
        if key not in self._cards:
            self._cards[key] = self._looked_at(shape)
        return self._cards[key]

    def _looked_at(self, shape: PoolShape) -> _Seen | None:
        accelerator = self._catalog.accelerators.get(shape.accelerator)
        version = self._request.engine_version
        device = memory.device(shape, accelerator, self._engine, version=version)
        if device is None:
            return None
        if given := dict(self._request.engine_overrides).get(UTILIZATION):
            device = replace(device, utilization_basis_points=round(float(given) * 10_000))
        tier = versions.batch_tier(
            self._engine, version=version, accelerator=shape.accelerator, visible_mib=device.visible_mib
        )
        said = tuple(unchecked.words(self._request, shape, accelerator, self._engine))
        return _Seen(device, tier, said)

    def _weights_bytes(self, candidate: Candidate, checkpoint: Checkpoint) -> int:
        tile = self.expert_tile(candidate)
        key = (checkpoint.name, candidate.tensor_parallel, tile)
        found = self._weights.get(key)
        if found is None:
            found = self._weights[key] = weights.loaded_bytes(
                candidate.variant,
                checkpoint,
                tensor_parallel=candidate.tensor_parallel,
                modalities=self._request.built_modalities(candidate.variant),
                rules=self.rules,
                expert_tile=tile,
            ) + self.adapter_bytes(candidate)
        return found

    def expert_tile(self, candidate: Candidate) -> int:
        """Columns by which the kernels of that card take quantised experts up."""
        shape = candidate.shape
        return versions.expert_tile(
            self._engine,
            version=self._request.engine_version,
            capability=shape.compute_capability if shape is not None else None,
            precision=candidate.precision,
        )

    def adapter_bytes(self, candidate: Candidate) -> int:
        """Buffers that the engine keeps for adapters; they are allocated while it loads."""
        if self._adapters is None:
            return 0
        return adapters.buffer_bytes(
            candidate.variant, self._adapters, tensor_parallel=candidate.tensor_parallel
        )

    def _found(self, candidate: Candidate, card: Card, step: _Step, unverified: tuple[str, ...]) -> _Found:
        row, kv_cache_bytes = step.row, card.room_bytes - step.overhead_bytes
        more = unseen.doubts(candidate, self.needs, left_bytes=kv_cache_bytes - row.kv_bytes)
        doubts = (*self._outside.doubts(card.device), *more)
        held = kv_cache.held_by(
            row.layout, available_bytes=kv_cache_bytes, max_model_len=row.context_length, rules=self.rules
        )
        return _Found(
            settings=Settings(
                context_length=row.context_length,
                max_sequences=step.sequences,
                max_batched_tokens=row.batched_tokens,
                kv_cache_precision=row.kv_precision,
                tensor_parallel=candidate.tensor_parallel,
                utilization_percent=card.device.utilization_percent,
                modality_limits=self._limits_of(candidate.variant),
                async_scheduling=True,
                enforce_eager=self.needs.eager,
                adapters=self._adapters,
            ),
            memory=Memory(
                weights_bytes=card.weights_bytes,
                kv_cache_bytes=kv_cache_bytes,
                overhead_bytes=step.overhead_bytes,
                band_bytes=self.band_bytes,
                usable_bytes=card.device.usable_bytes,
            ),
            kv_tokens=held.tokens or 0,
            given_up=_given_up(step, sequences=card.overheads[row.batched_tokens][0][0]),
            tight=step.tight or bool(doubts),
            unverified=(*unverified, *doubts),
        )

    def _limits_of(self, variant: Variant) -> tuple[tuple[str, int], ...]:
        found = self._limits.get(variant.name)
        if found is None:
            items, asked = self._engine.items_per_prompt, self._request.modalities
            found = self._limits[variant.name] = tuple(
                (item, items if item in asked else 0) for item in ITEMS if item in variant.modalities
            )
        return found

    def _too_small(self, candidate: Candidate, shape: PoolShape, card: Card) -> _Refused:
        """The numbers of the settings that take least."""
        rows = self.needs.rows(candidate, shape, card.tier)
        least = min(rows, key=lambda row: row.kv_bytes + card.least_overhead_bytes(row))
        overhead_bytes = card.least_overhead_bytes(least)
        return _Refused(
            Code.KV_CACHE_TOO_SMALL,
            {
                **card.sizes_mib(overhead_bytes),
                "needed_mib": -(-least.kv_bytes // MIB),
                "available_mib": (card.room_bytes - overhead_bytes) // MIB,
                "context_length": least.context_length,
                "concurrency": self._request.concurrency,
                "kv_cache_precision": least.kv_precision.value,
                "batched_tokens": least.batched_tokens,
                "max_sequences": card.overheads[least.batched_tokens][-1][0],
            },
        )


def _given_up(step: _Step, *, sequences: int) -> tuple[GivenUp, ...]:
    """What lies below its first choice. A setting that a floor raised is not given up."""
    row, first = step.row, step.first
    if row is first and step.sequences == sequences:
        return ()
    pairs = (
        ("contextLength", first.context_length, row.context_length),
        ("kvCachePrecision", first.kv_precision.value, row.kv_precision.value),
        ("maxBatchedTokens", first.batched_tokens, row.batched_tokens),
        ("maxSequences", sequences, step.sequences),
    )
    return tuple(GivenUp(setting, wanted, taken) for setting, wanted, taken in pairs if wanted != taken)
