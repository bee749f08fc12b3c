"""What hardware costs an hour, read from the user's price file: none ships, because no list price stays true.

A file says of which day its prices are and where they were read; docs/cost.md has its shape. Kept out: which
price a pool has (`hardware.prices`), and what that makes a replica cost (`planner.choice`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import yaml

from gemma_operator.catalog.reading import Entry
from gemma_operator.errors import InvalidCatalog

_AMOUNT: Final = re.compile(r"\d{1,9}(\.\d{1,6})?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Price:
    """What one node of a pool costs an hour."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Rate:
    """Price of one node or one GPU; `spot` where it is another one and is known."""

    on_demand: Price | None
    spot: Price | None

    def of(self, *, spot: bool) -> Price | None:
        """A spot node never gets the price of one that stays, nor the other way round."""
        return self.spot if spot else self.on_demand


@dataclass(frozen=True, slots=True)
class Prices:
    """One price file."""

    #: Of a node, by `source/name` or name.
    pools: Mapping[str, Price] = field(default_factory=dict)
    #: Of a node.
    machine_types: Mapping[str, Rate] = field(default_factory=dict)
    #: Of one whole GPU, by catalog name.
    accelerators: Mapping[str, Rate] = field(default_factory=dict)
    date: str = ""
    source: str = ""


NO_PRICES: Final = Prices()


def read(path: Path) -> tuple[bytes, Prices]:
    """A price file and its content; InvalidCatalog names the member that is wrong."""
    try:
        content = path.read_bytes()
        document = yaml.safe_load(content)
    except OSError as error:
        raise InvalidCatalog(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidCatalog(f"{path}: is not yaml") from error
    return content, parse(str(path), document)


def parse(where: str, document: object) -> Prices:
    """The prices of a parsed file."""
    entry = Entry(where, document)
    currency = entry.text("currency") if entry.has("currency") else ""
    prices = Prices(
        date=_date(entry),
        source=_source(entry),
        pools={name: _price(below, name, currency) for below, name in _members(entry, "pools")},
        machine_types={name: _rate(below, name, currency) for below, name in _members(entry, "machineTypes")},
        accelerators={name: _rate(below, name, currency) for below, name in _members(entry, "accelerators")},
    )
    entry.done()
    return prices


def _members(entry: Entry, key: str) -> list[tuple[Entry, str]]:
    if not entry.has(key):
        return []
    below = entry.entry(key)
    return [(below, name) for name in below.names()]


def _date(entry: Entry) -> str:
    text = entry.text("date")
    try:
        date.fromisoformat(text)
    except ValueError as error:
        raise entry.error(f'date must be the day of the prices, as "2026-11-20", not {text!r}') from error
    return text


def _source(entry: Entry) -> str:
    source = entry.text("source")
    if not source.strip():
        raise entry.error("source must say where the prices were read")
    return source


def _price(below: Entry, name: str, currency: str) -> Price:
    found = _rate(below, name, currency, spot=False).on_demand
    assert found is not None
    return found


def _rate(below: Entry, name: str, currency: str, *, spot: bool = True) -> Rate:
    """`"1.20"`, or `{amount, spot, currency}` with at least one of the first two."""
    if below.is_text(name):
        return Rate(_money(below, name, currency), None)
    entry = below.entry(name)
    own = entry.text("currency") if entry.has("currency") else currency
    found = Rate(
        _money(entry, "amount", own) if entry.has("amount") or not spot else None,
        _money(entry, "spot", own) if spot and entry.has("spot") else None,
    )
    entry.done()
    if found.on_demand is None and found.spot is None:
        raise entry.error("has neither amount nor spot")
    return found


def _money(entry: Entry, key: str, currency: str) -> Price:
    text = entry.text(key)
    if _AMOUNT.fullmatch(text) is None:
        raise entry.error(f'{key} must be a decimal number of at most six places as "1.25", not {text!r}')
    if _CURRENCY.fullmatch(currency) is None:
        raise entry.error(f"{key} has no currency: give one of three letters, here or for the whole file")
    return Price(amount=Decimal(text), currency=currency)
