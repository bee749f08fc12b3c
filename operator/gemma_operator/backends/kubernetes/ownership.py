"""What of an object is ours, and one hash for what was sent and for what stands.

The server notes in `metadata.managedFields` which fields our apply owns. Projected onto those, a live object
equals the manifest that was sent, unless somebody changed one of our fields: then they own it, and it is
missing here. Fields of others and the server's defaults never show. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gemma_operator.api import names

_HASH_LENGTH: Final = 16
#: Who an object is, not what it says.
_IDENTITY: Final = frozenset({"name", "namespace", "uid"})


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own hash as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), names.APPLIED_HASH: manifest_hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Hash of what a manifest says; equals `owned_hash` of the object that it was applied to."""
    return digest(_substance(manifest))


def owned_hash(obj: Mapping[str, Any], *, manager: str = names.FIELD_MANAGER) -> str:
    """Hash of the live fields that `manager` owns by apply; empty where it owns nothing."""
    fields = _applied_fields(obj, manager)
    ours = projected(obj, fields)
    return digest(_substance(ours)) if fields and isinstance(ours, Mapping) else ""


def projected(value: object, fields: Mapping[str, Any]) -> object:
    """The part of `value` that a fieldsV1 set names. An empty set is a leaf: the value whole."""
    if not fields:
        return value
    inner = {key: below for key, below in fields.items() if key != "."}
    if isinstance(value, Mapping):
        names_below = ((key.removeprefix("f:"), below) for key, below in inner.items())
        return {name: projected(value[name], below) for name, below in names_below if name in value}
    if isinstance(value, list):
        return [projected(item, below) for item in value for below in _of_item(item, inner)]
    return value


def digest(value: object) -> str:
    """A short hash of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def _applied_fields(obj: Mapping[str, Any], manager: str) -> Mapping[str, Any]:
    for entry in obj["metadata"].get("managedFields", ()):
        if (entry.get("manager"), entry.get("operation")) == (manager, "Apply") and not entry.get(
            "subresource"
        ):
            fields: Mapping[str, Any] = entry.get("fieldsV1", {})
            return fields
    return {}


def _of_item(item: object, fields: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The set below the one key of a list's item, if it is ours: `k:{"name":"http"}` or `v:"value"`."""
    for key, below in fields.items():
        kind, _, wanted = key.partition(":")
        if kind == "k" and isinstance(item, Mapping):
            if all(item.get(name) == value for name, value in json.loads(wanted).items()):
                return (below,)
        elif kind == "v" and item == json.loads(wanted):
            return ({},)
    return ()


def _substance(obj: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _IDENTITY}
    annotations = {k: v for k, v in metadata.pop("annotations", {}).items() if k != names.APPLIED_HASH}
    metadata |= {"annotations": annotations} if annotations else {}
    rest = {
        key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata", "status")
    }
    return {"metadata": metadata, **rest}
