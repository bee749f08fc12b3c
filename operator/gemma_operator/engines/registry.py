"""Engines by the name that a GemmaDeployment writes. A new engine is one file and one line here."""

from __future__ import annotations

from typing import Final

from gemma_operator.engines.base import Engine
from gemma_operator.engines.vllm import Vllm
from gemma_operator.errors import InvalidSpec

ENGINES: Final[dict[str, Engine]] = {engine.name: engine for engine in (Vllm(),)}


def engine_named(name: str) -> Engine:
    """The engine of that name, as `serving.engine.name` and status.plan spell it."""
    try:
        return ENGINES[name]
    except KeyError:
        known = ", ".join(sorted(ENGINES))
        raise InvalidSpec("spec.serving.engine.name", f"no engine is {name!r}; known: {known}") from None
