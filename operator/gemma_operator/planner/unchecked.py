"""What nobody has checked of a plan, in words that follow "unverified:".

A plan that says one of these may be right; that it is was not shown by a log, a run of the engine's planner or a
figure of that card.
"""

from __future__ import annotations

from collections.abc import Iterator

from gemma_operator.catalog.records import Accelerator, Engine
from gemma_operator.hardware.records import PoolShape, Sharing
from gemma_operator.planner.needs import ACCOUNTED
from gemma_operator.planner.values import Request
from gemma_operator.planner.vllm import versions
from gemma_operator.planner.words import with_article


def words(
    request: Request, shape: PoolShape, accelerator: Accelerator | None, engine: Engine
) -> Iterator[str]:
    """Of the card, the version, the flags; what compatibility.yaml warns of is not among them."""
    card = with_article(shape.product or shape.accelerator)
    if not shape.verified or accelerator is None:
        yield f"{card} is planned from its memory alone"
    if accelerator is not None and accelerator.utilization_percent is not None:
        yield f"the memory of {card} is its host's: what else runs there counts as used, and systems differ"
    if not versions.is_known(engine, request.engine_version):
        yield f"the memory rules of {request.engine} {request.engine_version} were not compared"
    if shape.sharing is Sharing.MPS:
        yield "what an engine sees of a GPU shared by MPS"
    if request.adapters:
        yield "what CUDA graphs take with adapters"
    yield from (f"--{name}" for name, _ in request.engine_overrides if name not in ACCOUNTED)
