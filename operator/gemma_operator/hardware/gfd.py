"""What NVIDIA's GPU feature discovery writes: the driver's own words about a node's cards.

Source: NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery/README.md and internal/lm/resource.go; the
labels of MIG's states from NVIDIA/gpu-operator. Family names are not read: they are wrong on some cards
(an RTX 4000 Ada says `ampere`), compute capability is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts, number
from gemma_operator.hardware.records import Sharing

PRODUCT: Final = "nvidia.com/gpu.product"
MEMORY: Final = "nvidia.com/gpu.memory"
COUNT: Final = "nvidia.com/gpu.count"
REPLICAS: Final = "nvidia.com/gpu.replicas"
STRATEGY: Final = "nvidia.com/gpu.sharing-strategy"
MACHINE: Final = "nvidia.com/gpu.machine"
MIG_CONFIG: Final = "nvidia.com/mig.config"
MIG_RESOURCE_PREFIX: Final = "nvidia.com/mig-"

_SHARED = "-SHARED"
_MIG = "-MIG-"
_INVALID = "INVALID"
_STRATEGIES = {"none": Sharing.NONE, "time-slicing": Sharing.TIME_SLICING, "mps": Sharing.MPS}
#: `all-1g.5gb`: every card cut alike. `all-disabled` and `all-balanced` name no one profile.
_ALL_CUT = re.compile(r"all-[0-9]+g\..+")
_PROFILE = re.compile(r"(?P<slices>[0-9]+g)\.(?P<gb>[0-9]+)gb(?P<attributes>.*)")
#: `GRID-A100-8C`, `NVIDIA-A10-4Q`, `GRID-A100-1-5CME`: a part of a card, its frame buffer in GiB (docs.nvidia.com/vgpu,
#: vGPU types; ME: a slice with the media engines).
_VGPU = re.compile(r".+-(?P<gb>[0-9]+)(?:[ABCQ]|CME)")
#: What sharing adds to a resource's name where the configuration says `renameByDefault`.
RENAMED: Final = ".shared"
_PROFILE_LABEL = re.compile(re.escape(MIG_RESOURCE_PREFIX) + r"(?P<profile>.+)\.memory")


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """Whole and shared cards, slices under the single strategy (`nvidia.com/gpu`) and the mixed one."""
    if not resource.startswith("nvidia.com/"):
        return NOTHING
    if resource.startswith(MIG_RESOURCE_PREFIX):
        return _slice_facts(labels, profile=resource.removeprefix(MIG_RESOURCE_PREFIX), cards=cards)
    return _card_facts(labels, resource=resource, cards=cards)


def _card_facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    written = labels.get(PRODUCT, "")
    product, mig = _taken_apart(written)
    card = cards.of_product(product) if product else None
    replicas = number(labels, REPLICAS)
    sharing = _sharing(labels, resource=resource, written=written, mig=mig)
    shared = sharing in {Sharing.TIME_SLICING, Sharing.MPS}
    count = number(labels, COUNT)
    return Facts(
        product=written,
        card=card.name if card else "",
        memory_mib=number(labels, MEMORY),
        nominal_mib=_frame_buffer_mib(product) if card is None else None,
        compute_capability=_compute_capability(labels),
        sharing=sharing,
        clients=replicas if shared and replicas and replicas > 1 else None,
        promised=count * (replicas or 1) if count else None,
        driver_major=_driver_major(labels),
        refused="its MIG layout is invalid: the driver's slices are not those of the configuration"
        if mig == _INVALID
        else "",
    )


def _slice_facts(labels: Mapping[str, str], *, profile: str, cards: Cards) -> Facts:
    """A profile of the mixed strategy has labels of its own; the node's describe whole cards."""
    labelled = _labelled_profile(labels, profile.removesuffix(RENAMED))
    prefix = f"{MIG_RESOURCE_PREFIX}{labelled}."
    written = labels.get(f"{prefix}product") or labels.get(PRODUCT, "")
    product, _ = _taken_apart(written)
    card = cards.of_product(product) if product else None
    replicas = number(labels, f"{prefix}replicas")
    ticketed = profile.endswith(RENAMED) or (replicas is not None and replicas > 1)
    return Facts(
        product=written,
        card=card.name if card else "",
        memory_mib=number(labels, f"{prefix}memory"),
        compute_capability=_compute_capability(labels),
        sharing=Sharing.TIME_SLICING if ticketed else Sharing.MIG,
        clients=replicas if ticketed and replicas and replicas > 1 else None,
        promised=number(labels, f"{prefix}count"),
        driver_major=_driver_major(labels),
    )


def labelled_count(labels: Mapping[str, str]) -> int | None:
    """Devices that the labels describe; None where GFD counted none."""
    return number(labels, COUNT)


def profiles(labels: Mapping[str, str]) -> tuple[str, ...]:
    """MIG profiles that labels promise, for a listing that prints no resources."""
    return tuple(
        sorted(
            match["profile"]
            for label in labels
            if (match := _PROFILE_LABEL.fullmatch(label)) and number(labels, label)
        )
    )


def _labelled_profile(labels: Mapping[str, str], profile: str) -> str:
    """The profile as labels spell it: early GFD wrote `3g.21gb` for the resource `3g.20gb`.

    Believed where slices and attributes agree, the sizes are one apart and only one label does so.
    """
    present = profiles(labels)
    wanted = _PROFILE.fullmatch(profile)
    if profile in present or wanted is None:
        return profile
    near = [
        candidate
        for candidate in present
        if (match := _PROFILE.fullmatch(candidate))
        and (match["slices"], match["attributes"]) == (wanted["slices"], wanted["attributes"])
        and abs(int(match["gb"]) - int(wanted["gb"])) <= 1
    ]
    return near[0] if len(near) == 1 else profile


def _taken_apart(written: str) -> tuple[str, str]:
    """(product, MIG profile or INVALID) of a product label; the suffix of sharing is dropped."""
    product, _, mig = written.removesuffix(_SHARED).partition(_MIG)
    return product, mig


def _frame_buffer_mib(product: str) -> int | None:
    """What a vGPU profile's name says; the driver reports a little less."""
    match = _VGPU.fullmatch(product)
    return int(match["gb"]) * 1024 if match else None


def _sharing(labels: Mapping[str, str], *, resource: str, written: str, mig: str) -> Sharing | None:
    """The strategy's own label first: the suffix is missing where the resource was renamed."""
    stated = _STRATEGIES.get(labels.get(STRATEGY, ""))
    if stated in {Sharing.TIME_SLICING, Sharing.MPS}:
        return stated
    if written.endswith(_SHARED) or resource.endswith(RENAMED):
        return Sharing.TIME_SLICING
    replicas = number(labels, REPLICAS)
    if replicas is not None and replicas > 1:
        return Sharing.TIME_SLICING
    if mig or (not written and _ALL_CUT.fullmatch(labels.get(MIG_CONFIG, ""))):
        return Sharing.MIG
    return stated


def _compute_capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    major = labels.get("nvidia.com/gpu.compute.major", "")
    minor = labels.get("nvidia.com/gpu.compute.minor", "")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _driver_major(labels: Mapping[str, str]) -> int | None:
    return number(labels, "nvidia.com/cuda.driver-version.major") or number(
        labels, "nvidia.com/cuda.driver.major"
    )
