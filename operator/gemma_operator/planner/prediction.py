"""Whether an engine's own count of its KV cache is further from the plan than the plan's band.

The engine counts tokens and the band is memory, so the difference is taken times the bytes that the plan spends
on a token. What is off is said, never punished: the engine runs, and either the estimate or the card is another
one than was thought.
"""

from __future__ import annotations

from collections.abc import Mapping

from gemma_operator.planner.values import Plan
from gemma_operator.planner.words import gib, number


def off(plan: Plan, measured: Mapping[str, int] | None) -> str:
    """What is off, in words; empty where all is as planned, or was measured under another plan."""
    if measured is None or not plan.kv_tokens or measured.get("predictedKvCacheTokens") != plan.kv_tokens:
        return ""
    tokens = measured["kvCacheTokens"]
    apart_mib = abs(tokens - plan.kv_tokens) * plan.memory.kv_cache // plan.kv_tokens
    if apart_mib <= plan.memory.band:
        return ""
    more = "more" if tokens > plan.kv_tokens else "less"
    return (
        f"the engine's KV cache holds {number(tokens)} tokens, {number(plan.kv_tokens)} were planned: "
        f"{gib(apart_mib)} {more} on each GPU, and the band is {gib(plan.memory.band)}"
    )
