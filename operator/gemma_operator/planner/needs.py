"""What each step of the settings takes on one GPU: bytes of KV cache for the promise, bytes of overhead.

Kept apart from `fit` because it depends on few things (variant, precision, GPUs of a replica, settings), so
that a thousand candidates share a few dozen sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.overheads import ModelRunner
from gemma_operator.catalog.records import BatchTier, Catalog, Variant
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner import memory, steps
from gemma_operator.planner.compatibility import Compatibility
from gemma_operator.planner.values import TEXT_ONLY, Candidate, Fit, KvPrecision, Request
from gemma_operator.planner.vllm import kv_cache, overhead, versions
from gemma_operator.planner.words import with_article

MIB: Final = 1024**2
#: The user's own flags that are reckoned with; every other one that changes memory marks the plan unverified.
EAGER: Final = "enforce-eager"
NO_HYBRID: Final = "disable-hybrid-kv-cache-manager"
BLOCK_SIZE: Final = "block-size"
#: Those that compatibility.yaml speaks of.
ATTENTION: Final = "attention-backend"
KV_CONNECTOR: Final = "kv-transfer-config"
KV_OFFLOADING: Final = "kv-offloading-size"
#: Flags that a plan owns: no GemmaDeployment may set them, the calculator takes them as they are given.
BATCHED_TOKENS: Final = "max-num-batched-tokens"
SEQUENCES: Final = "max-num-seqs"
UTILIZATION: Final = "gpu-memory-utilization"
#: Of the user's environment: which model runner the engine takes.
RUNNER: Final = "VLLM_USE_V2_MODEL_RUNNER"
_RUNNERS: Final = {"true": True, "false": False}
ACCOUNTED: Final = frozenset(
    {
        *(EAGER, NO_HYBRID, BLOCK_SIZE, ATTENTION, KV_CONNECTOR, KV_OFFLOADING, RUNNER),
        *(BATCHED_TOKENS, SEQUENCES, UTILIZATION),
    }
)

#: By batch: (sequences, bytes of overhead), the first nearest to the engine's default.
Overheads = Mapping[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """Context, KV precision and batch, and the KV cache that the promise takes with them on each GPU."""

    context_length: int
    kv_precision: KvPrecision
    batched_tokens: int
    layout: kv_cache.Layout
    kv_bytes: int


@dataclass(frozen=True, slots=True)
class Card:
    """What a candidate meets: the device, what its weights leave, and the engine's defaults there."""

    device: memory.Device
    weights_bytes: int
    tier: BatchTier
    overheads: Overheads

    @property
    def room_bytes(self) -> int:
        """Usable less weights."""
        return self.device.usable_bytes - self.weights_bytes

    def least_overhead_bytes(self, row: Row) -> int:
        """With the fewest sequences that are tried."""
        return self.overheads[row.batched_tokens][-1][1]

    def sizes_mib(self, overhead_bytes: int) -> dict[str, int | str]:
        """What a refusal tells of it."""
        return {
            "weights_mib": self.weights_bytes // MIB,
            "usable_mib": self.device.usable_bytes // MIB,
            "overhead_mib": overhead_bytes // MIB,
        }


class Needs:
    """What the settings of one request take; sums are kept."""

    def __init__(self, request: Request, catalog: Catalog) -> None:
        self._request = request
        self._engine = catalog.engines[request.engine]
        self._rules = versions.rules(self._engine, request.engine_version)
        self._flags = dict(request.engine_overrides)
        self.compatibility = Compatibility(request, catalog)
        self._blocks: dict[tuple[object, ...], int] = {}
        self._batches: dict[tuple[str, int], tuple[int, ...]] = {}
        self._rows: dict[tuple[object, ...], Row] = {}
        self._overheads: dict[tuple[object, ...], Overheads] = {}
        self._sums: dict[tuple[object, ...], int] = {}

    @property
    def eager(self) -> bool:
        """Whether the user asked for no CUDA graphs."""
        return self._flags.get(EAGER) == "true"

    def flag(self, name: str) -> str:
        """As the user gave it; empty where he did not."""
        return self._flags.get(name, "")

    def runner(self, variant: Variant) -> ModelRunner:
        """The engine's model runner, by version or as the user says."""
        model, version = self._engine.overhead, self._request.engine_version
        return overhead.runner(model, variant, version, second=self._second_runner)

    @property
    def _second_runner(self) -> bool | None:
        return _RUNNERS.get(self.flag(RUNNER))

    @property
    def text_compiled(self) -> bool:
        """Whether words become vectors in what is compiled; with images they do before (gpu/model_runner.py)."""
        return self._request.modalities <= TEXT_ONLY and not self.eager

    def rows(self, candidate: Candidate, shape: PoolShape, tier: BatchTier) -> Iterator[Row]:
        """Nearest to the engine's defaults first; lazily, since the first row mostly does."""
        request = self._request
        batches = self.batches(candidate, tier)
        for context in steps.contexts(request.context_length):
            for precision in self._kv_precisions(candidate, shape):
                block = self._block_size(shape, precision)
                for batch in batches:
                    yield self._row(candidate, context, precision, batch, block)

    def row(
        self,
        candidate: Candidate,
        shape: PoolShape,
        *,
        context_length: int,
        kv_precision: KvPrecision,
        batched_tokens: int,
    ) -> Row:
        """One combination, whatever order it stands in."""
        block = self._block_size(shape, kv_precision)
        return self._row(candidate, context_length, kv_precision, batched_tokens, block)

    def row_of(self, fit: Fit) -> Row:
        """The row that the settings of a fit are."""
        shape, settings = fit.candidate.shape, fit.settings
        assert shape is not None
        return self.row(
            fit.candidate,
            shape,
            context_length=settings.context_length,
            kv_precision=settings.kv_cache_precision,
            batched_tokens=settings.max_batched_tokens,
        )

    def overhead_terms(self, candidate: Candidate, *, batched_tokens: int, sequences: int) -> overhead.Terms:
        """What the overhead of one combination is made of."""
        return overhead.terms(
            candidate.variant,
            self._engine.overhead,
            engine_version=self._request.engine_version,
            precision=candidate.precision,
            tensor_parallel=candidate.tensor_parallel,
            max_batched_tokens=batched_tokens,
            max_sequences=sequences,
            graphs_deducted=self._rules.graph_estimate_deducted and not self.eager,
            capability=_capability(candidate),
            compiled=not self.eager,
            text_alone=self._request.modalities <= TEXT_ONLY,
            second_runner=self._second_runner,
        )

    def batches(self, candidate: Candidate, tier: BatchTier) -> tuple[int, ...]:
        """The batches that are tried."""
        key = (candidate.variant.name, tier.batched_tokens)
        found = self._batches.get(key)
        if found is None:
            request = self._request
            floor = steps.batch_floor(candidate.variant, request.modalities, request.concurrency)
            given = self._flags.get(BATCHED_TOKENS)
            steps_down = steps.batched_tokens(tier.batched_tokens, floor)
            found = self._batches[key] = (int(given),) if given else steps_down
        return found

    def batch_refusal(self, candidate: Candidate) -> str | None:
        """Why the engine does not start with the batch that is given; one that is found is never below the floor."""
        given, (since, tokens) = self._flags.get(BATCHED_TOKENS), self._engine.whole_items
        request, variant = self._request, candidate.variant
        too_old = versions.parse(request.engine_version) < versions.parse(since)
        if not given or too_old or not variant.takes_items_whole:
            return None
        served = {item: tokens[item] for item in tokens if item in request.modalities}
        largest = max(served, key=lambda item: served[item], default=None)
        if largest is None or served[largest] <= int(given):
            return None
        return (
            f"{variant.name} takes {with_article(largest)} of {served[largest]} tokens whole in one batch, and"
            f" {request.engine} {request.engine_version} does not start with {given} batched tokens: take at least"
            f" {served[largest]}, or serve no {largest}"
        )

    def overheads(self, candidate: Candidate, tier: BatchTier) -> Overheads:
        """By batch: the sequences that are tried, and the overhead of each; the last one takes least."""
        capability = _capability(candidate)
        key = (candidate.variant.name, candidate.precision, candidate.tensor_parallel, tier, capability)
        found = self._overheads.get(key)
        if found is None:
            given = self._flags.get(SEQUENCES)
            steps_down = steps.sequences(tier.sequences, self._request.concurrency)
            found = self._overheads[key] = {
                batch: tuple(
                    (count, self._overhead(candidate, batch, count))
                    # the engine takes no fewer tokens a step than sequences, and lowers its default to them
                    for count in (
                        (int(given),) if given else dict.fromkeys(min(each, batch) for each in steps_down)
                    )
                )
                for batch in self.batches(candidate, tier)
            }
        return found

    def _row(self, candidate: Candidate, context: int, precision: KvPrecision, batch: int, block: int) -> Row:
        key = (candidate.variant.name, candidate.tensor_parallel, context, precision, batch, block)
        row = self._rows.get(key)
        if row is None:
            layout = kv_cache.layout(
                candidate.variant,
                max_model_len=context,
                in_flight_tokens=batch * self._rules.in_flight_batches,
                tensor_parallel_size=candidate.tensor_parallel,
                kv_cache_element_bytes=precision.element_bytes,
                hybrid_kv_cache=self.compatibility.hybrid_kv_cache,
                block_size=block,
                spare_blocks=self._rules.spare_blocks,
            )
            needed = layout.blocks_needed(self._request.concurrency) * layout.block_bytes
            row = self._rows[key] = Row(context, precision, batch, layout, needed)
        return row

    def _overhead(self, candidate: Candidate, batch: int, sequences: int) -> int:
        """Kept by what it depends on: tiers share batches, and most precisions share a forward pass."""
        variant = candidate.variant
        forward = overhead.forward_gib_per_1024_tokens(variant, candidate.precision)
        fp8 = candidate.precision == overhead.FP8
        key = (
            variant.name,
            forward,
            fp8,
            _capability(candidate),
            candidate.tensor_parallel,
            batch,
            sequences,
        )
        found = self._sums.get(key)
        if found is None:
            terms = self.overhead_terms(candidate, batched_tokens=batch, sequences=sequences)
            found = self._sums[key] = terms.total_bytes
        return found

    def _kv_precisions(self, candidate: Candidate, shape: PoolShape) -> Iterator[KvPrecision]:
        """BF16 before FP8; FP8 unasked only where the card is known to be able."""
        asked = self._request.kv_cache_precision
        if asked != "Auto":
            yield KvPrecision(asked)
            return
        yield KvPrecision.BF16
        if shape.compute_capability is not None and self.fp8_refused(candidate, shape) is None:
            yield KvPrecision.FP8

    def fp8_refused(self, candidate: Candidate, shape: PoolShape) -> str | None:
        """Why an FP8 KV cache is known not to work there."""
        return self.compatibility.refusal(candidate, shape, kv_precision=KvPrecision.FP8)

    def _block_size(self, shape: PoolShape, precision: KvPrecision) -> int:
        key = (shape.compute_capability, precision)
        found = self._blocks.get(key)
        if found is None:
            given = self._flags.get(BLOCK_SIZE, "")
            by_engine = versions.block_size(
                self._engine,
                version=self._request.engine_version,
                capability=shape.compute_capability,
                kv_precision=precision.value,
            )
            found = self._blocks[key] = int(given) if given.isdigit() and int(given) > 0 else by_engine
        return found


def _capability(candidate: Candidate) -> tuple[int, int] | None:
    return candidate.shape.compute_capability if candidate.shape is not None else None
