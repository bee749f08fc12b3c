"""Tables as kubectl prints them: columns as wide as their widest word, three spaces between.

On a terminal the last column, where sentences stand, is wrapped: beside the others while it has room there, else on
lines of its own beneath them. In a pipe a row stays one line, for grep and awk.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

_GAP: Final = "   "
#: Sentences in a narrower column are not read.
_LEAST_COLUMN: Final = 24
_INDENT: Final = "    "


def text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table, without blanks at the end of a line."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    columns, before = _columns(), sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if columns is None or before + widths[-1] <= columns:
        return "\n".join(_joined(line, widths) for line in lines)
    beside = columns - before >= _LEAST_COLUMN
    wrapped = _beside if beside else _beneath
    return "\n".join(part for line in lines for part in wrapped(line, widths, columns))


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return _GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)).rstrip()


def _beside(cells: Sequence[str], widths: Sequence[int], columns: int) -> Iterator[str]:
    before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    first, *more = textwrap.wrap(cells[-1], columns - before, break_on_hyphens=False) or [""]
    yield _joined((*cells[:-1], first), widths)
    yield from (" " * before + part for part in more)


def _beneath(cells: Sequence[str], widths: Sequence[int], columns: int) -> Iterator[str]:
    yield _joined(cells[:-1], widths)
    for part in textwrap.wrap(cells[-1], columns - len(_INDENT), break_on_hyphens=False):
        yield f"{_INDENT}{part}"


def _columns() -> int | None:
    """Of the terminal, as COLUMNS says where it does; None in a pipe, also where a shell exports COLUMNS, or where the
    caller closed the output."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(40, shutil.get_terminal_size().columns)


def word(value: object) -> str:
    """A cell; what is not known is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
