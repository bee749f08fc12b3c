"""A memory sum as `plan --explain` and `memory --explain` print it: one step a line, in GiB of one GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gemma_operator.cli import tables
from gemma_operator.planner.sums import Sum

GIB: Final = 1024**3
MIB: Final = 1024**2


def lines(found: Sum) -> Iterator[str]:
    """Section by section; what is small is in MiB or bytes."""
    rows: list[tuple[str, str, str, str]] = []
    section = ""
    for line in found.lines:
        rows.append(
            (line.section if line.section != section else "", line.label, _size(line.size_bytes), line.how)
        )
        section = line.section
    yield tables.text(("", "ON EACH GPU", "SIZE", "HOW"), rows)


def document(found: Sum) -> list[dict[str, Any]]:
    """The same for machines."""
    return [
        {"section": line.section, "label": line.label, "bytes": line.size_bytes, "how": line.how}
        for line in found.lines
    ]


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return ""
    if abs(size_bytes) < MIB:
        return f"{size_bytes:,} B"
    return f"{size_bytes / GIB:.3f} GiB" if abs(size_bytes) >= 64 * MIB else f"{size_bytes / MIB:.3f} MiB"
