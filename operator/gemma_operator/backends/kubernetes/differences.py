"""Which fields of a child are not as they were applied, and whose they are now.

The cache keeps hashes, which tell that something differs; this reads whole objects, and only where a child is applied
again or was answered otherwise than it was sent. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.ownership import applied_fields, chooses, projected, substance

Json = Mapping[str, Any]

_ABSENT: Final = object()
#: What tells the items of a list apart, in the lists that we render.
_KEYS: Final = ("name", "mountPath", "key", "type", "uid")


@dataclass(frozen=True, slots=True)
class Changed:
    """`fields` are paths as people write them; `managers` those who own them now, empty where nobody else does."""

    fields: tuple[str, ...] = ()
    managers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Item:
    """One step of a path: an item of a list."""

    name: str
    live: object


_Path = tuple[str | _Item, ...]


def within_our_request(manifest: Json, answer: Json) -> Changed:
    """Of an answer to our own apply: what admission made of the fields that are noted as ours."""
    ours = projected(answer, applied_fields(answer))
    if not isinstance(ours, Mapping):
        return Changed()
    return Changed(tuple(map(_written, _differing(manifest, ours, whole_lists=True))))


def by_others(manifest: Json, live: Json) -> Changed:
    """Of a child as it stands: what somebody made of it since, and who."""
    paths = tuple(_differing(manifest, live, whole_lists=False))
    paths = paths or tuple(_differing(manifest, live, whole_lists=True))
    others = [entry for entry in live["metadata"].get("managedFields", ()) if _is_somebody_else(entry)]
    owners = {_name_of(entry): None for path in paths for entry in others if _owns(entry, path)}
    if not owners and others:  # what was taken out is nobody's: then it was whoever wrote last
        owners = {_name_of(max(others, key=lambda entry: entry.get("time", ""))): None}
    return Changed(tuple(map(_written, paths)), tuple(owners))


def _differing(manifest: Json, live: Json, *, whole_lists: bool) -> Iterator[_Path]:
    return _walk(substance(manifest), substance(live), (), whole_lists)


def _walk(wanted: object, live: object, path: _Path, whole_lists: bool) -> Iterator[_Path]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for key, value in wanted.items():
            yield from _walk(value, live.get(key, _ABSENT), (*path, key), whole_lists)
    elif isinstance(wanted, list) and isinstance(live, list) and any(isinstance(i, Mapping) for i in wanted):
        if whole_lists and len(wanted) != len(live):
            yield path
            return
        key = _key_of(wanted)
        for place, item in enumerate(wanted):
            found = _alike(item, live, key, place)
            name = str(item[key]) if key else str(place)
            yield from _walk(item, found, (*path, _Item(name, found)), whole_lists)
    elif wanted != live:
        yield path


def _key_of(items: list[Any]) -> str | None:
    """What tells them apart, if anything does: two tolerations may have one key."""
    for key in _KEYS:
        values = [item.get(key, _ABSENT) for item in items if isinstance(item, Mapping)]
        if len(values) == len(items) and _ABSENT not in values and len(set(values)) == len(values):
            return key
    return None


def _alike(item: Any, live: list[Any], key: str | None, place: int) -> object:  # noqa: ANN401 - as JSON has it
    """The item of the same key, else the one in the same place."""
    if key is None:
        return live[place] if place < len(live) else _ABSENT
    same = (each for each in live if isinstance(each, Mapping) and each.get(key) == item[key])
    return next(same, _ABSENT)


def _name_of(entry: Json) -> str:
    """A client that sends no User-Agent has none, and the server leaves the member out."""
    return entry.get("manager") or "(unnamed)"


def _is_somebody_else(entry: Json) -> bool:
    return entry.get("manager") != names.FIELD_MANAGER and not entry.get("subresource")


def _owns(entry: Json, path: _Path) -> bool:
    """A fieldsV1 set that names the path, or something above it as a whole."""
    fields: Json = entry.get("fieldsV1", {})
    for step in path:
        below = _below(fields, step)
        if below is None:
            return False
        if not below:
            return True
        fields = below
    return True


def _below(fields: Json, step: str | _Item) -> Json | None:
    if isinstance(step, str):
        return fields.get(f"f:{step}")
    for key, below in fields.items():
        if key.startswith("k:") and isinstance(step.live, Mapping):
            wanted, _ = chooses(key)
            if all(step.live.get(name) == value for name, value in wanted.items()):
                found: Json = below
                return found
    return None


def _written(path: _Path) -> str:
    """`spec.ports[http].targetPort`."""
    text = ""
    for step in path:
        name = step if isinstance(step, str) else step.name
        plain = isinstance(step, str) and "." not in name and "/" not in name
        text += (f".{name}" if text else name) if plain else f"[{name}]"
    return text
