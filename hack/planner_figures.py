"""Writes into docs/planner.md the figures that a sum needs: sizes, bytes of checkpoints, cards, what engines take.

The catalog has them with their sources; the page has them so that who checks a plan by hand needs no other. `make docs`
writes them, a unit test compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from golden_plans import PAGE, VARIANTS, replaced

from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Accelerator, AttentionLayers, Catalog, Checkpoint, Variant
from gemma_operator.planner import weights
from gemma_operator.planner.vllm import versions
from gemma_operator.planner.vllm.overhead import forward_gib_per_1024_tokens

ENGINE: Final = "VLLM"
NOTHING: Final = "-"
#: Modules in the order in which a model runs them.
MODULES: Final = (
    *("attention", "mlp", "experts", "embedding", "perLayerEmbedding", "perLayerLinears"),
    *("perLayerProjection", "visionTower", "audioTower", "patchEmbedder", "embedders", "other"),
)


def main() -> int:
    """Writes the sections."""
    catalog = packaged()
    text = PAGE.read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        text = replaced(text, name, section(catalog))
    PAGE.write_text(text, encoding="utf-8")
    return 0


def sizes(catalog: Catalog) -> str:
    """Shape and parameters, a column a size."""
    variants = [catalog.variants[name] for name in VARIANTS]
    unknown = {module for variant in variants for module in variant.parameters} - set(MODULES)
    assert not unknown, f"no place for {unknown}"
    rows = [
        (words, *(of(variant) for variant in variants))
        for words, of in (*_SHAPE, *_modules(), *_BESIDE_PARAMETERS)
    ]
    return _table(("", *VARIANTS), rows)


def checkpoints(catalog: Catalog) -> str:
    """What is not two bytes everywhere."""
    quantised = [each for each in catalog.checkpoints if each.bytes_per_parameter]
    ranked = sorted(quantised, key=lambda each: (VARIANTS.index(each.variant), each.precision))
    head = ("", "checkpoint", "attention", "mlp", "experts", "per-layer linears, projection")
    return _table(head, (_checkpoint(each, catalog.variants[each.variant]) for each in ranked))


def cards(catalog: Catalog) -> str:
    """What the driver says, what torch sees, and the engine's defaults there."""
    usable = [card for card in catalog.accelerators.values() if not card.refused]
    head = ("name", "compute capability", "MiB reported", "MiB seen", "batch / sequences", "utilization")
    return _table(head, (_card(card, catalog) for card in usable))


def runners(catalog: Catalog) -> str:
    """What the two model runners take by version."""
    rows = [
        (
            f"{runner.since}{', without experts' if runner.dense_only else ''}",
            runner.name,
            f"{runner.held_mib_per_sequence:g}",
            f"{runner.sampler_mib_per_sequence:g}",
            f"{runner.graphs_few_gib:g}",
            f"{runner.graphs_gib:g}",
        )
        for runner in catalog.engines[ENGINE].overhead.runners
    ]
    head = ("from", "runner", "counts, MiB a sequence", "sampler, MiB a sequence", "graphs, GiB: few", "all")
    return _table(head, rows)


def _heads(layers: AttentionLayers) -> str:
    return f"{layers.kv_heads} x {layers.head_dim}"


def _unread(variant: Variant) -> int:
    """Projections of layers that read another layer's KV cache, which checkpoints ship all the same."""
    linears = variant.linears
    if linears is None:
        return 0
    ends = linears.queries_only_sliding * variant.sliding.kv_heads * variant.sliding.head_dim
    ends += linears.queries_only_full * variant.full.kv_heads * variant.full.head_dim
    return 2 * linears.hidden * ends


def _width(variant: Variant) -> str:
    return f"{variant.linears.hidden:,}" if variant.linears else NOTHING


def _forward(variant: Variant) -> str:
    plain = forward_gib_per_1024_tokens(variant, "bf16")
    fp4 = forward_gib_per_1024_tokens(variant, "nvfp4")
    return f"{plain:g}" if plain == fp4 else f"{plain:g}, nvfp4 {fp4:g}"


_Row = tuple[str, Callable[[Variant], str]]
_SHAPE: Final[tuple[_Row, ...]] = (
    ("sliding layers with a KV cache", lambda v: str(v.sliding.layers)),
    ("their KV heads x head size", lambda v: _heads(v.sliding)),
    ("their window", lambda v: str(v.sliding.window)),
    ("full layers with a KV cache", lambda v: str(v.full.layers)),
    ("their KV heads x head size", lambda v: _heads(v.full)),
    ("longest context", lambda v: f"{v.max_context_tokens:,}"),
    ("width", _width),
)
_BESIDE_PARAMETERS: Final[tuple[_Row, ...]] = (
    ("K and V that nothing reads", lambda v: _number(_unread(v))),
    ("keys copied as values", lambda v: _number(v.key_as_value_parameters)),
    ("forward pass, GiB for 1024 tokens", _forward),
)


def _modules() -> Iterator[_Row]:
    for module in MODULES:
        shared = " / GPUs" if module in weights.SHARED_OUT else ""
        yield f"`{module}`{shared}", partial(_parameters, module)


def _parameters(module: str, variant: Variant) -> str:
    return _number(variant.parameters.get(module, 0))


def _checkpoint(each: Checkpoint, variant: Variant) -> Sequence[str]:
    def of(*modules: str) -> str:
        given = {each.bytes_per_parameter.get(name, weights.BF16_BYTES) for name in modules}
        assert len(given) == 1, f"{each.name}: two figures for one column"
        return f"{given.pop():.9g}" if modules[0] in variant.parameters else NOTHING

    return (
        f"{each.variant} {each.precision}",
        each.repo,
        *(of(name) for name in ("attention", "mlp", "experts")),
        of("perLayerLinears", "perLayerProjection"),
    )


def _card(card: Accelerator, catalog: Catalog) -> Sequence[str]:
    engine = catalog.engines[ENGINE]
    percent = card.utilization_percent or versions.rules(engine, engine.default_version).utilization_percent
    named = (f"`{card.name}`", ".".join(map(str, card.compute_capability or ())) or NOTHING)
    if card.memory_mib is None and card.visible_mib is None:
        return (*named, NOTHING, NOTHING, NOTHING, f"{percent / 100:.2f}")
    seen = card.visible_mib or (card.memory_mib or 0) - engine.overhead.invisible_mib
    tier = versions.batch_tier(
        engine, version=engine.default_version, accelerator=card.name, visible_mib=seen
    )
    return (
        *named,
        _number(card.memory_mib or 0),
        f"{seen:,}{'' if card.visible_mib else ' *'}",
        f"{tier.batched_tokens} / {tier.sequences}",
        f"{percent / 100:.2f}",
    )


def _number(count: int) -> str:
    return f"{count:,}" if count else NOTHING


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


SECTIONS: Final[dict[str, Callable[[Catalog], str]]] = {
    "sizes": sizes,
    "checkpoints": checkpoints,
    "cards": cards,
    "runners": runners,
}

if __name__ == "__main__":
    sys.exit(main())
