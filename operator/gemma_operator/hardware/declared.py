"""AcceleratorPools as values: what a platform team says about nodes that nobody can read yet.

The object's schema is the API's business; here a spec that got this far is read leniently, and what cannot
be read is an `InvalidSpec` that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from gemma_operator.catalog.records import Price
from gemma_operator.errors import InvalidSpec
from gemma_operator.hardware import quantities
from gemma_operator.hardware.quantities import InvalidQuantityError
from gemma_operator.hardware.records import Toleration

DEFAULT_RESOURCE: Final = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class DeclaredPool:
    """One AcceleratorPool: `host` is what a node brings beside its accelerators, where it was said."""

    name: str
    accelerator: str
    accelerators_per_node: int
    node_selector: tuple[tuple[str, str], ...]
    memory_mib: int | None = None
    compute_capability: tuple[int, int] | None = None
    resource_name: str = DEFAULT_RESOURCE
    max_nodes: int = 0
    tolerations: tuple[Toleration, ...] = ()
    spot: bool = False
    host: tuple[tuple[str, int], ...] = ()
    node_price: Price | None = None

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels is one of the pool's."""
        return all(labels.get(key) == value for key, value in self.node_selector)


def declared_pool(obj: Mapping[str, Any]) -> DeclaredPool:
    """The value of an AcceleratorPool as the API server prints it."""
    spec = obj.get("spec") or {}
    name = (obj.get("metadata") or {}).get("name", "")
    try:
        return DeclaredPool(
            name=name,
            accelerator=spec["accelerator"],
            accelerators_per_node=int(spec["acceleratorsPerNode"]),
            node_selector=tuple(sorted(spec["nodeSelector"].items())),
            memory_mib=spec.get("acceleratorMemoryMiB"),
            compute_capability=_compute_capability(spec.get("computeCapability")),
            resource_name=spec.get("resourceName", DEFAULT_RESOURCE),
            max_nodes=int(spec.get("maxNodes", 0)),
            tolerations=tuple(toleration(each) for each in spec.get("tolerations") or ()),
            spot=bool(spec.get("spot", False)),
            host=_host(spec),
            node_price=_price(spec.get("hourlyPrice")),
        )
    except KeyError as missing:
        raise InvalidSpec(f"AcceleratorPool {name}: spec.{missing.args[0]}", "is required") from missing


def toleration(obj: Mapping[str, Any]) -> Toleration:
    """A toleration as pods have it."""
    return Toleration(
        key=obj.get("key") or "",
        operator=obj.get("operator") or "Equal",
        value=obj.get("value") or "",
        effect=obj.get("effect") or "",
    )


def _compute_capability(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    major, _, minor = str(text).partition(".")
    return int(major), int(minor or 0)


def _host(spec: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """What was declared of a node's host; what was not is no limit."""
    found: list[tuple[str, int]] = []
    for field, resource in (
        ("cpuPerNode", "cpu"),
        ("memoryPerNode", "memory"),
        ("ephemeralStoragePerNode", "ephemeral-storage"),
    ):
        if (quantity := spec.get(field)) is None:
            continue
        read = quantities.millis_down if resource == "cpu" else quantities.whole_down
        try:
            found.append((resource, read(quantity)))
        except InvalidQuantityError as wrong:
            raise InvalidSpec(f"spec.{field}", str(wrong)) from wrong
    return tuple(found)


def _price(obj: Mapping[str, Any] | None) -> Price | None:
    return Price(amount=Decimal(str(obj["amount"])), currency=obj["currency"]) if obj else None
