"""How much happened between two scrapes of one engine, so that sums outlive engines and restarts.

An engine counts from its own start and forgets when it ends; a deployment's counters must only grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gemma_operator.probing.exposition import EngineSample


@dataclass(frozen=True, slots=True)
class Delta:
    """What one engine did since it was last looked at."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    #: The engine began to count anew.
    restarted: bool = False


def since(previous: EngineSample | None, current: EngineSample) -> Delta:
    """The difference of two scrapes.

    The first sight of an engine is its baseline: what it did before was not seen by this process. A fall of
    any counter means that the whole engine restarted, so that all of them count from 0, those too that
    have meanwhile grown past their old value.
    """
    if previous is None:
        return Delta(requests=dict.fromkeys(current.requests, 0))
    restarted = _fell(previous, current)
    base = EngineSample() if restarted else previous
    return Delta(
        prompt_tokens=current.prompt_tokens - base.prompt_tokens,
        generation_tokens=current.generation_tokens - base.generation_tokens,
        requests={reason: count - base.requests.get(reason, 0) for reason, count in current.requests.items()},
        restarted=restarted,
    )


def _fell(previous: EngineSample, current: EngineSample) -> bool:
    return (
        current.prompt_tokens < previous.prompt_tokens
        or current.generation_tokens < previous.generation_tokens
        or any(current.requests.get(reason, 0) < count for reason, count in previous.requests.items())
    )
