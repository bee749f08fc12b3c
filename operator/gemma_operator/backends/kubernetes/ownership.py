"""What of an object is ours, and one hash for what was sent and for what stands.

The server notes in `metadata.managedFields` which fields our apply owns. Projected onto those, a live object
equals the manifest that was sent, unless somebody changed one of our fields: then they own it, and it is
missing here. Fields of others and the server's defaults never show. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from gemma_operator.api import names

_HASH_LENGTH: Final = 16
#: Who an object is, not what it says.
_IDENTITY: Final = frozenset({"name", "namespace", "uid"})

#: Keys of a list's set, read: what they want, whether by keys, and the set below.
_Chosen = list[tuple[Any, bool, Mapping[str, Any]]]


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED_HASH: manifest_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest says; equals `owned_hash` of the object that it was applied to."""
    return digest(substance(manifest))


def owned_hash(obj: Mapping[str, Any], *, manager: str = names.FIELD_MANAGER) -> str:
    """Hash of the live fields that `manager` owns by apply; empty where it owns nothing."""
    fields = applied_fields(obj, manager)
    ours = projected(obj, fields)
    return digest(substance(ours)) if fields and isinstance(ours, Mapping) else ""


def projected(value: object, fields: Mapping[str, Any]) -> object:
    """The part of `value` that a fieldsV1 set names. An empty set is a leaf: the value whole."""
    if not fields:
        return value
    if isinstance(value, Mapping):
        below = ((key[2:], inner) for key, inner in fields.items() if key.startswith("f:"))
        return {name: projected(value[name], inner) for name, inner in below if name in value}
    if isinstance(value, list):
        chosen = [(*chooses(key), inner) for key, inner in fields.items() if key != "."]
        owned = ((item, _owned_of(item, chosen)) for item in value)
        return [projected(item, inner) for item, inner in owned if inner is not None]
    return value


def digest(value: object) -> str:
    """A short hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_HASH_LENGTH]


def applied_fields(obj: Mapping[str, Any], manager: str = names.FIELD_MANAGER) -> Mapping[str, Any]:
    """The fieldsV1 set of what `manager` owns by apply."""
    for entry in obj["metadata"].get("managedFields", ()):
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply") and not entry.get(
            "subresource"
        ):
            fields: Mapping[str, Any] = entry.get("fieldsV1", {})
            return fields
    return {}


def _owned_of(item: object, chosen: _Chosen) -> Mapping[str, Any] | None:
    """The set below the one key that chooses this item of a list; None where the item is not ours."""
    for wanted, by_keys, inner in chosen:
        if by_keys and isinstance(item, Mapping):
            if all(item.get(name) == value for name, value in wanted.items()):
                return inner
        elif not by_keys and item == wanted:
            return {}
    return None


@lru_cache(maxsize=4096)
def chooses(key: str) -> tuple[Any, bool]:
    """The value that a key of a fieldsV1 set names, and whether by keys.

    `k:{"name":"http"}` chooses by keys, `v:"value"` by the value itself. The same few come again and again."""
    kind, _, text = key.partition(":")
    return orjson.loads(text), kind == "k"


def substance(obj: Mapping[str, Any]) -> dict[str, Any]:
    """What an object says: without who it is, without its own hash and without its status."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _IDENTITY}
    annotations = {k: v for k, v in metadata.pop("annotations", {}).items() if k != names.APPLIED_HASH}
    metadata |= {"annotations": annotations} if annotations else {}
    rest = {
        key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")
    }
    return {"metadata": metadata, **rest}
