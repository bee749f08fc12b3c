"""Writes docs/hardware.md from the planner: does it run on mine?

`make docs` writes it, a unit test compares. Every figure on the page is asked of the planner, so a page that
differs means that the planner has changed, and the diff shows for whom.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Catalog, Variant
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.planner import sums
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.sums import Sum
from gemma_operator.planner.values import Candidate, Feasible, Fit, KvPrecision
from gemma_operator.planner.worth import headroom_mib

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "hardware.md"
VARIANTS: Final = ("31B", "26B-A4B", "12B", "E4B", "E2B")
PRECISIONS: Final = ("bf16", "fp8", "nvfp4", "w4a16")
CARDS: Final = {
    "nvidia-rtx-3060": "RTX 3060",
    "nvidia-rtx-4090": "RTX 4090",
    "nvidia-l4": "L4",
    "nvidia-l40s": "L40S",
    "nvidia-a100-40gb": "A100 40",
    "nvidia-a100-80gb": "A100 80",
    "nvidia-h100-80gb": "H100",
    "nvidia-h200": "H200",
    "nvidia-rtx-pro-6000": "RTX PRO 6000",
    "nvidia-b200": "B200",
}
CONTEXTS: Final = {8192: "8K", 32768: "32K", 131072: "128K", 262144: "256K"}
MOST_GPUS: Final = 8
FP8_MARK: Final = "*"
GIB: Final = 1024**3


def main() -> int:
    """0; with --check 1 where the page is not what the planner says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page differs")
    args = parser.parse_args()
    wanted = page(packaged())
    if args.check:
        if PAGE.read_text(encoding="utf-8") != wanted:
            print(f"{PAGE} is not what the planner says: make docs", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


def page(catalog: Catalog) -> str:
    """The whole page."""
    verdicts = {context: _verdict(context, catalog) for context in CONTEXTS}
    parts = [
        _INTRODUCTION.format(engine=f"vLLM {catalog.engines['VLLM'].default_version}"),
        *("\n".join(_variant(catalog.variants[name], verdicts, catalog)) for name in VARIANTS),
        "\n".join(["## Where common tables are wrong", "", *_corrections(catalog)]),
    ]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION: Final = """\
# Does it run on mine?

Made by `make docs` from the planner, for {engine}, with one request of so many tokens at a time, text and images. A
cell says how many GPUs one replica needs (1, 2, 4 or 8 in one machine):

- **1 yes**: one GPU will do, with the estimate's whole band to spare.
- **1 tight / 2 yes**: on one it fits only inside the band and may refuse to start; on two it fits.
- **no**: not even on 8.
- **\\***: with its KV cache in FP8, since with BF16 it does not fit.
- **-**: there is no such checkpoint in the catalog, or the model takes no context of that length.

Longer contexts, more requests at once, other cards: `gemma-operator memory --modalities text,image`.
How it is reckoned: [planner](planner.md)."""


def _verdict(context: int, catalog: Catalog) -> Feasible:
    """All variants on all cards, as a GemmaDeployment would be answered."""
    declared = [DeclaredPool(card, card, MOST_GPUS, (("card", card),)) for card in CARDS]
    shapes = [pool.shape for pool in pools((), declared, catalog)]
    spec = GemmaDeploymentSpec.model_validate({"serving": {"contextLength": context}})
    return feasible(from_spec("docs", spec), shapes, catalog)


def _variant(variant: Variant, verdicts: dict[int, Feasible], catalog: Catalog) -> Iterator[str]:
    yield f"## {variant.name}"
    yield "| precision | context | " + " | ".join(CARDS.values()) + " |"
    yield "|---|---|" + "---|" * len(CARDS)
    for precision in PRECISIONS:
        if not any((c.variant, c.precision) == (variant.name, precision) for c in catalog.checkpoints):
            yield f"| {precision} | | " + " | ".join("-" for _ in CARDS) + " |"
            continue
        for context, title in CONTEXTS.items():
            cells = [_cell(variant, precision, card, context, verdicts[context]) for card in CARDS]
            yield f"| {precision} | {title} | " + " | ".join(cells) + " |"


def _cell(variant: Variant, precision: str, card: str, context: int, verdict: Feasible) -> str:
    if context > variant.max_context_tokens:
        return "-"
    fits = [fit for fit in verdict.fits if _is(fit.candidate, variant, precision, card)]
    by_gpus = sorted(fits, key=_as_planned)
    safe = next((fit for fit in by_gpus if not fit.tight), None)
    tight = next((fit for fit in by_gpus if fit.tight), None)
    if tight is not None and safe is not None and _gpus(tight) >= _gpus(safe):
        tight = None
    words = [_count(tight, "tight")] if tight else []
    words += [_count(safe, "yes")] if safe else []
    return " / ".join(words) or "no"


def _as_planned(fit: Fit) -> tuple[int, bool, int]:
    """Of several checkpoints the one that a plan would take."""
    return fit.candidate.tensor_parallel, fit.tight, -headroom_mib(fit, concurrency=1)


def _is(candidate: Candidate, variant: Variant, precision: str, card: str) -> bool:
    shape = candidate.shape
    served = (candidate.variant.name, candidate.precision) == (variant.name, precision)
    return served and shape is not None and shape.accelerator == card


def _gpus(fit: Fit) -> int:
    return fit.candidate.tensor_parallel


def _count(fit: Fit, word: str) -> str:
    mark = FP8_MARK if fit.settings.kv_cache_precision is KvPrecision.FP8 else ""
    return f"{_gpus(fit)} {word}{mark}"


def _corrections(catalog: Catalog) -> Iterator[str]:
    """Claims that are met often, and what the same planner says of them."""
    bf16 = _sum(catalog, "31B", "bf16", "nvidia-h100-80gb", context=32768)
    yield _point(
        f"**31B in BF16 takes {_gib(bf16.weights_bytes)} once it is loaded, not 34**; start-up logs print 58.9.",
        "The 34 of many tables is the 8-bit column of Google's (ai.google.dev/gemma/docs/core).",
        f"One card of 80 GB holds it, with {_gib(bf16.available_bytes)} left for the KV cache.",
    )
    both, text = (
        _sum(catalog, "31B", "w4a16", "nvidia-rtx-4090", context=8192, text_only=alone)
        for alone in (False, True)
    )
    assert both.candidate.checkpoint is not None
    yield _point(
        "**31B in 4 bits serves no long contexts on a card of 24 GB with vLLM.**",
        "Embeddings, vision tower and norms stay BF16, so",
        f"{both.candidate.checkpoint.repo} takes {_gib(both.weights_bytes)} loaded",
        f"({_gib(text.weights_bytes)} for text alone).",
        f"Of the {_gib(both.usable_bytes)} that the engine may use of an RTX 4090,",
        f"{_gib(both.overhead_bytes)} go to what stands beside the weights;",
        f"the rest, {_gib(both.available_bytes)} ({_gib(text.available_bytes)}), holds one request of",
        f"{both.longest_context:,} tokens ({text.longest_context:,})",
        f"with its KV cache in {both.row.kv_precision.value}.",
    )
    moe = _sum(catalog, "26B-A4B", "bf16", "nvidia-h100-80gb", context=32768)
    yield _point(
        f"**26B-A4B needs all its experts in memory:** {_gib(moe.weights_bytes)} in BF16.",
        "That 4 billion of its parameters are active makes it fast, not small.",
    )
    nvfp4, fp8 = (_sum(catalog, "31B", each, "nvidia-h100-80gb", context=32768) for each in ("nvfp4", "fp8"))
    yield _point(
        "**NVFP4 is not half of FP8 here:** nvidia/Gemma-4-31B-IT-NVFP4 keeps attention in BF16 and takes",
        f"{_gib(nvfp4.weights_bytes)} loaded, the FP8 checkpoint {_gib(fp8.weights_bytes)}.",
    )
    e4b = _sum(catalog, "E4B", "w4a16", "nvidia-rtx-4090", context=8192)
    yield _point(
        f"**E4B in 4 bits is no 5 GB model:** {_gib(e4b.weights_bytes)} loaded,",
        "because its embeddings stay BF16, one of them twice (docs/planner.md).",
    )
    yield _point(
        "**Keys and values are kept apart.** Global layers share one projection for both,",
        "but vLLM stores both: it does not halve the KV cache.",
    )


def _point(*words: str) -> str:
    return textwrap.fill(
        " ".join(words),
        width=120,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _sum(
    catalog: Catalog, variant: str, precision: str, card: str, *, context: int, text_only: bool = False
) -> Sum:
    declared = DeclaredPool(card, card, 1, (("card", card),))
    (pool,) = pools((), (declared,), catalog)
    spec = GemmaDeploymentSpec.model_validate(
        {
            "model": {"variants": [variant], "precisions": [precision]},
            "serving": {"contextLength": context, "modalities": ["text"] if text_only else ["text", "image"]},
            "hardware": {"maxAcceleratorsPerReplica": 1},
        }
    )
    request = from_spec("docs", spec)
    verdict = feasible(request, [pool.shape], catalog)
    fit = next(iter(verdict.fits), None)
    checkpoint = next(c for c in catalog.checkpoints if (c.variant, c.precision) == (variant, precision))
    candidate = Candidate(catalog.variants[variant], checkpoint, precision, pool.shape, 1)
    found = sums.sum_of(fit.candidate if fit else candidate, fit, request=request, catalog=catalog)
    assert found is not None
    return found


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / GIB:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
