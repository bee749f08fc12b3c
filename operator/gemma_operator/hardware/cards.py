"""The catalog's accelerators, found by the names that nodes give them.

One card has many names: GFD's product, GKE's label value, AWS' short name, a machine type. Some names tell
too little (`a100` is the card of 40 and of 80 GB): such a name is believed only where the memory printed
beside it leaves one card, else the machine type decides, else nobody.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from gemma_operator.catalog.records import Accelerator, Catalog, MachineType

UNKNOWN: Final = "unknown"

#: Catalogues of clouds and drivers differ by at most so much for one card: a T4 is 16384 in AWS' list and
#: 15360 by its driver (6.3 %). Source: karpenter-provider-aws, reference/instance-types.md.
MEMORY_TOLERANCE_PERCENT: Final = 7

_VENDOR_PREFIX = re.compile(r"^(nvidia|tesla|amd|geforce)[-_ ]", re.IGNORECASE)


class Cards:
    """An index over one catalog; made once for a reading of a fleet."""

    def __init__(self, catalog: Catalog) -> None:
        self._by_name = catalog.accelerators
        self._machines = {name.lower(): machine for name, machine in catalog.machine_types.items()}
        known = catalog.accelerators.values()
        self._products = _index((_folded(name), card) for card in known for name in card.products)
        # Not folded: AWS' `a100` names two cards, GKE's `nvidia-tesla-a100` one.
        self._cloud_names = _index((name.lower(), card) for card in known for name in card.cloud_names)

    def named(self, name: str) -> Accelerator | None:
        """By catalog name."""
        return self._by_name.get(name)

    def of_product(self, product: str) -> Accelerator | None:
        """By product name as a driver prints it, suffixes of sharing and MIG taken off."""
        return _only(self._products.get(_folded(product), ()))

    def of_cloud_name(self, name: str, *, nominal_mib: int | None = None) -> Accelerator | None:
        """By a cloud's name for the card; `nominal_mib` is the memory that the cloud prints beside it."""
        cards = self._cloud_names.get(name.lower(), ())
        if nominal_mib:
            same = _close if len(cards) > 1 else _holds
            cards = tuple(card for card in cards if same(card.memory_mib, nominal_mib))
        return _only(cards)

    def of_machine(self, machine_type: str) -> MachineType | None:
        """By a cloud's machine type."""
        return self._machines.get(machine_type.lower())


def _index(pairs: Iterable[tuple[str, Accelerator]]) -> dict[str, tuple[Accelerator, ...]]:
    found: defaultdict[str, dict[str, Accelerator]] = defaultdict(dict)
    for name, card in pairs:
        found[name][card.name] = card
    return {name: tuple(cards.values()) for name, cards in found.items()}


def _folded(name: str) -> str:
    """One spelling: old drivers leave the vendor out, AMD writes underscores, AWS lower case."""
    folded = name.strip().lower().replace("_", "-").replace(" ", "-")
    while (shorter := _VENDOR_PREFIX.sub("", folded)) != folded:
        folded = shorter
    return folded


def _only(cards: tuple[Accelerator, ...]) -> Accelerator | None:
    return cards[0] if len(cards) == 1 else None


def _close(memory_mib: int | None, nominal_mib: int) -> bool:
    if memory_mib is None:
        return False
    return abs(memory_mib - nominal_mib) * 100 <= nominal_mib * MEMORY_TOLERANCE_PERCENT


def _holds(memory_mib: int | None, nominal_mib: int) -> bool:
    """The card or a fraction of it: a machine may have a part of a card, never more than one."""
    return memory_mib is None or nominal_mib <= memory_mib or _close(memory_mib, nominal_mib)
