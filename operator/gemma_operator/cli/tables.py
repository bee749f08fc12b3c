"""Tables as kubectl prints them: columns as wide as their widest word, three spaces between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_GAP: Final = "   "


def text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table, without blanks at the end of a line."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        _GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def word(value: object) -> str:
    """A cell; what is not known is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
