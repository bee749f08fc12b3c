"""ResourceSlices: what a DRA driver offers on a node, read as devices beside those of the device plugins.

Such a device is had through a ResourceClaim alone, and the renderer makes none yet: the pool is shown, with its
model and memory, and refused with that reason. Its resource name is the one that Kubernetes derives from the
DeviceClass (KEP-5004, `deviceclass.resource.kubernetes.io/NAME`), so that it is never mistaken for `nvidia.com/gpu`;
whether a DeviceClass maps its devices onto that name (`extendedResourceName`) is not read yet.

Sources: k8s.io/api resource/v1 and v1beta1 types.go (v1beta1 nests a device under `basic`);
kubernetes-sigs/dra-driver-nvidia-gpu cmd/gpu-kubelet-plugin/deviceinfo.go (attributes, and MIG devices that name the
card they are cut from: where they are published the card is too, and must not be counted twice) and partitions.go
(KEP-4815: a card that may be cut at will is offered whole, and beside it each slice that it could be cut into). Other
vendors' drivers by what their own pages print: ROCm/k8s-gpu-dra-driver, intel/intel-resource-drivers-for-kubernetes,
kubernetes-sigs/dra-driver-google-tpu, awsdocs-neuron. They are shown like NVIDIA's, so that a node full of them is not
passed over in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_operator.catalog.records import Accelerator
from gemma_operator.hardware import foreign, quantities
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

#: Drivers of other vendors; each has one DeviceClass, of the driver's own name.
FOREIGN: Final[Mapping[str, str]] = {
    "gpu.amd.com": "AMD",
    "gpu.intel.com": "Intel",
    "gaudi.intel.com": "Intel Gaudi",
    "neuron.aws.com": "AWS Neuron",
    "tpu.google.com": "Google TPU",
}

_MIB: Final = 1024**2
#: The attribute that names the model, by driver; Neuron's tells the machine, TPU's a generation (`v6e`).
_PRODUCT: Final[Mapping[str, str]] = {
    "gpu.intel.com": "model",
    "gaudi.intel.com": "model",
    "neuron.aws.com": "instanceType",
    "tpu.google.com": "tpuGen",
}
_VFIO = "vfio"
_KEEP_OFF = frozenset({"NoSchedule", "NoExecute"})


@dataclass(frozen=True, slots=True)
class DraDevice:
    """One device of a slice, of a type that an engine could use."""

    device_class: str
    #: A slice or partition that is had alone.
    part: bool
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
    """What is kept of a ResourceSlice of a driver that is known here."""

    name: str
    node: str
    driver: str
    pool: str
    generation: int
    devices: tuple[DraDevice, ...]


def slice_record(obj: Mapping[str, Any]) -> SliceRecord | None:
    """The record of a slice; None for another driver's, and for one that belongs to no single node."""
    spec = obj.get("spec") or {}
    node, driver = str(spec.get("nodeName") or ""), str(spec.get("driver") or "")
    if not node or (driver != DRIVER and driver not in FOREIGN):
        return None
    pool = spec.get("pool") or {}
    return SliceRecord(
        name=(obj.get("metadata") or {}).get("name", ""),
        node=node,
        driver=driver,
        pool=pool.get("name", ""),
        generation=int(pool.get("generation") or 0),
        devices=tuple(device for each in spec.get("devices") or () if (device := _device(each, driver))),
    )


def devices_of(slices: Iterable[SliceRecord], cards: Cards) -> list[Device]:
    """The devices of one node's slices, alike ones counted together."""
    offered = [device for record in _newest(slices) for device in record.devices if not device.possible]
    parents = {device.parent_uuid for device in offered if device.parent_uuid}
    whole = [device for device in offered if device.part or device.uuid not in parents]
    alike = Counter(replace(device, uuid="", parent_uuid="") for device in whole)
    return [_counted(device, count, cards) for device, count in sorted(alike.items(), key=repr)]


def _newest(slices: Iterable[SliceRecord]) -> list[SliceRecord]:
    """A driver that changes its pool writes a new generation; slices of the older ones are of the past."""
    found = list(slices)
    newest: dict[tuple[str, str], int] = {}
    for record in found:
        pool = (record.driver, record.pool)
        newest[pool] = max(record.generation, newest.get(pool, 0))
    return [record for record in found if record.generation == newest[record.driver, record.pool]]


def _counted(device: DraDevice, count: int, cards: Cards) -> Device:
    card = _card(device, cards)
    listed = card is not None and device.device_class in FOREIGN and not device.part
    memory_mib = device.memory_mib or (card.memory_mib if card and listed else None)
    return Device(
        resource=f"{RESOURCE_PREFIX}{device.device_class}",
        accelerator=card.name if card else UNKNOWN,
        product=device.product,
        memory_mib=memory_mib,
        compute_capability=device.compute_capability or (card.compute_capability if card else None),
        count=count,
        sharing=Sharing.MIG if device.part else Sharing.NONE,
        clients=1,
        driver_major=device.driver_major,
        verified=False,
        refused=(card.refused if card else "") or _refused(device),
        whole_memory_mib=memory_mib,
    )


def _card(device: DraDevice, cards: Cards) -> Accelerator | None:
    """By product; Neuron's driver names the machine, whose card the catalog knows."""
    machine = cards.of_machine(device.product)
    return cards.of_product(device.product) or (cards.named(machine.accelerator) if machine else None)


def _refused(device: DraDevice) -> str:
    vendor = FOREIGN.get(device.device_class)
    return foreign.other_build(vendor, device.device_class) if vendor else REFUSED


def _device(obj: Mapping[str, Any], driver: str) -> DraDevice | None:
    body: Mapping[str, Any] = obj.get("basic") or obj
    attributes = _by_short_name(body.get("attributes") or {}, driver)
    kind = _text(attributes, "type")
    tainted = any(taint.get("effect") in _KEEP_OFF for taint in body.get("taints") or ())
    device_class = CLASSES.get(kind, "") if driver == DRIVER else driver
    if not device_class or tainted or _VFIO in kind:
        return None
    cut = kind == "mig"
    return DraDevice(
        device_class=device_class,
        part=cut or kind.endswith("-partition"),
        uuid=_text(attributes, "uuid"),
        parent_uuid=_text(attributes, "parentUUID") if cut else "",
        product=_product(attributes, driver),
        memory_mib=_memory_mib(_by_short_name(body.get("capacity") or {}, driver).get("memory")),
        compute_capability=_capability(_numbers(attributes, "cudaComputeCapability")),
        driver_major=next(iter(_numbers(attributes, "driverVersion")), None),
        possible=cut and bool(body.get("consumesCounters")),
    )


def _product(attributes: Mapping[str, Any], driver: str) -> str:
    found = _text(attributes, _PRODUCT.get(driver, "productName"))
    return f"tpu-{found}" if found and driver == "tpu.google.com" else found


def _by_short_name(values: Mapping[str, Any], driver: str) -> dict[str, Any]:
    """A name without a domain belongs to the driver; some listings write the driver's own out."""
    return {name.removeprefix(f"{driver}/"): value for name, value in values.items()}


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
