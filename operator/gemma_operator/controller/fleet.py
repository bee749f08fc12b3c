"""The cluster's hardware as the planner wants it: pools, made anew only when a node or a declared pool changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware import declarations
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, PodRecord, Pool
from gemma_operator.planner.values import Plan


class Fleet:
    """Pools of the nodes as they are now. `version` counts the times that they were made."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        nodes: Callable[[], Iterable[NodeRecord]],
        declared: Callable[[], Iterable[DeclaredPool]],
        pods: Callable[[], Iterable[PodRecord]],
    ) -> None:
        self.version = 0
        self._catalog = catalog
        self._nodes = nodes
        self._declared = declared
        self._pods = pods
        self._pools: tuple[Pool, ...] | None = None
        self._overlapping: Mapping[str, tuple[str, str]] | None = None

    def hardware_changed(self) -> None:
        """A node or an AcceleratorPool came, went or changed."""
        self._pools = self._overlapping = None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool, known or declared."""
        if self._pools is None:
            self._pools = pools(self._nodes(), self._declared(), self._catalog)
            self.version += 1
        return self._pools

    @property
    def overlapping(self) -> Mapping[str, tuple[str, str]]:
        """By name of an AcceleratorPool that lost a node: (the pool that has it, one such node)."""
        if self._overlapping is None:
            self._overlapping = declarations.overlapping(self._nodes(), self._declared())
        return self._overlapping

    @property
    def pods(self) -> tuple[PodRecord, ...]:
        """Every pod that holds something of a node."""
        return tuple(self._pods())

    def knows(self, plan: Plan) -> bool:
        """A pool of the plan's name is still there, or may bring a node; its shape may have lost a device."""
        wanted = plan.pool
        return any(
            (pool.shape.id.source, pool.shape.id.name, pool.shape.id.resource_name)
            == (wanted.source, wanted.name, wanted.resource_name)
            for pool in self.pools
        )
