"""`gemma_pool_accelerators`: how many accelerators each pool has, and what they do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool's count. Accelerators are whole devices or MIG slices, as the pool has them."""

    source: str
    pool: str
    accelerator: str
    total: int
    free: int
    claimed: int
    quarantined: int = 0


class Pools(Collector):
    """Shows the pools as they were reported last; only the leader does, since only it knows the claims."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str, str], int] = {}
        self.shown = False

    def pools(self, views: Iterable[PoolView]) -> None:
        """All pools from now on; one that is missing is gone. Pools that differ only in shape are summed."""
        series: dict[tuple[str, str, str, str], int] = {}
        for view in views:
            counts = (
                ("total", view.total),
                ("free", view.free),
                ("claimed", view.claimed),
                ("quarantined", view.quarantined),
            )
            for state, count in counts:
                labels = (view.source, view.pool, view.accelerator, state)
                series[labels] = series.get(labels, 0) + count
        self._series = series

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The name alone."""
        return [_empty()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One series a pool, accelerator and state."""
        if not self.shown:
            return
        family = _empty()
        for labels, count in self._series.items():
            family.add_metric(labels, count)
        yield family


def _empty() -> GaugeMetricFamily:
    return GaugeMetricFamily(
        "gemma_pool_accelerators",
        "Accelerators of a pool by what they do.",
        labels=["source", "pool", "accelerator", "state"],
    )
