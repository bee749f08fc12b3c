"""Memory that the engine takes beside weights and KV cache.

`overhead = base + held + experts' workspace + max(forward pass, sampler, copied words) + CUDA graphs + per-layer
inputs`, per GPU. A maximum, not a sum: the profiling run does one after the other and frees between. The workspace is
made for the largest batch and kept (`v1/worker/workspace.py`). The words are copied by the compiler: it times kernels
on tensors of its own, the table of words among them where text alone is served, and the profiling run counts the peak
(vllm-project/vllm#54122). That is before the workspace is made, so only what is larger than it counts.

What all of it depends on beside the settings is the model
runner, of which vLLM has two (`runner`): the first makes FP32 copies of every sequence's logits in its sampler; the
second keeps a table of counts by sequence and word for good (`held`) and its sampler takes less. Neither shrinks with
tensor parallelism. The graphs' share is an estimate that the engine deducts before it sizes its KV cache; none is
made in eager mode, nor words copied. max_model_len does not matter. Constants, their sources and their logs:
catalog/engines.yaml, `overhead`; residuals: docs/planner.md.

Not for: sleep mode before 0.27 (its allocator hides from the profiler), host memory shared with the GPU, ROCm, TPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.overheads import ModelRunner, OverheadModel
from gemma_operator.catalog.records import Variant
from gemma_operator.planner.vllm import all_reduce, versions

GIB: Final = 1024**3
MIB: Final = 1024**2
EXPERTS: Final = "experts"
SECOND: Final = "second"
FP8: Final = "fp8"
_BF16_BYTES: Final = 2
_FP8_SINCE: Final = (8, 9)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the sum is made of, GiB on each GPU; of `forward`, `sampler` and `copied` the largest counts."""

    base_gib: float
    #: More of it for FP8 on cards that calculate in it.
    fp8_gib: float
    held_gib: float
    #: Scratch of the experts of one batch.
    workspace_gib: float
    all_reduce: all_reduce.Buffers
    forward_gib: float
    sampler_gib: float
    #: The table of words, by the compiler, less the workspace that is made after it.
    copied_gib: float
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
    def passing_gib(self) -> float:
        """What the profiling run takes and gives back."""
        return max(self.forward_gib, self.sampler_gib, self.copied_gib)

    @property
    def beside_load_bytes(self) -> int:
        """What start-up logs show: usable less load less KV cache."""
        kept = self.base_gib + self.fp8_gib + self.held_gib + self.workspace_gib
        return int((kept + self.passing_gib + self.graphs_gib) * GIB) + self.all_reduce.size_bytes

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
    capability: tuple[int, int] | None,
    compiled: bool = True,
    text_alone: bool = False,
    second_runner: bool | None = None,
) -> Terms:
    """Expected on each GPU, off by at most `band_bytes`.

    `compiled`: not in eager mode. `text_alone`: that is what is served. `capability`: the card's; None: nothing tells.
    """
    by = runner(model, variant, engine_version, second=second_runner)
    deducted = graphs_deducted and by.graphs_gib > 0
    more = 0.0 if tensor_parallel == 1 else model.graphs_parallel_more_gib
    workspace_gib = _workspace_bytes(variant, max_batched_tokens) / GIB
    # a table that is shared out was not seen copied: text alone on two GPUs (G4-021, G4-022)
    copied = by.copies_words and text_alone and compiled and tensor_parallel == 1
    words_gib = words_bytes(variant) / GIB if copied else 0.0
    return Terms(
        base_gib=model.base_gib if tensor_parallel == 1 else model.base_parallel_gib,
        fp8_gib=model.fp8_more_gib if precision == FP8 and calculates_in_fp8(capability) else 0.0,
        workspace_gib=workspace_gib,
        all_reduce=all_reduce.buffers(
            model.all_reduce,
            variant,
            engine_version=engine_version,
            capability=capability,
            gpus=tensor_parallel,
            max_batched_tokens=max_batched_tokens,
            compiled=compiled,
        ),
        copied_gib=max(0.0, words_gib - workspace_gib),
        held_gib=by.held_mib_per_sequence * max_sequences / 1024,
        forward_gib=forward_gib_per_1024_tokens(variant, precision) * max_batched_tokens / 1024,
        sampler_gib=by.sampler_mib_per_sequence * max_sequences / 1024,
        graphs_few_gib=by.graphs_few_gib if deducted else 0.0,
        graphs_all_gib=by.graphs_gib + more if deducted else 0.0,
        # captured up to twice the sequences
        graphs_share=min(2 * max_sequences, model.graphs_largest_batch) / model.graphs_largest_batch,
        inputs_gib=_inputs_bytes(variant, max_batched_tokens) / GIB,
    )


def runner(
    model: OverheadModel, variant: Variant, engine_version: str, *, second: bool | None = None
) -> ModelRunner:
    """The model runner that the engine takes by itself; between versions that differ by model, dense ones first.

    `second`: the user says which, by VLLM_USE_V2_MODEL_RUNNER. One that a version does not take by itself yet is
    reckoned by the figures of the first version that does.
    """
    if second is not None:
        of_kind = [each for each in model.runners if (each.name == SECOND) is second]
        return (versions.started(of_kind, engine_version) or of_kind[:1])[-1]
    takes = [each for each in model.runners if not (each.dense_only and EXPERTS in variant.parameters)]
    return versions.newest(takes, engine_version) or model.runners[0]


def calculates_in_fp8(capability: tuple[int, int] | None) -> bool:
    """Cards that do by themselves (vLLM platforms/cuda.py). Where nothing tells, as if it did: that takes more."""
    return capability is None or capability >= _FP8_SINCE


def band_bytes(model: OverheadModel) -> int:
    """How far off the expectation may be on each GPU."""
    return int(model.band_gib * GIB)


def forward_gib_per_1024_tokens(variant: Variant, precision: str) -> float:
    """Activations of a forward pass beside the experts' workspace; experts in NVFP4 have kernels of their own."""
    figures = variant.forward_gib_per_1024_tokens
    return figures.get(precision, figures["default"])


def words_bytes(variant: Variant) -> int:
    """The table of words, which engines keep in BF16."""
    return variant.parameters["embedding"] * _BF16_BYTES


def second_table_bytes(variant: Variant) -> int:
    """The per-layer table of words of E2B and E4B; 0 where there is none."""
    return variant.parameters.get("perLayerEmbedding", 0) * _BF16_BYTES


def _workspace_bytes(variant: Variant, max_batched_tokens: int) -> int:
    """Two buffers for each token and each expert that works on it, whole on each GPU: both are as wide as the model,
    which is wider than twice an expert.

    Source: vLLM 0.29.0 and 0.32.0, model_executor/layers/fused_moe/experts/triton_moe.py and marlin_moe.py,
    `workspace_shapes`. Those of other kernels (cutlass_moe.py in NVFP4) are smaller.
    """
    linears = variant.linears
    if linears is None or linears.experts is None:
        return 0
    experts = linears.experts
    widths = max(experts.width, linears.hidden) + max(2 * experts.width, linears.hidden)
    return max_batched_tokens * experts.active * widths * _BF16_BYTES


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
