"""What a rollout has to know of room: whether one replica more fits now, and whether draining one would help at all.

Everybody else's claims are respected, the deployment's own is not: what it claims is room that nobody else has. Its
own pods that are leaving count as gone, for what they hold is free before anything that is decided now could need it.
Pods of a plan that the scheduler can only place elsewhere do not wait for what the old ones hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gemma_operator.hardware.namespaces import NO_RULES, NamespaceRules
from gemma_operator.hardware.records import PodRecord, Pool, PoolId
from gemma_operator.planner.allowance import Allowances
from gemma_operator.planner.placement import PlacedClaim, ledger_of, owner_of


@dataclass(frozen=True, slots=True)
class Spare:
    """Room for a rollout."""

    #: Replicas of the plan that would get a node now, beside all pods that stay.
    replicas: int
    #: A replica that goes frees accelerators of the pool that its successor needs.
    drained_frees_room: bool


def spare(
    own: PlacedClaim,
    *,
    pools: Iterable[Pool],
    pods: Iterable[PodRecord],
    placed: Iterable[PlacedClaim],
    rules: NamespaceRules = NO_RULES,
    quarantined: Collection[tuple[str, str]] = (),
    memory_limited: bool = False,
) -> Spare:
    """For the plan of `own`, which need not stand among `placed` yet."""
    known_pools, owner = tuple(pools), owner_of(own.key)
    staying = [pod for pod in pods if not (pod.leaving and pod.owner == owner)]
    others = [claim for claim in placed if claim.key != own.key]
    ledger = ledger_of(pools=known_pools, pods=staying, placed=others, quarantined=quarantined)
    room = ledger.room(own.pool, own.demand, node_selector=own.node_selector).now
    return Spare(
        replicas=_allowed(own, room, others, rules=rules, memory_limited=memory_limited),
        drained_frees_room=_stands_in(own.pool, known_pools, ledger.pods_of(owner)),
    )


def _allowed(
    own: PlacedClaim,
    room: int,
    others: Sequence[PlacedClaim],
    *,
    rules: NamespaceRules,
    memory_limited: bool,
) -> int:
    """A quota counts the pods that are there already."""
    namespace = own.key[0]
    allowances = Allowances(rules)
    if not room or not allowances.rules(namespace):
        return room
    for claim in others:
        allowances.take(claim.key[0], claim.demand, max(0, claim.replicas - claim.made))
    return allowances.of(namespace, own.demand, memory_limited=memory_limited).of(room)


def _stands_in(pool: PoolId, pools: Sequence[Pool], own: Sequence[PodRecord]) -> bool:
    """By the pool's name and not its shape: a node that loses a GPU changes its shape and keeps its pods."""
    group = (pool.source, pool.name, pool.resource_name)
    nodes = {
        node.name
        for other in pools
        if (other.shape.id.source, other.shape.id.name, other.shape.id.resource_name) == group
        for node in other.nodes
    }
    return any(pod.node in nodes and pod.requests.get(pool.resource_name) for pod in own)
