"""Alibaba Cloud's ACK, whose nodes say of their cards what `nvidia-smi` says, under labels of their own.

Sources: help.aliyun.com, "Use GPU-accelerated nodes" (`aliyun.accelerator/nvidia_name=Tesla-P100-PCIE-16GB`,
`nvidia_mem=16276MiB`, `nvidia_count=1`); the script that joins a node takes all three from the driver
(`nvidia-smi --query-gpu=memory.total`), blanks made dashes as GPU feature discovery does. Purchase: the cloud
controller manager, kubernetes/cloud-provider-alibaba-cloud (`node.alibabacloud.com/spot-strategy`: NoSpot,
SpotWithPriceLimit, SpotAsPriceGo).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts, number

NAME: Final = "aliyun.accelerator/nvidia_name"
_MEMORY = "aliyun.accelerator/nvidia_mem"
_COUNT = "aliyun.accelerator/nvidia_count"
_UNIT = "MiB"
_STRATEGY = "node.alibabacloud.com/spot-strategy"
_SPOT = {"NoSpot": False, "SpotWithPriceLimit": True, "SpotAsPriceGo": True}


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """Whole cards; sharing by ACK's own scheduler has resources of its own (`aliyun.com/gpu-mem`)."""
    product = labels.get(NAME, "")
    if not product or resource != "nvidia.com/gpu":
        return NOTHING
    card = cards.of_product(product)
    return Facts(
        product=product,
        card=card.name if card else "",
        memory_mib=_memory_mib(labels.get(_MEMORY, "")),
        promised=number(labels, _COUNT),
    )


def spot(labels: Mapping[str, str]) -> bool | None:
    """Older nodes have no such label."""
    return _SPOT.get(labels.get(_STRATEGY, ""))


def _memory_mib(text: str) -> int | None:
    """A figure without its unit is none: nobody says what it counts."""
    figure = text.removesuffix(_UNIT)
    return int(figure) if figure != text and figure.isdecimal() and int(figure) > 0 else None
