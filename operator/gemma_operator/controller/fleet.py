"""The cluster's hardware as the planner wants it: pools, made anew only when a node or a declared pool changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware import computeclasses, declarations, karpenter, nodepools
from gemma_operator.hardware.access import with_access
from gemma_operator.hardware.computeclasses import ComputeClassRecord
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.dra import SliceRecord
from gemma_operator.hardware.namespaces import NO_RULES, NamespaceRules
from gemma_operator.hardware.nodeclaims import NodeClaimRecord, words_of
from gemma_operator.hardware.nodepools import NodePoolRecord
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.prospects import Prospect
from gemma_operator.hardware.records import NodeRecord, PodRecord, Pool
from gemma_operator.planner.values import Plan
from gemma_operator.settings import PoolAccess


@dataclass(frozen=True, slots=True)
class Beside:
    """What a cluster may have beside Nodes, Pods and our own kinds; each gives nothing where it has not."""

    slices: Callable[[], Iterable[SliceRecord]] = tuple
    nodepools: Callable[[], Iterable[NodePoolRecord]] = tuple
    nodeclaims: Callable[[], Iterable[NodeClaimRecord]] = tuple
    computeclasses: Callable[[], Iterable[ComputeClassRecord]] = tuple
    rules: Callable[[], NamespaceRules] = lambda: NO_RULES
    #: (node, resource) that takes pods and refuses them.
    quarantined: Callable[[], Collection[tuple[str, str]]] = tuple


NOTHING_ELSE = Beside()


class Fleet:
    """Pools of the nodes as they are now. `version` counts the times that they were made."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        nodes: Callable[[], Iterable[NodeRecord]],
        declared: Callable[[], Iterable[DeclaredPool]],
        pods: Callable[[], Iterable[PodRecord]],
        beside: Beside = NOTHING_ELSE,
        access: Sequence[PoolAccess] = (),
    ) -> None:
        self.version = 0
        self._catalog = catalog
        self._nodes = nodes
        self._declared = declared
        self._pods = pods
        self._beside = beside
        self._access = access
        self._pools: tuple[Pool, ...] | None = None
        self._overlapping: Mapping[str, tuple[str, str]] | None = None

    def hardware_changed(self) -> None:
        """A node, or what may bring or offer one, came, went or changed."""
        self._pools = self._overlapping = None

    @property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool, known or declared."""
        if self._pools is None:
            found = pools(
                self._nodes(),
                self._declared(),
                self._catalog,
                slices=self._beside.slices(),
                prospects=self._prospects(),
            )
            self._pools = with_access(found, self._access)
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

    @property
    def rules(self) -> NamespaceRules:
        """What namespaces allow."""
        return self._beside.rules()

    @property
    def quarantined(self) -> Collection[tuple[str, str]]:
        """(node, resource) that takes pods and refuses them."""
        return self._beside.quarantined()

    def knows(self, plan: Plan) -> bool:
        """A pool of the plan's name is still there, or may bring a node; its shape may have lost a device."""
        wanted = plan.pool
        return any(
            (pool.shape.id.source, pool.shape.id.name, pool.shape.id.resource_name)
            == (wanted.source, wanted.name, wanted.resource_name)
            for pool in self.pools
        )

    def node_to_come(self, plan: Plan) -> str:
        """Whether the plan's pool brings a node, in the words of who should bring it; empty where nobody says so."""
        nodepool = dict(plan.pool_selector).get(karpenter.NODEPOOL, "")
        return words_of(nodepool, self._beside.nodeclaims()) if nodepool else ""

    def _prospects(self) -> Iterator[Prospect]:
        for nodepool in self._beside.nodepools():
            yield from nodepools.prospects(nodepool, self._catalog)
        for computeclass in self._beside.computeclasses():
            yield from computeclasses.prospects(computeclass, self._catalog)
