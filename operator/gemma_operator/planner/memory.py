"""What a device offers: how much of it the engine sees, and how much of that it may use.

A card's memory as the driver says it is not what torch sees: the catalog has torch's figure where a log
gave it, else a stated margin is taken off. A MIG slice is a small card. A time-sliced card is seen whole by
every client, so the engine's share of it must shrink with the number of clients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import Accelerator, Engine
from gemma_operator.hardware.records import PoolShape, Sharing
from gemma_operator.planner.vllm import versions

MIB: Final = 1024**2
#: A node's figure that differs by more from the catalog's is another card, or a part of one; clouds' and
#: drivers' figures of one card differ by up to 6.3 % (T4).
TOLERANCE_PERCENT: Final = 7


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the engine meets it."""

    visible_mib: int
    #: Hundredths of a percent: a plan takes whole percents, the calculator what people give their engines.
    utilization_basis_points: int

    @property
    def usable_bytes(self) -> int:
        """What the engine takes: utilization times what torch sees."""
        return self.visible_mib * MIB * self.utilization_basis_points // 10_000

    @property
    def left_alone_bytes(self) -> int:
        """What the engine does not take: the room for what its profiling run did not see."""
        return self.visible_mib * MIB - self.usable_bytes

    @property
    def utilization_percent(self) -> int:
        """As plans write it."""
        return round(self.utilization_basis_points / 100)


def device(
    shape: PoolShape, accelerator: Accelerator | None, engine: Engine, *, version: str
) -> Device | None:
    """The device of a pool; None where nothing tells its memory."""
    percent = versions.rules(engine, version).utilization_percent
    if accelerator is not None and accelerator.utilization_percent is not None:
        percent = accelerator.utilization_percent
    clients = shape.clients_per_device if shape.sharing is Sharing.TIME_SLICING else 1
    reported = _reported_mib(shape, accelerator, clients)
    if reported is None:
        return None
    visible = _visible_mib(shape, accelerator, reported, engine.overhead.invisible_mib)
    return Device(visible_mib=visible, utilization_basis_points=percent // max(1, clients) * 100)


def _reported_mib(shape: PoolShape, accelerator: Accelerator | None, clients: int) -> int | None:
    """What the driver says of the device that the engine sees: a time-sliced one is seen whole."""
    if shape.memory_mib is not None:
        return shape.memory_mib * clients
    if accelerator is None or shape.sharing not in (Sharing.NONE, Sharing.TIME_SLICING):
        return None
    return accelerator.memory_mib or accelerator.visible_mib


def _visible_mib(shape: PoolShape, accelerator: Accelerator | None, reported: int, invisible: int) -> int:
    whole = shape.sharing in (Sharing.NONE, Sharing.TIME_SLICING)
    if accelerator is not None and accelerator.visible_mib is not None and whole:
        nominal = accelerator.memory_mib or accelerator.visible_mib
        if abs(reported - nominal) * 100 <= nominal * TOLERANCE_PERCENT:
            # Never more than the node itself reports, whatever the catalog's card had.
            return min(accelerator.visible_mib, reported)
    return max(0, reported - invisible)
