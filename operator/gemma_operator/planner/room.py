"""How many replicas have room: now on the nodes that are there, and after a pool has grown.

Counted per node, because a replica lives on one: eight free GPUs on eight nodes are no room for a replica
of four. Free is allocatable less what bound pods asked for less what placed deployments still have to get
(claims). A claim is put down pod by pod, the largest first, on the node with the most free accelerators:
that is the arrangement which leaves the fewest large holes, so room for a large replica is never promised
that the scheduler may already have spent on small ones.

The ledger is the one mutable thing of the planner; it lives for one placement and is built anew from placed
plans and bound pods each time, so nothing has to be remembered over a restart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gemma_operator.hardware import tolerations
from gemma_operator.hardware.pools import brings, has_labels
from gemma_operator.hardware.prospects import nodes_within
from gemma_operator.hardware.records import (
    NewNode,
    NodeRecord,
    PodRecord,
    Pool,
    PoolId,
    PoolSource,
    Toleration,
)
from gemma_operator.planner.values import ReplicaDemand

Labels = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Room:
    """Replicas that fit: `after_scale_up` counts those that fit now too."""

    now: int
    after_scale_up: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Pods that a placed deployment still has to get."""

    key: tuple[str, str]
    pool: PoolId
    demand: ReplicaDemand
    replicas: int
    node_selector: tuple[tuple[str, str], ...] = ()


NO_ROOM = Room(now=0, after_scale_up=0)


class Ledger:
    """What is free on each node of a fleet, and on the nodes that its pools may still bring."""

    def __init__(
        self,
        pools: Iterable[Pool],
        pods: Iterable[PodRecord],
        *,
        quarantined: Collection[tuple[str, str]] = (),
    ) -> None:
        """`quarantined`: (node, resource) that takes pods and refuses them; what it offers is no room."""
        self._pools = {pool.shape.id: pool for pool in pools}
        self._free: dict[str, dict[str, int]] = {}
        self._pools_of_node: defaultdict[str, set[PoolId]] = defaultdict(set)
        self._new_nodes: dict[PoolId, list[dict[str, int]]] = {}
        self._more: dict[PoolId, int] = {}
        #: By group: what is left of the limits that all shapes of it share.
        self._left: dict[tuple[PoolSource, str], dict[str, int]] = {}
        self._known: defaultdict[PoolId, dict[object, Room]] = defaultdict(dict)
        self._pods_of: defaultdict[tuple[str, str], list[PodRecord]] = defaultdict(list)
        for pool in self._pools.values():
            for node in pool.nodes:
                self._free.setdefault(node.name, dict(node.allocatable))
                self._pools_of_node[node.name].add(pool.shape.id)
                if (node.name, pool.shape.id.resource_name) in quarantined:
                    self._free[node.name][pool.shape.id.resource_name] = 0
            self._new_nodes[pool.shape.id] = []
            self._more[pool.shape.id] = pool.growth.more_nodes if pool.growth else 0
            if pool.growth and pool.growth.limits:
                self._left[_group(pool.shape.id)] = dict(pool.growth.limits)
        for pod in pods:
            self._take(pod.node, pod.requests)
            if pod.owner is not None:
                self._pods_of[pod.owner].append(pod)

    def room(
        self,
        pool: PoolId,
        demand: ReplicaDemand,
        *,
        node_selector: Labels = (),
        tolerated: Sequence[Toleration] | None = None,
    ) -> Room:
        """Replicas of `demand` that the pool has room for; `tolerated` None: the caller looked at taints."""
        if pool not in self._pools:
            return NO_ROOM
        question = (demand, tuple(node_selector), None if tolerated is None else tuple(tolerated))
        known = self._known[pool]
        if question not in known:
            known[question] = self._count(self._pools[pool], demand, node_selector, tolerated)
        return known[question]

    def limit(self, pool: PoolId, demand: ReplicaDemand, *, node_selector: Labels = ()) -> str:
        """The resource of the host that keeps more replicas from fitting now; empty where accelerators do.

        For a message only, so it is not found with every question for room.
        """
        wanted = _wanted(demand)
        nodes = self._pools[pool].nodes if pool in self._pools else ()
        return _limit(
            [self._free[node.name] for node in nodes if _is_open(node, node_selector, None)], wanted
        )

    def held(self, pool: PoolId, *, node_selector: Labels = ()) -> str:
        """Why no node of the pool takes pods now; empty where one does. For a message, as `limit` is."""
        nodes = self._pools[pool].nodes if pool in self._pools else ()
        if any(_is_open(node, node_selector, None) for node in nodes):
            return ""
        meant = (node for node in nodes if not node_selector or has_labels(node.labels, node_selector))
        return " or ".join(sorted({node.held_back for node in meant if node.held_back}))

    def claim(self, claims: Iterable[Claim]) -> None:
        """Put claims down, the largest first. What fits nowhere claims nothing: it holds nobody up."""
        for claim in sorted(claims, key=lambda claim: (-claim.demand.accelerators, claim.key)):
            wanted = _wanted(claim.demand)
            for _ in range(claim.replicas):
                if not self._claim_one(claim, wanted):
                    break

    def bound(self, owner: tuple[str, str], pool: PoolId, demand: ReplicaDemand) -> int:
        """Replicas of a plan that are bound already: pods of its size on nodes of the pool's name.

        By name and not by shape: a node that loses a GPU changes its shape, its pods stay replicas.
        """
        return sum(
            1
            for pod in self._pods_of.get(owner, ())
            if not pod.leaving
            and pod.requests.get(demand.resource_name, 0) == demand.accelerators
            and any(_same_group(pool, other) for other in self._pools_of_node.get(pod.node, ()))
        )

    def pods_of(self, owner: tuple[str, str]) -> Sequence[PodRecord]:
        """The owner's bound pods."""
        return tuple(self._pods_of.get(owner, ()))

    def has_pods(self, owner: tuple[str, str]) -> bool:
        """Whether any pod of the owner is bound."""
        return bool(self._pods_of.get(owner))

    def release(self, owner: tuple[str, str]) -> None:
        """Count the owner's pods as free: a plan that is made anew replaces them."""
        for pod in self._pods_of.get(owner, ()):
            self._take(pod.node, pod.requests, sign=-1)

    def retake(self, owner: tuple[str, str]) -> None:
        """Undo `release`."""
        for pod in self._pods_of.get(owner, ()):
            self._take(pod.node, pod.requests)

    def _count(
        self,
        pool: Pool,
        demand: ReplicaDemand,
        node_selector: Labels,
        tolerated: Sequence[Toleration] | None,
    ) -> Room:
        wanted = _wanted(demand)
        open_nodes = (node for node in pool.nodes if _is_open(node, node_selector, tolerated))
        now = sum(_fits(self._free[node.name], wanted) for node in open_nodes)
        later = self._later(pool, wanted) if brings(pool, node_selector) else 0
        return Room(now=now, after_scale_up=now + later)

    def _later(self, pool: Pool, wanted: Mapping[str, int]) -> int:
        if pool.growth is None:
            return 0
        opened = sum(_fits(free, wanted) for free in self._new_nodes[pool.shape.id])
        return opened + self._nodes_to_come(pool.shape.id, pool.growth) * _fits(
            pool.growth.allocatable, wanted
        )

    def _nodes_to_come(self, pool: PoolId, growth: NewNode) -> int:
        left = self._left.get(_group(pool))
        more = self._more[pool]
        return more if left is None else min(more, nodes_within(left, growth.allocatable))

    def _claim_one(self, claim: Claim, wanted: Mapping[str, int]) -> bool:
        pool = self._pools.get(claim.pool)
        if pool is None:
            return False
        resource = claim.demand.resource_name
        open_nodes = [
            node.name
            for node in pool.nodes
            if _is_open(node, claim.node_selector, None) and _fits(self._free[node.name], wanted)
        ]
        if open_nodes:
            best = min(open_nodes, key=lambda name: (-self._free[name].get(resource, 0), name))
            self._take(best, wanted)
            return True
        return self._claim_new(pool, wanted)

    def _claim_new(self, pool: Pool, wanted: Mapping[str, int]) -> bool:
        """On a node that the pool has yet to bring, on one begun before if it fits there."""
        id_ = pool.shape.id
        free = next((free for free in self._new_nodes[id_] if _fits(free, wanted)), None)
        if free is None:
            growth = pool.growth
            if (
                growth is None
                or not self._nodes_to_come(id_, growth)
                or not _fits(growth.allocatable, wanted)
            ):
                return False
            free = dict(growth.allocatable)
            self._new_nodes[id_].append(free)
            self._begin(id_, growth)
        _subtract(free, wanted, sign=1)
        self._known.pop(id_, None)
        return True

    def _begin(self, pool: PoolId, growth: NewNode) -> None:
        """One node more is spoken for: of the shape, and of what all shapes of its group share."""
        self._more[pool] -= 1
        left = self._left.get(_group(pool))
        if left is None:
            return
        _subtract(left, {**growth.allocatable, "nodes": 1}, sign=1)
        for other in self._pools:
            if _group(other) == _group(pool):
                self._known.pop(other, None)

    def _take(self, node: str, wanted: Mapping[str, int], *, sign: int = 1) -> None:
        free = self._free.get(node)
        if free is None:  # a node without accelerators: none of our business
            return
        _subtract(free, wanted, sign=sign)
        for pool in self._pools_of_node[node]:
            self._known.pop(pool, None)


def _wanted(demand: ReplicaDemand) -> dict[str, int]:
    amounts = {
        demand.resource_name: demand.accelerators,
        "cpu": demand.cpu_millis,
        "memory": demand.memory_bytes,
        "ephemeral-storage": demand.ephemeral_bytes,
        "pods": 1,
    }
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _fits(free: Mapping[str, int], wanted: Mapping[str, int]) -> int:
    """Replicas that fit into what is free. Of the host, what a listing does not print is no limit."""
    limits = [free.get(name, 0) // amount for name, amount in wanted.items() if name in free or "/" in name]
    return max(0, min(limits))


def _limit(nodes: Sequence[Mapping[str, int]], wanted: Mapping[str, int]) -> str:
    """The scarcest resource of the host on most of the nodes whose accelerators would hold more."""
    scarcest = Counter(
        min(
            (name for name in wanted if name in free or "/" in name),
            key=lambda name: (free.get(name, 0) // wanted[name], "/" not in name, name),
        )
        for free in nodes
    )
    host = sorted((-count, name) for name, count in scarcest.items() if "/" not in name)
    return host[0][1] if host else ""


def _subtract(free: dict[str, int], wanted: Mapping[str, int], *, sign: int) -> None:
    for name, amount in wanted.items():
        if name in free:
            free[name] -= sign * amount


def _is_open(node: NodeRecord, node_selector: Labels, tolerated: Sequence[Toleration] | None) -> bool:
    return (
        node.schedulable
        and (not node_selector or has_labels(node.labels, node_selector))
        and (tolerated is None or not tolerations.untolerated(node.taints, tolerated))
    )


def _group(pool: PoolId) -> tuple[PoolSource, str]:
    return pool.source, pool.name


def _same_group(one: PoolId, other: PoolId) -> bool:
    return (one.source, one.name, one.resource_name) == (other.source, other.name, other.resource_name)
