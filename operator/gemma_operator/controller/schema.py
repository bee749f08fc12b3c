"""Which fields of the models the served CRD would prune. Pure.

A chart that never upgrades its CRDs leaves an older schema behind a newer operator: the server then drops
fields in silence, and a plan that ignores what a user wrote would be a lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gemma_operator.api.names import VERSION


def gaps(served: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths below the root that our CRD has and the served one lacks, `spec` before `status`."""
    return tuple(_missing(_schema(ours), _schema(served), ""))


def _schema(crd: Mapping[str, Any]) -> Mapping[str, Any]:
    for version in crd.get("spec", {}).get("versions", ()):
        if version.get("name") == VERSION:
            schema: Mapping[str, Any] = version.get("schema", {}).get("openAPIV3Schema", {})
            return schema
    return {}


def _missing(ours: Mapping[str, Any], served: Mapping[str, Any], path: str) -> Iterator[str]:
    if served.get("x-kubernetes-preserve-unknown-fields"):
        return
    below = served.get("properties", {})
    for name, schema in ours.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        if name not in below:
            yield here
        else:
            yield from _missing(schema, below[name], here)
    items = ours.get("items")
    if isinstance(items, Mapping):
        yield from _missing(items, served.get("items", {}), f"{path}[]")
