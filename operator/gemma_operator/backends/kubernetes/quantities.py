"""Quantities as the API server writes them back.

What we send must equal what we read, or every comparison sees a change. Source of the form:
k8s.io/apimachinery pkg/api/resource Quantity.CanonicalizeBytes.
"""

from __future__ import annotations

from typing import Final

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("", "k", "M", "G", "T", "P", "E")
_KI: Final = 1024


def cpu(millis: int) -> str:
    """`500m`, `8`."""
    return _reduced(millis // 1000, base=1000, suffixes=_DECIMAL) if millis % 1000 == 0 else f"{millis}m"


def count(number: int) -> str:
    """`2`."""
    return _reduced(number, base=1000, suffixes=_DECIMAL)


def memory(size_bytes: int) -> str:
    """`48Gi`; bytes that are no whole KiB stay decimal."""
    if size_bytes % _KI:
        return _reduced(size_bytes, base=1000, suffixes=_DECIMAL)
    return _reduced(size_bytes, base=_KI, suffixes=_BINARY)


def _reduced(value: int, *, base: int, suffixes: tuple[str, ...]) -> str:
    """The largest suffix that leaves a whole number."""
    step = 0
    while value and value % base == 0 and step + 1 < len(suffixes):
        value //= base
        step += 1
    return f"{value}{suffixes[step]}"
