"""Writes the golden plans into docs/planner.md: five variants on twelve cards for four workloads.

`make docs` writes them, a unit test compares. A plan that changes here changes for users: its reason belongs in the
commit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner.choice import choose, rank
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.room import Room
from gemma_operator.planner.values import Fit, KvPrecision

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "planner.md"
VARIANTS: Final = ("31B", "26B-A4B", "12B", "E4B", "E2B")
CARDS: Final = (
    *(
        "nvidia-rtx-3090",
        "nvidia-rtx-4090",
        "nvidia-rtx-5090",
        "nvidia-l4",
        "nvidia-l40s",
        "nvidia-a100-40gb",
    ),
    *(
        "nvidia-a100-80gb",
        "nvidia-h100-80gb",
        "nvidia-h200",
        "nvidia-rtx-pro-6000",
        "nvidia-b200",
        "nvidia-a10g",
    ),
)
WORKLOADS: Final[dict[str, dict[str, Any]]] = {
    "chat": {},
    "many users": {"contextLength": 8192, "concurrency": 64},
    "long documents": {"contextLength": 131072, "concurrency": 2, "modalities": ["text"]},
    "films": {"contextLength": 65536, "concurrency": 4, "modalities": ["text", "image", "video"]},
}
MOST_GPUS: Final = 8


def main() -> int:
    """Writes the section."""
    text = replaced(PAGE.read_text(encoding="utf-8"), "golden plans", section(packaged()))
    PAGE.write_text(text, encoding="utf-8")
    return 0


def replaced(page: str, name: str, section_text: str) -> str:
    """The page with what lies between the two marks of a section replaced."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"docs/planner.md has no section {name!r}")
    return f"{before}{start}\n{section_text}\n\n{end}{after}"


def section(catalog: Catalog) -> str:
    """One table a variant; rows are cards, columns workloads."""
    declared = [DeclaredPool(card, card, MOST_GPUS, (("card", card),)) for card in CARDS]
    shapes = {pool.shape.accelerator: pool.shape for pool in pools((), declared, catalog)}
    return "\n\n".join(_variant(variant, shapes, catalog) for variant in VARIANTS)


def _variant(variant: str, shapes: dict[str, PoolShape], catalog: Catalog) -> str:
    lines = [
        f"### {variant}",
        "",
        "| card | " + " | ".join(WORKLOADS) + " |",
        "|---|" + "---|" * len(WORKLOADS),
    ]
    for card in CARDS:
        cells = [_cell(variant, serving, shapes[card], catalog) for serving in WORKLOADS.values()]
        lines.append(f"| {card.removeprefix('nvidia-')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(variant: str, serving: dict[str, Any], shape: PoolShape, catalog: Catalog) -> str:
    spec = GemmaDeploymentSpec.model_validate({"model": {"variants": [variant]}, "serving": serving})
    request = from_spec("docs", spec)
    ranking = rank(feasible(request, [shape], catalog), request=request, catalog=catalog)
    choice = choose(ranking, replicas=1, room=lambda _: Room(1, 1))
    return "no" if choice.best is None else _words(choice.fit)


def _words(fit: Fit) -> str:
    settings = fit.settings
    context = "" if not any(each.setting == "contextLength" for each in fit.given_up) else _context(fit)
    cache = " KV8" if settings.kv_cache_precision is KvPrecision.FP8 else ""
    tight = " tight" if fit.tight else ""
    batch = f"{settings.max_batched_tokens}/{settings.max_sequences}"
    return f"{fit.candidate.precision} x{fit.candidate.tensor_parallel} {batch}{context}{cache}{tight}"


def _context(fit: Fit) -> str:
    return f" {fit.settings.context_length // 1024}K"


if __name__ == "__main__":
    sys.exit(main())
