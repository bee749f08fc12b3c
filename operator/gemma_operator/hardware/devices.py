"""What the devices behind each resource of a node are: all dialects' readings made into one `Device`.

Believed in this order: the driver's words (GFD), the cloud's label, the machine type. Only allocatable
counts devices: capacity, count labels and machine types promise what a node may never offer, so they are
used for a node whose listing prints no allocatable at all, where the count is then no room.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from gemma_operator.catalog.records import Accelerator
from gemma_operator.hardware import alibaba, clouds, coreweave, foreign, gfd, gke, karpenter
from gemma_operator.hardware.cards import MEMORY_TOLERANCE_PERCENT, UNKNOWN, Cards
from gemma_operator.hardware.facts import NOTHING, Dialect, Facts, merged
from gemma_operator.hardware.records import NodeRecord, Sharing

DIALECTS: Final[tuple[Dialect, ...]] = (gfd, alibaba, gke, karpenter, coreweave, clouds, foreign)

#: No machine has more whole GPUs: above it a count is one of slices or tickets that no label admits to
#: (56 slices on an AKS node, 128 tickets on a Bottlerocket one).
MOST_WHOLE_DEVICES: Final = 16

_ARCH_LABELS = ("kubernetes.io/arch", "beta.kubernetes.io/arch")
_NVIDIA_GPU = "nvidia.com/gpu"
#: Memory that differs by more from the catalog's is not the card that was measured.
_SAME_CARD_PERCENT = 2


@dataclass(frozen=True, slots=True)
class Device:
    """The devices of one resource of one node; `memory_mib` is what one pod gets of one."""

    resource: str
    accelerator: str
    product: str
    memory_mib: int | None
    compute_capability: tuple[int, int] | None
    count: int
    sharing: Sharing
    clients: int
    driver_major: int | None
    verified: bool
    refused: str
    whole_memory_mib: int | None
    #: Of the node, by its label, else by a card that is built together with its host.
    arch: str = ""


def resources_of(node: NodeRecord, cards: Cards) -> tuple[str, ...]:
    """The accelerator resources that a node offers or, where it prints none, is said to have."""
    return _offered(node) or _promised(node, cards)


def _offered(node: NodeRecord) -> tuple[str, ...]:
    """Accelerator resources with something in them, else those that are there with nothing."""
    known = {**node.capacity, **node.allocatable}
    named = [name for name in known if foreign.vendor_of(name) and not _is_auxiliary(name)]
    filled = [name for name in named if known[name] > 0]
    return tuple(sorted(filled or named))


def _is_auxiliary(resource: str) -> bool:
    """NVIDIA's domain also names what is no GPU (RDMA, host devices) or a measure of one (HAMi's gpumem, gpucores)."""
    if not resource.startswith("nvidia.com/") or resource.startswith(gfd.MIG_RESOURCE_PREFIX):
        return False
    return resource.removesuffix(gfd.RENAMED) != _NVIDIA_GPU


def _promised(node: NodeRecord, cards: Cards) -> tuple[str, ...]:
    """Resources that only labels speak of; those of slices first, since GFD counts cards that are cut as cards too."""
    if foreign_resource := foreign.promised_resource(node.labels):
        return (foreign_resource,)
    if profiles := gfd.profiles(node.labels):
        return tuple(f"{gfd.MIG_RESOURCE_PREFIX}{profile}" for profile in profiles)
    facts = _facts(node.labels, _NVIDIA_GPU, cards)
    return (_NVIDIA_GPU,) if facts.card or facts.memory_mib or facts.product or facts.promised else ()


def _facts(labels: Mapping[str, str], resource: str, cards: Cards) -> Facts:
    return merged(dialect.facts(labels, resource=resource, cards=cards) for dialect in DIALECTS)


def device(node: NodeRecord, resource: str, cards: Cards, *, declared: Facts = NOTHING) -> Device:
    """The devices of one resource; what an AcceleratorPool declares fills what labels leave open."""
    facts = merged((_facts(node.labels, resource, cards), declared))
    card = cards.named(facts.card)
    sharing = facts.sharing or Sharing.NONE
    whole_mib = _whole_memory(facts, card_mib=card.memory_mib if card else None, sharing=sharing)
    if resource == foreign.NEURON_CORE:
        whole_mib = _memory_of_a_core(node, whole_mib, promised=facts.promised)
    clients = _clients(facts, sharing)
    memory_mib = whole_mib // clients if whole_mib and clients else None
    count = node.allocatable.get(resource, 0) if node.allocatable else facts.promised or 0
    unified = card is not None and card.memory_mib is None and card.visible_mib is not None
    read = Device(
        resource=resource,
        accelerator=card.name if card else UNKNOWN,
        product=facts.product,
        memory_mib=memory_mib,
        compute_capability=facts.compute_capability or (card.compute_capability if card else None),
        count=count,
        sharing=sharing,
        clients=clients or 1,
        driver_major=facts.driver_major,
        whole_memory_mib=whole_mib,
        arch=arch_of(node, card),
        verified=_verified(card.memory_mib if card else None, memory_mib, sharing) or unified,
        refused=foreign.operating_system_refused(node.labels)
        or facts.refused
        or (card.refused if card else ""),
    )
    if read.refused:
        return read
    return replace(read, refused=_not_usable(read, node, told=unified or memory_mib is not None, facts=facts))


def arch_of(node: NodeRecord, card: Accelerator | None) -> str:
    """The node's, by its label, else by a card that is built together with its host."""
    labelled = (node.labels[label] for label in _ARCH_LABELS if label in node.labels)
    return next(labelled, card.architecture if card else "")


def _whole_memory(facts: Facts, *, card_mib: int | None, sharing: Sharing) -> int | None:
    """A card's memory before it is shared. A slice's is never taken from the card's figure."""
    if facts.memory_mib:
        return facts.memory_mib
    if sharing is Sharing.MIG:
        return None
    if card_mib:
        return card_mib
    if facts.nominal_mib:
        return facts.nominal_mib * (100 - MEMORY_TOLERANCE_PERCENT) // 100
    return None


def _memory_of_a_core(node: NodeRecord, chip_mib: int | None, *, promised: int | None) -> int | None:
    offered = {**node.allocatable, **node.capacity}
    return foreign.memory_of_a_core_mib(
        chip_mib,
        chips=offered.get(foreign.NEURON_CHIP) or promised,
        cores=offered.get(foreign.NEURON_CORE, 0),
    )


def _clients(facts: Facts, sharing: Sharing) -> int | None:
    """How many share one device; None where it is shared and nothing tells among how many."""
    if sharing in {Sharing.TIME_SLICING, Sharing.MPS}:
        return facts.clients
    return 1


def _verified(card_mib: int | None, memory_mib: int | None, sharing: Sharing) -> bool:
    """The overhead was measured on whole cards of the catalog."""
    if card_mib is None or memory_mib is None or sharing is not Sharing.NONE:
        return False
    return abs(card_mib - memory_mib) * 100 <= card_mib * _SAME_CARD_PERCENT


def _is_whole(device: Device) -> bool:
    """Read as whole cards, whose number labels and machine types tell (GFD describes one model a node, resource.go)."""
    return device.resource == _NVIDIA_GPU and device.sharing is Sharing.NONE


def _not_usable(device: Device, node: NodeRecord, *, told: bool, facts: Facts) -> str:
    """Why nothing can be planned for a device that is of the right kind; empty where something can."""
    if node.allocatable and device.count == 0:
        capacity = node.capacity.get(device.resource, 0)
        return f"the node has none of {device.resource} allocatable" + (
            f" ({capacity} in its capacity: the devices are unhealthy)" if capacity else ""
        )
    if device.sharing is Sharing.NONE and device.count > MOST_WHOLE_DEVICES:
        return (
            f"{device.count} of {device.resource} on one node are slices or shared devices, and no label "
            "says of which size: declare an AcceleratorPool with acceleratorMemoryMiB"
        )
    if _is_whole(device) and (labelled := gfd.labelled_count(node.labels)) and device.count > labelled:
        return (
            f"{device.count} of {device.resource} are offered and the labels describe {labelled}: a node of mixed "
            "models, or cards shared without a label; keep one model a node, and label what is shared"
        )
    if _is_whole(device) and facts.promised and device.count > facts.promised:
        return (
            f"{device.count} of {device.resource} are offered and a machine of this type has {facts.promised}: "
            "shared or cut without a label that says so; install GPU feature discovery or declare an "
            "AcceleratorPool with acceleratorsPerNode and acceleratorMemoryMiB"
        )
    if told:
        return ""
    if device.sharing in {Sharing.TIME_SLICING, Sharing.MPS} and facts.clients is None:
        return "the device is shared and no label says among how many: declare an AcceleratorPool"
    if device.sharing is Sharing.MIG:
        return f"no label tells the memory of a slice ({device.resource}): declare an AcceleratorPool"
    return (
        f"no label tells the model or the memory of {device.resource}: install GPU feature discovery or "
        "declare an AcceleratorPool"
    )
