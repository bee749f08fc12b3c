"""What an engine takes beside weights and KV cache, as the catalog's figures; the formula is planner/vllm/overhead.py.

Values and how their members are called, together: nothing else of the catalog is read this deep.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemma_operator.catalog.reading import Entry, inner


@dataclass(frozen=True, slots=True)
class ModelRunner:
    """One of the engine's model runners: what it keeps and what its profiling run takes."""

    since: str
    name: str
    dense_only: bool  # until the next entry that holds, only models without experts are run by it
    held_mib_per_sequence: float  # kept for good, for each of max_num_seqs
    sampler_mib_per_sequence: float  # at the peak of its dry run
    #: The estimate that is deducted for CUDA graphs, with few sizes and with all; 0: none is made.
    graphs_few_gib: float
    graphs_gib: float
    copies_words: bool  # while it compiles for text alone: seen in logs


@dataclass(frozen=True, slots=True)
class OverheadModel:
    """Memory beside weights and KV cache, GiB a GPU; see planner/vllm/overhead.py for the formula."""

    base_gib: float
    base_parallel_gib: float
    fp8_more_gib: float
    runners: tuple[ModelRunner, ...]
    graphs_largest_batch: int
    graphs_parallel_more_gib: float
    band_gib: float
    invisible_mib: int
    hidden_by_sleep_mode_gib: float  # from the profiling run of older engines than the next
    sleep_mode_seen_since: str
    all_reduce: AllReduce | None
    provisional: bool
    source: str


@dataclass(frozen=True, slots=True)
class FusedSize:
    """The largest tensor that GPUs of one capability add up in one kernel with the norm that follows."""

    compute_capability: tuple[int, int]
    gpus: int
    largest_mib: float


@dataclass(frozen=True, slots=True)
class AllReduceWorkspace:
    """How many of such tensors each GPU keeps room for, from a version on."""

    since: str
    tensors: int
    tensors_per_gpu: int
    rounded_to_mib: int
    #: Without compilation too, and then for the largest tensor whatever the batch.
    eager: bool


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Room that several GPUs keep for adding up; made while the engine profiles."""

    sizes: tuple[FusedSize, ...]
    workspaces: tuple[AllReduceWorkspace, ...]


def overhead(entry: Entry) -> OverheadModel:
    """Of one engine."""
    return OverheadModel(
        base_gib=entry.number("baseGib"),
        base_parallel_gib=entry.number("baseParallelGib"),
        fp8_more_gib=entry.number("fp8MoreGib", 0.0),
        runners=tuple(inner(runner, _runner) for runner in entry.entries("runners")),
        graphs_largest_batch=entry.integer("graphsLargestBatch"),
        graphs_parallel_more_gib=entry.number("graphsParallelMoreGib"),
        band_gib=entry.number("bandGib"),
        invisible_mib=entry.integer("invisibleMib"),
        hidden_by_sleep_mode_gib=entry.number("hiddenBySleepModeGib", 0.0),
        sleep_mode_seen_since=entry.text("sleepModeSeenSince", "0.0"),
        all_reduce=inner(entry.entry("allReduce"), _all_reduce) if entry.has("allReduce") else None,
        provisional=entry.boolean("provisional"),
        source=entry.text("source"),
    )


def _runner(entry: Entry) -> ModelRunner:
    return ModelRunner(
        since=entry.text("since"),
        name=entry.text("name"),
        dense_only=entry.boolean("denseOnly", False),
        held_mib_per_sequence=entry.number("heldMibPerSequence"),
        sampler_mib_per_sequence=entry.number("samplerMibPerSequence"),
        graphs_few_gib=entry.number("graphsFewGib"),
        graphs_gib=entry.number("graphsGib"),
        copies_words=entry.boolean("copiesWords", False),
    )


def _all_reduce(entry: Entry) -> AllReduce:
    return AllReduce(
        sizes=tuple(inner(size, _fused_size) for size in entry.entries("sizes")),
        workspaces=tuple(inner(each, _workspace) for each in entry.entries("workspaces")),
    )


def _fused_size(entry: Entry) -> FusedSize:
    return FusedSize(
        compute_capability=entry.capability("computeCapability"),
        gpus=entry.integer("gpus"),
        largest_mib=entry.number("largestMib"),
    )


def _workspace(entry: Entry) -> AllReduceWorkspace:
    return AllReduceWorkspace(
        since=entry.text("since"),
        tensors=entry.integer("tensors", 0),
        tensors_per_gpu=entry.integer("tensorsPerGpu", 0),
        rounded_to_mib=entry.integer("roundedToMib", 1),
        eager=entry.boolean("eager", False),
    )
