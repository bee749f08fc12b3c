"""Reads one entry of a catalog file, member by member, and says where it is wrong.

The yaml is written by hand, also by users (`--catalog DIR`): a typo must name its file, entry and member.
Kept out: what the members mean; that is `loader`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from gemma_operator.errors import InvalidCatalog

T = TypeVar("T")

_CAPABILITY = re.compile(r"(\d+)\.(\d+)")


class Entry:
    """One mapping of a catalog file; keys are camelCase, and `done` refuses those that nobody asked for."""

    def __init__(self, where: str, raw: object) -> None:
        self.where = where
        if not isinstance(raw, Mapping):
            raise self.error(f"must be a mapping, not {raw!r}")
        self._raw: Mapping[object, object] = raw
        self._read: set[str] = set()

    def error(self, message: str) -> InvalidCatalog:
        """An error that says where."""
        return InvalidCatalog(f"{self.where}: {message}")

    def done(self) -> None:
        """Refuses what was not read: a misspelt optional member would otherwise be ignored."""
        unknown = sorted(str(key) for key in self._raw if key not in self._read)
        if unknown:
            raise self.error(f"unknown member {unknown[0]!r}; known are {', '.join(sorted(self._read))}")

    def has(self, key: str) -> bool:
        """Whether the member is given."""
        self._read.add(key)
        return self._raw.get(key) is not None

    def is_text(self, key: str) -> bool:
        """Whether the member is a string, where it may also be a mapping."""
        self._read.add(key)
        return isinstance(self._raw.get(key), str)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; numbers must be quoted, since yaml reads 0.30 as 0.3."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise self.error(f"{key} must be a string (quote numbers), not {value!r}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """An integer of at least 0."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.error(f"{key} must be an integer of at least 0, not {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number of at least 0."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise self.error(f"{key} must be a number of at least 0, not {value!r}")
        return float(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(f"{key} must be true or false, not {value!r}")
        return value

    def texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of strings."""
        values = self._list(key, default)
        texts = tuple(value for value in values if isinstance(value, str))
        if len(texts) != len(values):
            raise self.error(f"{key} must be a list of strings, not {list(values)!r}")
        return texts

    def integers(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A list of integers."""
        values = self._list(key, default)
        integers = tuple(value for value in values if isinstance(value, int) and not isinstance(value, bool))
        if len(integers) != len(values):
            raise self.error(f"{key} must be a list of integers, not {list(values)!r}")
        return integers

    def capability(self, key: str, default: str | None = None) -> tuple[int, int]:
        """A compute capability such as "9.0"."""
        text = self.text(key, default)
        match = _CAPABILITY.fullmatch(text)
        if match is None:
            raise self.error(f'{key} must be like "9.0", not {text!r}')
        return int(match[1]), int(match[2])

    def entry(self, key: str) -> Entry:
        """A mapping inside this one."""
        return Entry(f"{self.where}, {key}", self._get(key, None))

    def entries(self, key: str, default: Sequence[object] | None = None) -> tuple[Entry, ...]:
        """A list of mappings."""
        values = self._list(key, default)
        return tuple(Entry(f"{self.where}, {key}[{index}]", value) for index, value in enumerate(values))

    def integer_map(self, key: str) -> dict[str, int]:
        """A mapping whose values are integers."""
        inner = self.entry(key)
        return {name: inner.integer(name) for name in inner.names()}

    def number_map(self, key: str, default: Mapping[str, float] | None = None) -> dict[str, float]:
        """A mapping whose values are numbers."""
        if default is not None and not self.has(key):
            return dict(default)
        inner = self.entry(key)
        return {name: inner.number(name) for name in inner.names()}

    def text_map(self, key: str) -> dict[str, str]:
        """A mapping whose values are strings."""
        inner = self.entry(key)
        return {name: inner.text(name) for name in inner.names()}

    def names(self) -> tuple[str, ...]:
        """The names of all members."""
        names = tuple(key for key in self._raw if isinstance(key, str))
        if len(names) != len(self._raw):
            raise self.error("keys must be strings (quote numbers)")
        return names

    def _get(self, key: str, default: object) -> object:
        self._read.add(key)
        value: object = self._raw.get(key)
        if value is not None:
            return value
        if default is None:
            raise self.error(f"{key} is missing")
        return default

    def _list(self, key: str, default: Sequence[object] | None) -> Sequence[object]:
        value = self._get(key, default)
        if not isinstance(value, list | tuple):
            raise self.error(f"{key} must be a list, not {value!r}")
        return value


def inner(entry: Entry, build: Callable[[Entry], T]) -> T:
    """What is made of an entry, which then must have no member that nobody asked for."""
    value = build(entry)
    entry.done()
    return value
