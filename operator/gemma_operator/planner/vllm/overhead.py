"""Memory that the engine takes beside weights and KV cache.

`overhead = base + held + experts + max(forward pass, sampler, compiling) + CUDA graphs + per-layer inputs`, per GPU. A
maximum, not a sum: the profiling run does one after the other and frees between. What it depends on beside the settings
is the model runner, of which vLLM has two (`runner`): the first makes FP32 copies of every sequence's logits in its
sampler; the second keeps a table of counts by sequence and word for good (`held`), its sampler takes less, and it keeps
the workspace of experts' kernels (`experts`), which the first took for a forward pass. Neither sampler shrinks with
tensor parallelism. The graphs' share is an estimate that the engine deducts before it sizes its KV cache; none is
made in eager mode. max_model_len does not matter. Constants, their sources and their logs: catalog/engines.yaml,
`overhead`; residuals: docs/planner.md.

Not for: sleep mode before 0.27 (its allocator hides from the profiler), host memory shared with the GPU, ROCm, TPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import ModelRunner, OverheadModel, Variant
from gemma_operator.planner.vllm import versions

GIB: Final = 1024**3
MIB: Final = 1024**2
EXPERTS: Final = "experts"
SECOND: Final = "second"
_BF16_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """What the sum is made of, GiB on each GPU; of `forward`, `sampler` and `compiling` the largest counts."""

    base_gib: float
    held_gib: float
    forward_gib: float
    sampler_gib: float
    #: Of models with experts: what their kernels keep, and what passes while the engine compiles.
    experts_gib: float
    compiling_gib: float
    #: With few sizes captured, with all, and how many of all are.
    graphs_few_gib: float
    graphs_all_gib: float
    graphs_share: float
    #: Kept for good from loading on, so that the engine's logs count it among the weights.
    inputs_gib: float

    @property
    def graphs_gib(self) -> float:
        """Between few sizes and all, in proportion."""
        return self.graphs_few_gib + (self.graphs_all_gib - self.graphs_few_gib) * self.graphs_share

    @property
    def beside_load_bytes(self) -> int:
        """What start-up logs show: usable less load less KV cache."""
        kept = self.base_gib + self.held_gib + self.experts_gib
        return int((kept + self.passing_gib + self.graphs_gib) * GIB)

    @property
    def passing_gib(self) -> float:
        """The largest of what is taken one after the other."""
        return max(self.forward_gib, self.sampler_gib, self.compiling_gib)

    @property
    def total_bytes(self) -> int:
        """The sum."""
        return self.beside_load_bytes + int(self.inputs_gib * GIB)


def terms(  # noqa: PLR0913 - what it depends on, all by keyword
    variant: Variant,
    model: OverheadModel,
    *,
    engine_version: str,
    precision: str,
    tensor_parallel: int,
    max_batched_tokens: int,
    max_sequences: int,
    graphs_deducted: bool,
    second_runner: bool | None = None,
) -> Terms:
    """The lines of `overhead_bytes`."""
    by = runner(model, variant, engine_version, second=second_runner)
    deducted = graphs_deducted and by.graphs_gib > 0
    kept, by_batch, compiling = by.experts_gib if EXPERTS in variant.parameters else (0, 0, 0)
    more = 0.0 if tensor_parallel == 1 else model.graphs_parallel_more_gib
    return Terms(
        base_gib=model.base_gib if tensor_parallel == 1 else model.base_parallel_gib,
        held_gib=by.held_mib_per_sequence * max_sequences / 1024,
        # the workspace of experts is a part of it where it is not kept
        forward_gib=(forward_gib_per_1024_tokens(variant, precision) - by_batch) * max_batched_tokens / 1024,
        sampler_gib=by.sampler_mib_per_sequence * max_sequences / 1024,
        experts_gib=kept + by_batch * max_batched_tokens / 1024,
        compiling_gib=compiling if deducted else 0.0,
        graphs_few_gib=by.graphs_few_gib if deducted else 0.0,
        graphs_all_gib=by.graphs_gib + more if deducted else 0.0,
        # captured up to twice the sequences
        graphs_share=min(2 * max_sequences, model.graphs_largest_batch) / model.graphs_largest_batch,
        inputs_gib=_inputs_bytes(variant, max_batched_tokens) / GIB,
    )


def overhead_bytes(
    variant: Variant,
    model: OverheadModel,
    *,
    engine_version: str,
    precision: str,
    tensor_parallel: int,
    max_batched_tokens: int,
    max_sequences: int,
    graphs_deducted: bool,
) -> int:
    """Bytes on each GPU beside what the engine calls its load: an expectation, off by at most `band_bytes`."""
    return terms(
        variant,
        model,
        engine_version=engine_version,
        precision=precision,
        tensor_parallel=tensor_parallel,
        max_batched_tokens=max_batched_tokens,
        max_sequences=max_sequences,
        graphs_deducted=graphs_deducted,
    ).beside_load_bytes


def runner(
    model: OverheadModel, variant: Variant, engine_version: str, *, second: bool | None = None
) -> ModelRunner:
    """The model runner that the engine takes by itself; between versions that differ by model, dense ones first.

    `second`: the user says which, by VLLM_USE_V2_MODEL_RUNNER. One that a version does not take by itself yet is
    reckoned by the figures of the first version that does.
    """
    wanted = versions.parse(engine_version)
    if second is not None:
        of_kind = [each for each in model.runners if (each.name == SECOND) is second]
        begun = [each for each in of_kind if versions.parse(each.since) <= wanted]
        return (begun or of_kind[:1])[-1]
    started = [
        each
        for each in model.runners
        if versions.parse(each.since) <= wanted and not (each.dense_only and EXPERTS in variant.parameters)
    ]
    return max(started, key=lambda each: versions.parse(each.since)) if started else model.runners[0]


def band_bytes(model: OverheadModel) -> int:
    """How far off the expectation may be on each GPU."""
    return int(model.band_gib * GIB)


def forward_gib_per_1024_tokens(variant: Variant, precision: str) -> float:
    """Activations of a forward pass; experts in NVFP4 have kernels of their own."""
    figures = variant.forward_gib_per_1024_tokens
    return figures.get(precision, figures["default"])


def _inputs_bytes(variant: Variant, max_batched_tokens: int) -> int:
    """The per-layer inputs of one batch: a buffer that the model makes for its CUDA graphs, whole on each GPU.

    Source: vLLM 0.20.2 to 0.32.0, model_executor/models/gemma4_mm.py, `per_layer_embeddings`.
    """
    linears = variant.linears
    if linears is None or not linears.per_layer_input:
        return 0
    shared = linears.queries_only_sliding + linears.queries_only_full
    layers = variant.sliding.layers + variant.full.layers + shared
    return max_batched_tokens * layers * linears.per_layer_input * _BF16_BYTES
