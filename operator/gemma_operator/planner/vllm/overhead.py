"""Memory that the engine takes beside weights and KV cache.

`overhead = base + max(forward pass, sampler) + CUDA graphs`, per GPU. A maximum, not a sum: the profiling
run does one after the other and frees between. The sampler holds logits of every sequence in FP32 and does
not shrink with tensor parallelism; the graphs' share is an estimate that the engine deducts before it sizes
its KV cache, and none is made in eager mode. max_model_len does not matter. Constants and their logs:
catalog/engines.yaml, `overhead`; residuals: tests/unit/planner/test_overhead.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import OverheadModel, Variant

GIB: Final = 1024**3
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True)
class Terms:
    """What the sum is made of, GiB on each GPU; of `forward` and `sampler` the larger counts."""

    base_gib: float
    forward_gib: float
    sampler_gib: float
    graphs_gib: float

    @property
    def total_bytes(self) -> int:
        """The sum."""
        return int((self.base_gib + max(self.forward_gib, self.sampler_gib) + self.graphs_gib) * GIB)


def terms(
    variant: Variant,
    model: OverheadModel,
    *,
    precision: str,
    tensor_parallel: int,
    max_batched_tokens: int,
    max_sequences: int,
    graphs_deducted: bool,
) -> Terms:
    """The lines of `overhead_bytes`."""
    return Terms(
        base_gib=model.base_gib if tensor_parallel == 1 else model.base_parallel_gib,
        forward_gib=forward_gib_per_1024_tokens(variant, precision) * max_batched_tokens / 1024,
        sampler_gib=model.sampler_mib_per_sequence * max_sequences / 1024,
        graphs_gib=_graphs_gib(model, tensor_parallel, max_sequences) if graphs_deducted else 0.0,
    )


def overhead_bytes(
    variant: Variant,
    model: OverheadModel,
    *,
    precision: str,
    tensor_parallel: int,
    max_batched_tokens: int,
    max_sequences: int,
    graphs_deducted: bool,
) -> int:
    """Bytes on each GPU, as an expectation; `band_bytes` is how far off it may be."""
    return terms(
        variant,
        model,
        precision=precision,
        tensor_parallel=tensor_parallel,
        max_batched_tokens=max_batched_tokens,
        max_sequences=max_sequences,
        graphs_deducted=graphs_deducted,
    ).total_bytes


def band_bytes(model: OverheadModel) -> int:
    """How far off the expectation may be on each GPU."""
    return int(model.band_gib * GIB)


def forward_gib_per_1024_tokens(variant: Variant, precision: str) -> float:
    """Activations of a forward pass; experts in NVFP4 have kernels of their own."""
    figures = variant.forward_gib_per_1024_tokens
    return figures.get(precision, figures["default"])


def _graphs_gib(model: OverheadModel, tensor_parallel: int, max_sequences: int) -> float:
    if max_sequences <= model.graphs_few_sequences:
        return model.graphs_few_gib
    return model.graphs_gib if tensor_parallel == 1 else model.graphs_parallel_gib
