"""What vLLM keeps on each GPU for LoRA adapters, whether one is loaded or not.

With `--enable-lora` every linear of the language model gets two buffers, A (rank x inputs) and B (outputs x rank),
for each of `max_loras` adapters at `max_lora_rank`, in the model's own BF16. Tensor parallelism shares out only the
side that the layer itself shares out: outputs of queries, keys, values, gate and up; inputs of the output and down
projections. The other side is whole on every GPU (`--fully-sharded-loras` is not set). Packed projections have an A
for each part. Experts have buffers of their own each, which makes an adapter on 26B-A4B dear.

Source: vLLM 0.32.0, lora/layers/base_linear.py, column_parallel_linear.py, row_parallel_linear.py, fused_moe.py. Equal
to what its own classes allocate on every row of tests/data/vllm-0.32/lora-buffers.csv. Towers are left out, as the
engine leaves them out (lora/model_manager.py, without `--enable-tower-connector-lora`). Not counted: what the GPU
kernels take for a moment, a few float32 rows of `max_lora_rank` a token.
"""

from __future__ import annotations

from collections.abc import Iterator

from gemma_operator.catalog.records import AttentionLayers, Linears, Variant
from gemma_operator.planner.values import Adapters

BF16_BYTES = 2


def buffer_bytes(variant: Variant, adapters: Adapters, *, tensor_parallel: int) -> int:
    """Bytes on each GPU; 0 where the catalog does not tell the widths."""
    if variant.linears is None:
        return 0
    widths = sum(_widths(variant, variant.linears, tensor_parallel))
    return widths * adapters.rank * adapters.count * BF16_BYTES


def _widths(variant: Variant, linears: Linears, gpus: int) -> Iterator[int]:
    """Inputs of A and outputs of B, for one adapter of rank 1."""
    hidden, queries = linears.hidden, variant.query_heads // gpus
    for layers, only in (
        (variant.sliding, linears.queries_only_sliding),
        (variant.full, linears.queries_only_full),
    ):
        output = queries * layers.head_dim + hidden
        yield layers.layers * (_queries_keys_values(layers, hidden, queries, gpus) + output)
        yield only * (hidden + queries * layers.head_dim + output)
    for count, width in linears.feed_forward:
        yield count * (3 * hidden + 3 * (width // gpus))
    yield from _per_layer_inputs(variant, linears, gpus)
    yield from _experts(linears, gpus)


def _queries_keys_values(layers: AttentionLayers, hidden: int, queries: int, gpus: int) -> int:
    keys = max(1, layers.kv_heads // gpus)
    return 3 * hidden + (queries + 2 * keys) * layers.head_dim


def _per_layer_inputs(variant: Variant, linears: Linears, gpus: int) -> Iterator[int]:
    """A gate and a projection in each layer, whole on every GPU, and one projection for all layers."""
    width = linears.per_layer_input
    if width:
        layers = sum(count for count, _ in linears.feed_forward)
        yield layers * 2 * (linears.hidden + width)
        yield linears.hidden + layers * width // gpus


def _experts(linears: Linears, gpus: int) -> Iterator[int]:
    experts = linears.experts
    if experts is not None:
        yield experts.layers * experts.count * (3 * linears.hidden + 3 * (experts.width // gpus))
        yield experts.layers * (linears.hidden + experts.count)  # the router
