"""Kubernetes quantities, read exactly.

A node's allocatable is rounded down and a pod's request up, so that rounding never invents room. Floats
are never used: `0.1` has no exact float, and `8Ei` has more digits than one holds.
Source of the grammar: k8s.io/apimachinery/pkg/api/resource/quantity.go.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_LONGEST_EXPONENT = 30  # the API server refuses more; and 10**999999 would be a way to hang us
_SUFFIXES = {
    "": Fraction(1),
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate("mun", start=1)},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", start=1)},
}


class InvalidQuantityError(ValueError):
    """Not a quantity; the message holds the text."""


@lru_cache(maxsize=4096)
def parse(quantity: str | int) -> Fraction:
    """`1500m` is 3/2, `1Ki` is 1024. Cached, because a fleet has few distinct figures."""
    match = _QUANTITY.fullmatch(str(quantity))
    exponent = int(match["exponent"] or 0) if match else 0
    if match is None or abs(exponent) > _LONGEST_EXPONENT:
        raise InvalidQuantityError(f"{quantity!r} is not a quantity like 500m, 2, 16Gi")
    return Fraction(match["number"]) * _SUFFIXES[match["suffix"] or ""] * Fraction(10) ** exponent


def millis_down(quantity: str | int) -> int:
    """Thousandths, rounded down: CPU that a node has."""
    return int(parse(quantity) * 1000 // 1)


def millis_up(quantity: str | int) -> int:
    """Thousandths, rounded up: CPU that a pod asks for."""
    return -int(-parse(quantity) * 1000 // 1)


def whole_down(quantity: str | int) -> int:
    """Bytes or a count, rounded down: what a node has."""
    return int(parse(quantity) // 1)


def whole_up(quantity: str | int) -> int:
    """Bytes or a count, rounded up: what a pod asks for."""
    return -int(-parse(quantity) // 1)
