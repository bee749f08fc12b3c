"""What one dialect says about the devices behind one resource of a node.

Every field has a value for "says nothing", so that readings of several dialects can be laid over each
other: the first that says something about a field is believed (`merged`). Sharing is the exception: a
dialect that sees sharing is believed over one that does not, because GKE's sharing is invisible to GFD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Protocol

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.records import PoolSource, Sharing


@dataclass(frozen=True, slots=True)
class Facts:
    """One reading. `card` is a catalog name; `promised` a count that labels tell and nobody guarantees."""

    product: str = ""
    card: str = ""
    memory_mib: int | None = None
    #: Memory as a cloud's list has it: bigger than the driver's figure, good for unknown cards only.
    nominal_mib: int | None = None
    compute_capability: tuple[int, int] | None = None
    sharing: Sharing | None = None
    clients: int | None = None
    promised: int | None = None
    driver_major: int | None = None
    refused: str = ""


NOTHING = Facts()


@dataclass(frozen=True, slots=True)
class Membership:
    """The node group that a node's label names."""

    source: PoolSource
    name: str
    label: str


class Dialect(Protocol):
    """One platform's labels. A module with this function is a dialect."""

    def facts(self, labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
        """What the labels say about the devices of `resource`."""


class Grouping(Protocol):
    """A dialect that tells of node groups as well."""

    def membership(self, labels: Mapping[str, str]) -> Membership | None:
        """Which node group the node belongs to."""


class Purchase(Protocol):
    """A dialect that tells how a node was bought as well."""

    def spot(self, labels: Mapping[str, str]) -> bool | None:
        """Whether the node may be taken away; None where no label tells."""


def merged(readings: Iterable[Facts]) -> Facts:
    """One reading out of many, the first ones believed first."""
    result = NOTHING
    for reading in readings:
        if reading is NOTHING:
            continue
        gaps = {
            field.name: getattr(reading, field.name)
            for field in fields(Facts)
            if getattr(result, field.name) in {None, ""} and getattr(reading, field.name) not in {None, ""}
        }
        if _sees_more_sharing(result, reading):
            gaps |= {"sharing": reading.sharing, "clients": reading.clients}
        result = replace(result, **gaps)
    return result


def _sees_more_sharing(result: Facts, reading: Facts) -> bool:
    return result.sharing is Sharing.NONE and reading.sharing not in {None, Sharing.NONE}


def number(labels: Mapping[str, str], label: str) -> int | None:
    """A label's value as a positive number; None where it is absent, zero or no number."""
    value = labels.get(label, "")
    return int(value) if value.isdecimal() and int(value) > 0 else None
