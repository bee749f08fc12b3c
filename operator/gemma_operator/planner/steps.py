"""The order in which settings are tried: nearest to the engine's own defaults first.

This order is part of the API ("Order of the settings"): outermost the context, where it was left open, then
the precision of the KV cache, then the batch, innermost the sequences. Each step is raised to its floor and
duplicates drop out. Whether a step fits is not known here; see `fit`.
"""

from __future__ import annotations

from typing import Final

from gemma_operator.catalog.records import Variant

#: Contexts that are tried where the user named none.
OPEN_CONTEXTS: Final = (32768, 16384, 8192)
BATCHED_TOKENS: Final = (8192, 4096, 2048)
SEQUENCES: Final = (256, 128, 64, 32, 16)


def contexts(context_length: int | None) -> tuple[int, ...]:
    """The user's, or those that are tried where it was left open."""
    return (context_length,) if context_length is not None else OPEN_CONTEXTS


def batched_tokens(default: int, floor: int) -> tuple[int, ...]:
    """From the engine's default for the card downwards, never below the floor."""
    return _raised((default, *(step for step in BATCHED_TOKENS if step < default)), floor)


def sequences(default: int, concurrency: int) -> tuple[int, ...]:
    """From the engine's default downwards, never below the concurrency, which may also lie above it."""
    return _raised((default, *(step for step in SEQUENCES if step < default)), concurrency)


def batch_floor(variant: Variant, modalities: frozenset[str], concurrency: int) -> int:
    """The smallest batch with which the engine starts.

    Some variants take an item of a modality whole in one batch: "Chunked MM input disabled but
    max_tokens_per_mm_item (2496) is larger than max_num_batched_tokens". And no engine takes fewer tokens a
    step than sequences (vLLM config/scheduler.py).
    """
    items = variant.largest_item_tokens if variant.takes_items_whole else {}
    return max(concurrency, *(items.get(modality, 0) for modality in modalities), 0)


def _raised(steps: tuple[int, ...], floor: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(max(step, floor) for step in steps))
