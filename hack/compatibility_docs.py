"""Writes docs/compatibility.md from the packaged catalog; with --check says whether it is up to date.

The page is for people who ask "why not on mine?" before they have a cluster; the yaml is the truth.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gemma_operator.catalog.incompatibilities import Effect, Incompatibility, reference
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Catalog

PAGE: Final = Path(__file__).parents[1] / "docs" / "compatibility.md"
_HEAD: Final = """\
# What goes together, and what does not

Generated from `operator/gemma_operator/catalog/compatibility.yaml` by `hack/compatibility_docs.py`; a test compares.
Each line is data: lay an entry of the same name over it with `--catalog DIR` where your engine or image differs.

- **Refused**: the candidate is rejected (`Incompatible`) before a GPU is asked for; the message names the thread.
- **Marked**: the plan is `unverified`, and its reason says why.
- **Said**: it works, but less than one might think; the plan's reason says so.

An entry that names no engine is about vLLM. A card of unknown compute capability or driver is refused nothing here;
it is planned from its memory and marked. A drafter that is refused is left out, the candidate still serves. `memory`,
the calculator, does not ask whether the published image of a version starts.
"""
#: An entry that names no engine is of this one.
_USUAL: Final = frozenset({"VLLM"})
_SPELT: Final = {"VLLM": "vLLM"}
_TITLES: Final = {Effect.REFUSE: "Refused", Effect.WARN: "Marked", Effect.LIMIT: "Said"}


def page(catalog: Catalog) -> str:
    """The whole page."""
    return "\n".join((_HEAD, *(line for effect in Effect for line in _table(catalog, effect))))


def _table(catalog: Catalog, effect: Effect) -> Iterator[str]:
    yield f"## {_TITLES[effect]}\n"
    yield "| entry | where | what is said | good from | sources |"
    yield "|---|---|---|---|---|"
    for entry in catalog.incompatibilities:
        if entry.effect is effect:
            sources = ", ".join(_link(source) for source in entry.sources)
            cells = (entry.name, _where(entry), entry.message, entry.fixed_in or "", sources)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _link(source: str) -> str:
    linked = source.startswith("https://") and " " not in source
    return f"[{reference(source)}]({source})" if linked else source.removeprefix("https://")


def _where(entry: Incompatibility) -> str:
    return "; ".join(_conditions(entry)) or "everywhere"


def _conditions(entry: Incompatibility) -> Iterator[str]:
    engines = " or ".join(_SPELT.get(name, name) for name in sorted(entry.engines))
    if entry.engines != _USUAL and not entry.versions:
        yield f"engine {engines}"
    for names in (entry.variants, entry.precisions, entry.accelerators, entry.architectures, entry.sharing):
        if names:
            yield ", ".join(sorted(names))
    yield from entry.repositories
    if entry.capabilities:
        found = entry.capabilities
        yield _range("compute capability", _dotted(found.since), _dotted(found.below), _dotted(found.exactly))
    if entry.versions:
        exactly = ", ".join(entry.versions.exactly)
        yield _range(engines, entry.versions.since, entry.versions.before, exactly)
    if entry.driver_below:
        yield f"driver below {entry.driver_below}"
    if entry.tensor_parallel:
        yield f"{' or '.join(map(str, sorted(entry.tensor_parallel)))} GPUs a replica"
    if entry.kv_cache_precision:
        yield f"KV cache in {entry.kv_cache_precision}"
    yield from (f"`{name}`" for name in sorted(entry.modalities | entry.features))
    yield from (f"`{name}` written in the spec" for name in sorted(entry.named_features))
    yield from (f"not with `{name}`" for name in sorted(entry.without_features))
    yield from (
        f"`--{name}` {' '.join(f'`{p}`' for p in patterns)}" for name, patterns in entry.flags.items()
    )


def _range(what: str, since: str | None, before: str | None, exactly: str | None) -> str:
    parts = (exactly, f"from {since}" if since else None, f"below {before}" if before else None)
    return f"{what} {' '.join(part for part in parts if part)}"


def _dotted(capability: tuple[int, int] | None) -> str | None:
    return ".".join(map(str, capability)) if capability else None


def main() -> int:
    """0, or 1 where --check finds another page."""
    text = page(packaged())
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.read_text(encoding="utf-8") == text else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
