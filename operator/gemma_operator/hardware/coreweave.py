"""CoreWeave: the model by a short name that is no driver's, in labels that look like NVIDIA's and are not.

Source: docs.coreweave.com, node labels (`gpu.nvidia.com/class`, `gpu.nvidia.com/model`) and its list of GPU types; the
same names of a live node in skypilot-org/skypilot#5628. `gpu.nvidia.com/vram` is not read: 81 of an H100 is neither
its GiB (79) nor its GB (85).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware.cards import Cards
from gemma_operator.hardware.facts import NOTHING, Facts, number

MODELS: Final = ("gpu.nvidia.com/model", "gpu.nvidia.com/class")
_COUNT = "gpu.nvidia.com/count"


def facts(labels: Mapping[str, str], *, resource: str, cards: Cards) -> Facts:
    """The card where its name is one of the list; a class may be a machine's nickname (`rtxp6000-8x`)."""
    if resource != "nvidia.com/gpu":
        return NOTHING
    named = ((name, cards.of_cloud_name(name)) for label in MODELS if (name := labels.get(label)))
    product, card = next(((name, card) for name, card in named if card), ("", None))
    if card is None:
        return NOTHING
    return Facts(product=product, card=card.name, promised=number(labels, _COUNT))


def spot(labels: Mapping[str, str]) -> bool | None:
    """No label tells."""
    del labels
    return None
