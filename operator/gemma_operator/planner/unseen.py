"""What a start may take that its sum does not hold, since no log shows it or one alone does: such a plan is tight.

Kept apart from `outside`, which is about the part of a card that utilization leaves alone: this is taken from what is
left to the KV cache, and fails a start only where that is less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_operator.planner.needs import ATTENTION, Needs
from gemma_operator.planner.values import Candidate
from gemma_operator.planner.vllm import overhead
from gemma_operator.planner.words import gib

MIB: Final = 1024**2
FLASHINFER: Final = "FLASHINFER"


def doubts(candidate: Candidate, needs: Needs, *, left_bytes: int) -> Iterator[str]:
    """In words; `left_bytes` is what the settings leave of a GPU."""
    variant = candidate.variant
    table = overhead.second_table_bytes(variant)
    copied = needs.text_compiled and candidate.tensor_parallel == 1 and needs.runner(variant).copies_words
    if copied and table > left_bytes:
        yield (
            f"whether {gib(left_bytes // MIB)} that are left hold a second table of words, {gib(table // MIB)},"
            " which the engine may copy while it compiles for text alone"
        )
    if needs.flag(ATTENTION).upper() == FLASHINFER:
        yield f"what CUDA graphs take with {FLASHINFER}: 2.82 GiB in one log, 0.5 with the engine's own choice"
