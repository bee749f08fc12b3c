"""Hardware that is recognised only to be refused with a reason: other vendors' chips, Windows nodes.

A node that offers such a device is shown (`pools` says why it is not used) instead of being passed over in
silence. Sources: ROCm/k8s-device-plugin cmd/k8s-node-labeller (AMD's labels), GKE's TPU labels,
aws/karpenter-provider-aws (Neuron's), microsoft DirectX device plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware import gke, karpenter
from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts

#: Resource name, or its beginning, and whose devices it counts.
VENDORS: Final = (
    ("nvidia.com/", "NVIDIA"),
    ("amd.com/", "AMD"),
    ("google.com/tpu", "Google TPU"),
    ("aws.amazon.com/neuron", "AWS Neuron"),
    ("gpu.intel.com/", "Intel"),
    ("habana.ai/", "Intel Gaudi"),
    ("microsoft.com/directx", "DirectX"),
)
_AMD_PREFIXES = ("amd.com/gpu.", "beta.amd.com/gpu.")
#: Virtual functions have no product name; then the PCI device id tells the model.
_AMD_PRODUCT = ("product-name", "device-id")
_NEURON = ("karpenter.k8s.aws/instance-accelerator-name", "eks.amazonaws.com/instance-accelerator-name")
#: Of these AWS' list tells name and memory as it does of NVIDIA's (g4ad, dl1).
_LISTED_GPUS = {"AMD", "Intel Gaudi"}
NEURON_CHIP: Final = "aws.amazon.com/neuron"
NEURON_CORE: Final = "aws.amazon.com/neuroncore"
_OS = ("kubernetes.io/os", "beta.kubernetes.io/os")


def vendor_of(resource: str) -> str:
    """Whose devices a resource counts; empty for a resource that is no accelerator."""
    return next((vendor for prefix, vendor in VENDORS if resource.startswith(prefix)), "")


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """The model where labels tell it, and why it is refused."""
    vendor = vendor_of(resource)
    if vendor in {"NVIDIA", ""}:
        return NOTHING
    listed, nominal_mib = karpenter.listed_gpu(labels) if vendor in _LISTED_GPUS else ("", None)
    product = _product(labels, vendor) or listed
    card = cards.of_product(product) or cards.of_cloud_name(product) if product else None
    return Facts(
        product=product,
        card=card.name if card else "",
        memory_mib=_amd_memory_mib(labels) if vendor == "AMD" else None,
        nominal_mib=nominal_mib,
        refused=(card.refused if card else "") or other_build(vendor, resource),
    )


def other_build(vendor: str, resource: str) -> str:
    """Why nothing is planned for a device of another vendor."""
    return f"{vendor} devices ({resource}) need another engine build than the CUDA one"


def memory_of_a_core_mib(chip_mib: int | None, *, chips: int | None, cores: int) -> int | None:
    """What one NeuronCore has of its chip; the plugin counts chips and cores side by side, so both counts tell.

    Cores of a chip differ (4, 2 or 8), and logical ones can be set to hold two.
    """
    return chip_mib * chips // cores if chip_mib and chips and cores >= chips else None


def promised_resource(labels: Mapping[str, str]) -> str:
    """The foreign resource that labels speak of, for a listing that prints no resources."""
    if gke.TPU in labels:
        return "google.com/tpu"
    if any(label.startswith(("amd.com/gpu", "beta.amd.com/gpu")) for label in labels):
        return "amd.com/gpu"
    return NEURON_CHIP if any(label in labels for label in _NEURON) else ""


def operating_system_refused(labels: Mapping[str, str]) -> str:
    """Windows nodes carry NVIDIA's labels and machine types too; the engine's image is for Linux."""
    system = next((labels[label] for label in _OS if label in labels), "linux")
    return "" if system == "linux" else f"the node runs {system}; the engine needs Linux"


def _amd_memory_mib(labels: Mapping[str, str]) -> int | None:
    """`amd.com/gpu.vram` is GiB rounded down, written with a G: 191G or 192G for one card, 144G for half of one."""
    text = _amd(labels, "vram")
    number, unit = text[:-1], text[-1:]
    return int(number) * 1024 if unit == "G" and number.isdecimal() else None


def _amd(labels: Mapping[str, str], name: str) -> str:
    """A property that all cards of the node have; the labeller also counts cards by value (`gpu.vram.16G: "1"`).

    Early versions wrote the counts alone, and where cards differ there is nothing else (createLabels in
    cmd/k8s-node-labeller/main.go).
    """
    if found := next((labels[p + name] for p in _AMD_PREFIXES if labels.get(p + name)), ""):
        return found
    counted = {
        label.removeprefix(prefix)
        for prefix in (f"{p}{name}." for p in _AMD_PREFIXES)
        for label in labels
        if label.startswith(prefix)
    }
    return counted.pop() if len(counted) == 1 else ""


def _product(labels: Mapping[str, str], vendor: str) -> str:
    if vendor == "AMD":
        return next((found for name in _AMD_PRODUCT if (found := _amd(labels, name))), "")
    if vendor == "Google TPU":
        return labels.get(gke.TPU, "")
    if vendor == "AWS Neuron":
        return next((labels[label] for label in _NEURON if labels.get(label)), "")
    return ""
