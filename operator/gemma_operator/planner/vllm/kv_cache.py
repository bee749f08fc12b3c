"""vLLM's KV-cache arithmetic: how many blocks a GPU holds, and how many requests those serve.

The engine gives every layer blocks of one size in bytes ("page"); the layer type with fewer bytes a token
gets more tokens in a block. Layers are put into groups of equal count, and one block of the pool serves one
block of each layer of a group. Sliding layers hold only their window and what is in flight, full layers the
whole request.

Source: vLLM, v1/core/kv_cache_utils.py (unify_kv_cache_spec_page_size,
_get_kv_cache_groups_uniform_page_size, _check_enough_kv_cache_memory,
get_max_concurrency_for_kv_cache_config), v1/kv_cache_interface.py (SlidingWindowSpec), config/vllm.py
(max_in_flight_tokens). Equal to the planners of 0.19.1 to 0.33.0 on every row of tests/data/vllm-versions;
what differs between versions is catalog data (engines.yaml, `rules`).

All bytes are on each GPU. Memory that is available (weights, overhead) is not looked at here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gemma_operator.catalog import loader
from gemma_operator.catalog.records import AttentionLayers, EngineVersionRules, Variant
from gemma_operator.planner.vllm import versions


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine makes of the memory; None where it refuses to start."""

    fits: bool
    num_blocks: int | None
    max_concurrency: float | None
    #: What the engine prints as "GPU KV cache size".
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How one GPU's KV cache is cut: bytes of a pool block, and blocks that one request takes."""

    block_bytes: int
    blocks_per_request: int
    spare_blocks: int
    groups: int
    smallest_block_tokens: int

    def blocks_needed(self, concurrency: int) -> int:
        """Blocks for so many requests at once, with the spare block that the engine asks for."""
        return concurrency * self.blocks_per_request + self.spare_blocks


def capacity(  # noqa: PLR0913 - the engine's own arguments, all by keyword
    variant: str | Variant,
    *,
    max_model_len: int,
    max_num_batched_tokens: int,
    tensor_parallel_size: int,
    kv_cache_element_bytes: int,
    available_bytes: int,
    async_scheduling: bool = True,
    hybrid_kv_cache: bool = True,
    block_size: int = 16,
    engine_version: str = "0.32",
) -> Capacity:
    """What vLLM's own planner says for `available_bytes` on each GPU.

    `variant` is a name of the packaged catalog or a shape.
    """
    rules = _packaged_rules(engine_version)
    cut = layout(
        _shape(variant),
        max_model_len=max_model_len,
        in_flight_tokens=max_num_batched_tokens * (rules.in_flight_batches if async_scheduling else 1),
        tensor_parallel_size=tensor_parallel_size,
        kv_cache_element_bytes=kv_cache_element_bytes,
        hybrid_kv_cache=hybrid_kv_cache,
        block_size=block_size,
        spare_blocks=rules.spare_blocks,
    )
    return held_by(cut, available_bytes=available_bytes, max_model_len=max_model_len, rules=rules)


def bytes_needed(  # noqa: PLR0913 - as capacity
    variant: str | Variant,
    *,
    max_model_len: int,
    max_num_batched_tokens: int,
    tensor_parallel_size: int,
    kv_cache_element_bytes: int,
    concurrency: int = 1,
    async_scheduling: bool = True,
    hybrid_kv_cache: bool = True,
    block_size: int = 16,
    engine_version: str = "0.32",
) -> int:
    """The least bytes on each GPU that hold `concurrency` requests of `max_model_len` tokens at once."""
    rules = _packaged_rules(engine_version)
    cut = layout(
        _shape(variant),
        max_model_len=max_model_len,
        in_flight_tokens=max_num_batched_tokens * (rules.in_flight_batches if async_scheduling else 1),
        tensor_parallel_size=tensor_parallel_size,
        kv_cache_element_bytes=kv_cache_element_bytes,
        hybrid_kv_cache=hybrid_kv_cache,
        block_size=block_size,
        spare_blocks=rules.spare_blocks,
    )
    return cut.blocks_needed(concurrency) * cut.block_bytes


def held_by(cut: Layout, *, available_bytes: int, max_model_len: int, rules: EngineVersionRules) -> Capacity:
    """What the memory holds once it is cut."""
    blocks = max(0, int(available_bytes)) // cut.block_bytes
    if blocks < cut.blocks_needed(1):
        return Capacity(fits=False, num_blocks=None, max_concurrency=None, tokens=None)
    concurrency = blocks / cut.blocks_per_request
    by_group = blocks // cut.groups * cut.smallest_block_tokens
    return Capacity(
        fits=True,
        num_blocks=blocks,
        max_concurrency=concurrency,
        tokens=by_group if rules.printed_tokens_by_group else int(concurrency * max_model_len),
    )


def layout(
    variant: Variant,
    *,
    max_model_len: int,
    in_flight_tokens: int,
    tensor_parallel_size: int,
    kv_cache_element_bytes: int,
    hybrid_kv_cache: bool,
    block_size: int,
    spare_blocks: int,
) -> Layout:
    """How a GPU's KV cache is cut for requests of `max_model_len` tokens."""
    sliding, full = variant.sliding, variant.full
    sliding_bytes = _token_bytes(sliding, tensor_parallel_size, kv_cache_element_bytes)
    full_bytes = _token_bytes(full, tensor_parallel_size, kv_cache_element_bytes)
    if not hybrid_kv_cache:
        # One group: a block holds its tokens of every layer, and a sliding layer keeps the whole request.
        every_layer = sliding.layers * sliding_bytes + full.layers * full_bytes
        return Layout(
            block_bytes=every_layer * block_size,
            blocks_per_request=_ceil(max_model_len, block_size),
            spare_blocks=spare_blocks,
            groups=1,
            smallest_block_tokens=block_size,
        )
    page = max(sliding_bytes, full_bytes) * block_size
    sliding_tokens, full_tokens = page // sliding_bytes, page // full_bytes
    group = min(sliding.layers, full.layers)
    sliding_groups, full_groups = _ceil(sliding.layers, group), _ceil(full.layers, group)
    held = min((sliding.window or max_model_len) - 1 + in_flight_tokens, max_model_len)
    return Layout(
        block_bytes=group * page,
        # One block more on sliding layers: the window may begin in the middle of a block.
        blocks_per_request=(
            sliding_groups * (_ceil(held, sliding_tokens) + 1)
            + full_groups * _ceil(max_model_len, full_tokens)
        ),
        spare_blocks=spare_blocks,
        groups=sliding_groups + full_groups,
        smallest_block_tokens=min(sliding_tokens, full_tokens),
    )


def _token_bytes(layers: AttentionLayers, tensor_parallel_size: int, element_bytes: int) -> int:
    """Bytes of one token in one layer on one GPU: keys and values, heads shared out, at least one head."""
    return max(1, layers.kv_heads // tensor_parallel_size) * layers.head_dim * 2 * element_bytes


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _shape(variant: str | Variant) -> Variant:
    return loader.packaged().variants[variant] if isinstance(variant, str) else variant


@lru_cache(maxsize=64)
def _packaged_rules(engine_version: str) -> EngineVersionRules:
    return versions.rules(loader.packaged().engines["VLLM"], engine_version)
