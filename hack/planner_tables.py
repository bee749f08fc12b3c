"""Writes into docs/planner.md what the planner says beside what engines reported, and one sum step by step.

`make docs` writes it, a unit test compares, so that the page cannot say an error that the planner does not have.
"""

from __future__ import annotations

import csv
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parent))

from golden_plans import PAGE, replaced

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.planner import sums
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.vllm import overhead, versions
from gemma_operator.planner.weights import loaded_bytes

DATA: Final = Path(__file__).resolve().parents[1] / "tests" / "data"
GIB: Final = 1024**3
MIB: Final = 1024**2


@dataclass(frozen=True)
class Compared:
    """One figure that an engine reported, and what the planner says."""

    cells: tuple[str, ...]
    reported_gib: float
    said_gib: float

    @property
    def off_gib(self) -> float:
        """Said less reported."""
        return self.said_gib - self.reported_gib


def main() -> int:
    """Writes the sections."""
    catalog = packaged()
    text = PAGE.read_text(encoding="utf-8")
    for name, section in (("weights", weights), ("overhead", overheads), ("one plan", example)):
        text = replaced(text, name, section(catalog))
    PAGE.write_text(text, encoding="utf-8")
    return 0


def weights(catalog: Catalog) -> str:
    """Loads, said and reported."""
    compared = list(compared_loads(catalog))
    worst = max(compared, key=lambda each: abs(each.off_gib))
    words = (
        f"{len(compared)} loads; median error {_median(compared):.2f} GiB; the worst row is {worst.cells[0]} "
        f"({worst.cells[4]}): {worst.off_gib:+.2f} GiB, {100 * worst.off_gib / worst.reported_gib:+.1f} %."
    )
    head = ("checkpoint", "version", "GPUs", "serves", "reported by")
    return f"{words}\n\n{_table(head, compared)}"


def compared_loads(catalog: Catalog) -> Iterator[Compared]:
    """Each row of reported-loads.csv."""
    checkpoints = {checkpoint.name: checkpoint for checkpoint in catalog.checkpoints}
    engine = catalog.engines["VLLM"]
    for row in _rows("reported-loads.csv"):
        checkpoint = checkpoints[row["checkpoint"]]
        variant = catalog.variants[checkpoint.variant]
        said = loaded_bytes(
            variant,
            checkpoint,
            tensor_parallel=int(row["tensor_parallel"]),
            modalities=variant.modalities
            if row["modalities"] == "all"
            else frozenset(row["modalities"].split()),
            rules=versions.rules(engine, version_of(row)),
        )
        version = row["engine_version"] or "not named"
        cells = (checkpoint.repo, version, row["tensor_parallel"], row["modalities"], row["source"])
        yield Compared(cells, float(row["load_gib"]), said / GIB)


def overheads(catalog: Catalog) -> str:
    """Overheads, said and reported."""
    compared = list(compared_overheads(catalog))
    worst = max(compared, key=lambda each: abs(each.off_gib))
    words = (
        f"{len(compared)} logs; median error {_median(compared):.2f} GiB; the worst row is {worst.cells[0]} "
        f"({worst.cells[2]}): {worst.off_gib:+.2f} GiB."
    )
    head = ("log", "version", "card", "model", "batched / sequences", "runner")
    return f"{words}\n\n{_table(head, compared)}"


def compared_overheads(catalog: Catalog) -> Iterator[Compared]:
    """Each usable row of engine-logs.csv, from its version and settings alone."""
    engine = catalog.engines["VLLM"]
    for row in _rows("engine-logs.csv"):
        if row["use_for_fit"] != "yes":
            continue
        version, variant = version_of(row), catalog.variants[row["model"]]
        # Two logs leave the batch to the card's defaults, which are these.
        tokens, sequences = (
            int(row["batched_tokens_effective"] or 2048),
            int(row["sequences_effective"] or 256),
        )
        said = overhead.terms(
            variant,
            engine.overhead,
            engine_version=version,
            precision=row["precision"],
            tensor_parallel=int(row["tensor_parallel"]),
            max_batched_tokens=tokens,
            max_sequences=sequences,
            graphs_deducted=versions.rules(engine, version).graph_estimate_deducted and row["eager"] != "yes",
            capability=capability_of(row),
            compiled=row["eager"] != "yes",
            text_alone=served_text_alone(row),
        ).beside_load_bytes
        eager = ", eager" if row["eager"] == "yes" else ""
        cells = (
            row["id"],
            row["engine_version"] or "not named",
            row["gpu"],
            f"{row['model']} {row['precision']}{eager}",
            f"{tokens} / {sequences}",
            overhead.runner(engine.overhead, variant, version).name,
        )
        yield Compared(cells, float(row["overhead_gib"]), said / GIB)


def served_text_alone(row: dict[str, str]) -> bool:
    """Not where a limit for images left videos."""
    return row["multimodal"].startswith("text only") and "by limit" not in row["multimodal"]


def capability_of(row: dict[str, str]) -> tuple[int, int]:
    """As the log tells it; ROCm's names are not numbers, and none of NVIDIA's kernels is theirs."""
    major, _, minor = row["compute_capability"].partition(".")
    return (int(major), int(minor)) if major.isdigit() else (0, 0)


def version_of(row: dict[str, str]) -> str:
    """The version of a log; of those that name none, what is known otherwise (column `note`)."""
    text = row["engine_version"]
    if text.startswith("gemma4"):
        return "0.22.0"
    found = re.search(r"\d+\.\d+(\.\d+)?", text)
    return found[0] if found else "0.25.1"


def example(catalog: Catalog) -> str:
    """`spec: {}` on one H100, every line of its sum."""
    spec = GemmaDeploymentSpec.model_validate({"model": {"variants": ["31B"], "precisions": ["bf16"]}})
    request = from_spec("docs", spec)
    card = "nvidia-h100-80gb"
    shape = pools((), [DeclaredPool(card, card, 1, (("card", card),))], catalog)[0].shape
    (fit,) = feasible(request, [shape], catalog).fits
    found = sums.sum_of(fit.candidate, fit, request=request, catalog=catalog)
    assert found is not None
    rows = (
        f"| {line.section}: {line.label} | {_size(line.size_bytes)} | {line.how} |" for line in found.lines
    )
    return "\n".join(("| step | MiB | how |", "|---|---:|---|", *rows))


def _size(size_bytes: int | None) -> str:
    """A token's few bytes would be 0.0 MiB."""
    if size_bytes is None:
        return ""
    return f"{size_bytes:,} B" if abs(size_bytes) < MIB else f"{size_bytes / MIB:,.1f}"


def _table(head: tuple[str, ...], compared: list[Compared]) -> str:
    lines = ["| " + " | ".join((*head, "reported GiB", "said", "off")) + " |", "|" + "---|" * (len(head) + 3)]
    for each in compared:
        figures = (f"{each.reported_gib:.2f}", f"{each.said_gib:.2f}", f"{each.off_gib:+.2f}")
        lines.append("| " + " | ".join((*each.cells, *figures)) + " |")
    return "\n".join(lines)


def _median(compared: list[Compared]) -> float:
    return statistics.median(abs(each.off_gib) for each in compared)


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
