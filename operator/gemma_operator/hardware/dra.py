"""ResourceSlices: what a DRA driver offers on a node, read as devices beside those of the device plugins.

Such a device is had through a ResourceClaim alone, and the renderer makes none yet: the pool is shown, with its
model and memory, and refused with that reason. Its resource name is the one that Kubernetes derives from the
DeviceClass (KEP-5004, `deviceclass.resource.kubernetes.io/NAME`), so that it is never mistaken for `nvidia.com/gpu`;
whether a DeviceClass maps its devices onto that name (`extendedResourceName`) is not read yet.

Sources: k8s.io/api resource/v1 and v1beta1 types.go (v1beta1 nests a device under `basic`);
kubernetes-sigs/dra-driver-nvidia-gpu cmd/gpu-kubelet-plugin/deviceinfo.go (attributes, and MIG devices that name the
card they are cut from: where they are published the card is too, and must not be counted twice) and partitions.go
(KEP-4815: a card that may be cut at will is offered whole, and beside it each slice that it could be cut into).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.hardware import quantities
from gemma_operator.hardware.cards import UNKNOWN, Cards
from gemma_operator.hardware.devices import Device
from gemma_operator.hardware.quantities import InvalidQuantityError
from gemma_operator.hardware.records import Sharing

DRIVER: Final = "gpu.nvidia.com"
RESOURCE_PREFIX: Final = "deviceclass.resource.kubernetes.io/"
#: The DeviceClass of each type of device that NVIDIA's chart makes; other types (vfio) serve no engine.
CLASSES: Final[Mapping[str, str]] = {"gpu": "gpu.nvidia.com", "mig": "mig.nvidia.com"}
REFUSED: Final = (
    "offered through DRA (ResourceSlices), so a pod needs a ResourceClaim, which this version does not write: "
    "run NVIDIA's device plugin on these nodes"
)

_MIB: Final = 1024**2
_KEEP_OFF = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class DraDevice:
    """One device of a slice, of a type that an engine could use."""

    type: str
    uuid: str
    #: Of a MIG device: the card that it is cut from.
    parent_uuid: str
    product: str
    memory_mib: int | None
    compute_capability: tuple[int, int] | None
    driver_major: int | None
    #: A way in which a card could be cut, offered beside it and drawn from its counters: there is no such slice yet.
    possible: bool = False


@dataclass(frozen=True, slots=True)
class SliceRecord:
    """What is kept of a ResourceSlice of `gpu.nvidia.com`."""

    name: str
    node: str
    pool: str
    generation: int
    devices: tuple[DraDevice, ...]


def slice_record(obj: Mapping[str, Any]) -> SliceRecord | None:
    """The record of a slice; None for another driver's, and for one that belongs to no single node."""
    spec = obj.get("spec") or {}
    node = spec.get("nodeName")
    if spec.get("driver") != DRIVER or not node:
        return None
    pool = spec.get("pool") or {}
    return SliceRecord(
        name=(obj.get("metadata") or {}).get("name", ""),
        node=node,
        pool=pool.get("name", ""),
        generation=int(pool.get("generation") or 0),
        devices=tuple(device for each in spec.get("devices") or () if (device := _device(each))),
    )


def devices_of(slices: Iterable[SliceRecord], cards: Cards) -> list[Device]:
    """The devices of one node's slices, alike ones counted together."""
    offered = [device for record in _newest(slices) for device in record.devices if not device.possible]
    parents = {device.parent_uuid for device in offered if device.parent_uuid}
    whole = [device for device in offered if device.type != "gpu" or device.uuid not in parents]
    alike = Counter(
        (each.type, each.product, each.memory_mib, each.compute_capability, each.driver_major)
        for each in whole
    )
    return [_counted(key, count, cards) for key, count in sorted(alike.items(), key=repr)]


def _newest(slices: Iterable[SliceRecord]) -> list[SliceRecord]:
    """A driver that changes its pool writes a new generation; slices of the older ones are of the past."""
    found = list(slices)
    newest: dict[str, int] = {}
    for record in found:
        newest[record.pool] = max(record.generation, newest.get(record.pool, 0))
    return [record for record in found if record.generation == newest[record.pool]]


_Alike = tuple[str, str, int | None, tuple[int, int] | None, int | None]


def _counted(key: _Alike, count: int, cards: Cards) -> Device:
    kind, product, memory_mib, capability, driver_major = key
    card = cards.of_product(product) if product else None
    return Device(
        resource=f"{RESOURCE_PREFIX}{CLASSES[kind]}",
        accelerator=card.name if card else UNKNOWN,
        product=product,
        memory_mib=memory_mib,
        compute_capability=capability or (card.compute_capability if card else None),
        count=count,
        sharing=Sharing.MIG if kind == "mig" else Sharing.NONE,
        clients=1,
        driver_major=driver_major,
        verified=False,
        refused=(card.refused if card else "") or REFUSED,
        whole_memory_mib=memory_mib,
    )


def _device(obj: Mapping[str, Any]) -> DraDevice | None:
    body: Mapping[str, Any] = obj.get("basic") or obj
    attributes = _by_short_name(body.get("attributes") or {})
    kind = _text(attributes, "type")
    tainted = any(taint.get("effect") in _KEEP_OFF for taint in body.get("taints") or ())
    if kind not in CLASSES or tainted:
        return None
    return DraDevice(
        type=kind,
        uuid=_text(attributes, "uuid"),
        parent_uuid=_text(attributes, "parentUUID") if kind == "mig" else "",
        product=_text(attributes, "productName"),
        memory_mib=_memory_mib(_by_short_name(body.get("capacity") or {}).get("memory")),
        compute_capability=_capability(_numbers(attributes, "cudaComputeCapability")),
        driver_major=next(iter(_numbers(attributes, "driverVersion")), None),
        possible=kind == "mig" and bool(body.get("consumesCounters")),
    )


def _by_short_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """A name without a domain belongs to the driver; some listings write the driver's own out."""
    return {name.removeprefix(f"{DRIVER}/"): value for name, value in values.items()}


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name)
    return str(value.get("string") or "") if isinstance(value, Mapping) else ""


def _numbers(attributes: Mapping[str, Any], name: str) -> list[int]:
    """The parts of a semantic version: `9.0.0`, `580.105.8`."""
    value = attributes.get(name)
    version = str(value.get("version") or value.get("string") or "") if isinstance(value, Mapping) else ""
    parts = version.split(".")
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []


def _capability(parts: Sequence[int]) -> tuple[int, int] | None:
    return (parts[0], parts[1]) if len(parts) > 1 else None


def _memory_mib(capacity: object) -> int | None:
    """`{value: 80Gi}`; a bare quantity before v1beta1."""
    quantity = capacity.get("value") if isinstance(capacity, Mapping) else capacity
    if not isinstance(quantity, str | int):
        return None
    try:
        return quantities.whole_down(quantity) // _MIB or None
    except InvalidQuantityError:
        return None
