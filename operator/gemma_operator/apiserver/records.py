"""A table of what a resource's objects were cut down to, that never goes back in time.

Answers to our own writes and events of a watch arrive in any order; each carries a resourceVersion, and an
older one than what the table holds, or than the deletion it has seen, is dropped. So a reconcile reads its
own writes, and nothing that went comes back as a ghost. resourceVersions of one resource compare as integers
(guaranteed and conformance-tested since Kubernetes 1.35, KEP-5504; true of every etcd-backed server before).

No I/O: `cache` feeds it from list and watch, `controller.watch` from kopf.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from sys import intern
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: (namespace, name); the namespace is empty for cluster-scoped objects.
Place = tuple[str, str]

#: Deletions that are remembered against late answers; such an answer is seconds old at most.
_TOMBSTONES = 1024


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """What one event changed. `old` None: it is new; `new` None: it went (or is of no interest now)."""

    place: Place
    old: T | None
    new: T | None


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    version: int
    record: T


class Records(Generic[T]):
    """place → record, guarded by resourceVersion, with an optional index.

    `cut` returns None for an object that is of no interest (any more). `on_change` is called at once, with
    the table already changed; it must not block.
    """

    def __init__(
        self,
        *,
        cut: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Change[T]], None] | None = None,
        index: Callable[[T], Hashable | None] | None = None,
    ) -> None:
        self._cut = cut
        self._on_change = on_change or (lambda _change: None)
        self._index = index
        self._entries: dict[Place, _Entry[T]] = {}
        self._tombstones: dict[Place, int] = {}
        self._indexed: dict[Hashable, dict[Place, T]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, place: object) -> bool:
        return place in self._entries

    def get(self, namespace: str, name: str) -> T | None:
        """The record of one object, or None."""
        entry = self._entries.get((namespace, name))
        return None if entry is None else entry.record

    def version(self, place: Place) -> int:
        """The newest version known of an object, held or deleted; -1 where nothing is."""
        held = self._entries.get(place)
        return self._tombstones.get(place, -1) if held is None else held.version

    def values(self) -> Iterator[T]:
        """All records."""
        return (entry.record for entry in self._entries.values())

    def places(self) -> list[Place]:
        """Where all records stand, as a list that later changes do not touch."""
        return list(self._entries)

    def by(self, value: Hashable) -> tuple[T, ...]:
        """The records whose index is `value`."""
        return tuple(self._indexed.get(value, {}).values())

    def put(self, obj: Mapping[str, Any]) -> bool:
        """Takes an object as listed, watched or answered; False where something newer is known."""
        place, version = place_of(obj), version_of(obj)
        if version <= self.version(place):
            return False
        held = self._entries.get(place)
        record = self._cut(obj)
        if record is None:
            return self.drop(place, version=version) if held is not None else False
        self._tombstones.pop(place, None)
        if held is not None:
            self._unindex(place, held.record)
        self._entries[place] = _Entry(version, record)
        if self._index is not None and (value := self._index(record)) is not None:
            self._indexed.setdefault(value, {})[place] = record
        old = None if held is None else held.record
        if record != old:
            self._on_change(Change(place, old, record))
        return True

    def remove(self, obj: Mapping[str, Any]) -> bool:
        """Takes a DELETED event; its resourceVersion is the deletion's. False where it is old news."""
        return self.drop(place_of(obj), version=version_of(obj))

    def drop(self, place: Place, *, version: int) -> bool:
        """What stood at `place` was gone at `version`."""
        held = self._entries.get(place)
        if held is not None and held.version > version:
            return False
        self._bury(place, version)
        return self._drop(place)

    def prune(self, listed: set[Place], *, version: int) -> list[Place]:
        """After a whole list at `version`: what is not in it and not newer went while nobody looked."""
        ghosts = [place for place in self._entries if place not in listed]
        return [place for place in ghosts if self.drop(place, version=version)]

    def _drop(self, place: Place) -> bool:
        held = self._entries.pop(place, None)
        if held is None:
            return False
        self._unindex(place, held.record)
        self._on_change(Change(place, held.record, None))
        return True

    def _bury(self, place: Place, version: int) -> None:
        # taken out first, so that it goes to the end of the order: the oldest is forgotten first
        self._tombstones[place] = max(version, self._tombstones.pop(place, -1))
        if len(self._tombstones) > _TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _unindex(self, place: Place, record: T) -> None:
        if self._index is None or (value := self._index(record)) is None:
            return
        places = self._indexed.get(value, {})
        places.pop(place, None)
        if not places:
            self._indexed.pop(value, None)


def place_of(obj: Mapping[str, Any]) -> Place:
    """Namespace and name; namespaces are few, so their strings are shared."""
    metadata = obj["metadata"]
    return intern(metadata.get("namespace") or ""), metadata["name"]


def version_of(obj: Mapping[str, Any]) -> int:
    """The resourceVersion as a number."""
    return int(obj["metadata"]["resourceVersion"])
