"""Lines of a memory sum whose figures need their arithmetic beside them: overhead and KV cache.

Each `how` holds every factor of its size, so that a pocket calculator gets from the line what the planner got from
its formula (tests/unit/planner/test_by_hand.py does so, with the printed text alone).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import AttentionLayers
from gemma_operator.planner.needs import Row
from gemma_operator.planner.values import Candidate
from gemma_operator.planner.vllm.all_reduce import Buffers
from gemma_operator.planner.vllm.overhead import Terms
from gemma_operator.planner.words import number

GIB: Final = 1024**3
MIB: Final = 1024**2
DRAFTER: Final = "drafter"
COPIED: Final = "copied words"
ADDING_UP: Final = "adding up"


@dataclass(frozen=True, slots=True)
class Line:
    """One step. `size_bytes` is on each GPU; None where the step is a count."""

    section: str
    label: str
    size_bytes: int | None
    how: str


def overhead_lines(
    terms: Terms, *, gpus: int, taken_bytes: int, batch: int, sequences: int
) -> Iterator[Line]:
    """What the overhead is made of; `taken_bytes` may hold a drafter's share too."""
    base = "context and workspace" if gpus == 1 else f"context, workspace and buffers between {gpus} GPUs"
    yield Line("overhead", "base", _gib(terms.base_gib), base)
    if terms.fp8_gib:
        yield Line(
            "overhead",
            "FP8 kernels",
            _gib(terms.fp8_gib),
            "on cards that calculate in FP8: seen, not explained",
        )
    if terms.held_gib:
        how = f"{_each(terms.held_gib, sequences)}, kept for good"
        yield Line("overhead", "counts by word", _gib(terms.held_gib), how)
    if terms.workspace_gib:
        how = f"{number(batch)} tokens x {round(terms.workspace_gib * GIB / batch):,} B, kept for good"
        yield Line("overhead", "experts' workspace", _gib(terms.workspace_gib), how)
    if size := terms.all_reduce.size_bytes:
        yield Line("overhead", ADDING_UP, size, _adding_up(terms.all_reduce))
    rate = f"{terms.forward_gib * 1024 / batch:.4g} GiB"
    yield Line("overhead", "forward pass", _gib(terms.forward_gib), f"{number(batch)} tokens / 1024 x {rate}")
    yield Line("overhead", "sampler", _gib(terms.sampler_gib), _each(terms.sampler_gib, sequences))
    if terms.copied_gib:
        yield Line("overhead", COPIED, _gib(terms.copied_gib), _copied(terms, batch))
    yield Line("overhead", "CUDA graphs", _gib(terms.graphs_gib), _graphs(terms))
    if terms.inputs_gib:
        how = f"{number(batch)} tokens x {round(terms.inputs_gib * GIB / batch):,} B, kept for good"
        yield Line("overhead", "per-layer inputs", _gib(terms.inputs_gib), how)
    if drafter := taken_bytes - terms.total_bytes:
        yield Line("overhead", DRAFTER, drafter, "measured beside its weights")
    yield Line("overhead", "overhead", taken_bytes, _overhead(terms))


def _overhead(terms: Terms) -> str:
    parts = (
        ("base", True),
        ("FP8 kernels", terms.fp8_gib),
        ("counts by word", True),
        ("experts' workspace", terms.workspace_gib),
        (ADDING_UP, terms.all_reduce.size_bytes),
        ("the larger of forward pass and sampler", not terms.copied_gib),
        ("the largest of forward pass, sampler and copied words", terms.copied_gib),
        ("graphs", True),
        ("per-layer inputs", terms.inputs_gib),
    )
    return " + ".join(part for part, taken in parts if taken)


def _adding_up(buffers: Buffers) -> str:
    """What GPUs keep for it, in whole steps of the driver's."""
    asked = f"{buffers.tensors} buffers x {number(buffers.tensor_bytes)} B"
    if buffers.rounded_to_bytes <= MIB:
        return asked
    return f"in steps of {number(buffers.rounded_to_bytes // MIB)} MiB: {asked}"


def _copied(terms: Terms, batch: int) -> str:
    """The compiler's copy is freed before the workspace is made."""
    table = f"{round((terms.copied_gib + terms.workspace_gib) * GIB / 2):,} x 2"
    if not terms.workspace_gib:
        return f"{table} B, the table of words while it compiles"
    workspace = f"{number(batch)} x {round(terms.workspace_gib * GIB / batch):,}"
    return f"({table} - {workspace}) B, the table of words while it compiles less the workspace"


def _each(size_gib: float, sequences: int) -> str:
    return f"{number(sequences)} sequences x {size_gib * 1024 / sequences:.4g} MiB"


def _graphs(terms: Terms) -> str:
    if terms.graphs_gib == 0:
        return "none is deducted"
    few, many, share = terms.graphs_few_gib, terms.graphs_all_gib, terms.graphs_share
    sizes = "all sizes are" if share == 1 else f"{share:.4g} of all sizes is"
    return (
        f"({few:.4g} + ({many:.4g} - {few:.4g}) x {share:.4g}) GiB, the engine's estimate: {sizes} captured"
    )


@dataclass(frozen=True, slots=True)
class Cut:
    """How the KV cache of one candidate is cut into blocks, in words."""

    candidate: Candidate
    row: Row
    #: Batches on their way at once.
    in_flight: int

    def lines(self) -> Iterator[Line]:
        """A token, a block, a request."""
        variant, layout = self.candidate.variant, self.row.layout
        for kind, layers in (("sliding", variant.sliding), ("full", variant.full)):
            yield Line("KV cache", f"a token in a {kind} layer", self._token(layers), self._heads(layers))
        yield Line("KV cache", "a block of the pool", layout.block_bytes, self._block())
        blocks = f"{number(layout.blocks_per_request)} blocks"
        yield Line(
            "KV cache",
            f"one request of {number(self.row.context_length)} tokens",
            layout.blocks_per_request * layout.block_bytes,
            f"{blocks}: {self._blocks()}",
        )

    def _heads_each(self, layers: AttentionLayers) -> int:
        return max(1, layers.kv_heads // self.candidate.tensor_parallel)

    def _token(self, layers: AttentionLayers) -> int:
        return self._heads_each(layers) * layers.head_dim * 2 * self.row.kv_precision.element_bytes

    def _heads(self, layers: AttentionLayers) -> str:
        each = self.row.kv_precision.element_bytes
        heads = f"{self._heads_each(layers)} heads x {layers.head_dim}"
        return f"{heads} x 2 (keys and values) x {each} B; {layers.layers} layers"

    @property
    def _group(self) -> int:
        return min(self.candidate.variant.sliding.layers, self.candidate.variant.full.layers)

    def _tokens(self, layers: AttentionLayers) -> int:
        """Of a kind of layer in one block."""
        return self.row.layout.block_bytes // self._group // self._token(layers)

    def _block(self) -> str:
        variant, layout = self.candidate.variant, self.row.layout
        sliding, full = variant.sliding, variant.full
        if layout.groups == 1:
            parts = " + ".join(f"{each.layers} x {self._token(each):,} B" for each in (sliding, full))
            return f"{layout.smallest_block_tokens} tokens x ({parts})"
        tokens, each = self._tokens(sliding), self._token(sliding)
        return (
            f"{self._group} layers of a group x {tokens} tokens x {each:,} B; {layout.groups} groups, full layers"
            f" {self._tokens(full)} tokens"
        )

    def _blocks(self) -> str:
        """Which layers the blocks of one request are for."""
        layout, variant, context = self.row.layout, self.candidate.variant, self.row.context_length
        if layout.groups == 1:
            return f"{number(context)} tokens / {layout.smallest_block_tokens}, rounded up"
        full, sliding = self._tokens(variant.full), self._tokens(variant.sliding)
        full_groups, full_blocks = -(-variant.full.layers // self._group), -(-context // full)
        sliding_groups = layout.groups - full_groups
        sliding_blocks = (layout.blocks_per_request - full_groups * full_blocks) // sliding_groups
        return (
            f"full layers {full_groups} x {number(full_blocks)} ({number(context)} / {full}), sliding layers"
            f" {sliding_groups} x {number(sliding_blocks)} ({self._held()} / {sliding} + 1), rounded up"
        )

    def _held(self) -> str:
        """Tokens that a sliding layer keeps: its window and what is in flight, never more than the request."""
        window = self.candidate.variant.sliding.window or self.row.context_length
        held = window - 1 + self.in_flight * self.row.batched_tokens
        if held >= self.row.context_length:
            return number(self.row.context_length)
        return f"({window} - 1 + {self.in_flight} x {number(self.row.batched_tokens)})"


def _gib(gib: float) -> int:
    return int(gib * GIB)
