"""Many deployments placed at once: in the order of their creation, each seeing what those before it claim.

Pure: given the fleet, the bound pods, what is placed and who asks, the answer is the same whatever the
order of the arguments, so a restart in the middle of a burst goes on where it stood: what was placed comes
back as a claim, and who was not asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gemma_operator.api.names import child_name
from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware.records import PodRecord, Pool, PoolId
from gemma_operator.planner.choice import Choice, PriceOf, Ranking, choose, node_price_share, rank
from gemma_operator.planner.demand import demand
from gemma_operator.planner.room import NO_ROOM, Claim, Ledger, Room
from gemma_operator.planner.values import Feasible, Fit, ReplicaDemand, Request

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """A deployment without a plan. `created_at` is its creationTimestamp, as RFC 3339 in UTC sorts."""

    key: Key
    uid: str
    created_at: str
    replicas: int
    request: Request
    feasible: Feasible


@dataclass(frozen=True, slots=True)
class PlacedClaim:
    """A deployment with a plan: what it wants in all, bound pods included."""

    key: Key
    pool: PoolId
    demand: ReplicaDemand
    replicas: int
    node_selector: tuple[tuple[str, str], ...] = ()


def place_all(
    asking: Sequence[Ask],
    *,
    pools: Iterable[Pool],
    pods: Iterable[PodRecord],
    placed: Iterable[PlacedClaim],
    catalog: Catalog,
    price: PriceOf = node_price_share,
) -> Mapping[Key, Choice]:
    """A choice for each that asks. Who asks again with pods of an older plan has their room too."""
    ledger = ledger_of(pools=pools, pods=pods, placed=placed)
    rankings: dict[tuple[int, Request], Ranking] = {}  # equal requests share their verdicts
    choices: dict[Key, Choice] = {}
    for ask in sorted(asking, key=lambda ask: (ask.created_at, ask.uid)):
        same = (id(ask.feasible), ask.request)
        ranking = rankings.get(same)
        if ranking is None:
            ranking = rank(ask.feasible, request=ask.request, catalog=catalog, price=price)
            rankings[same] = ranking
        choices[ask.key] = _place(ask, ranking, ledger, catalog)
    return choices


def ledger_of(*, pools: Iterable[Pool], pods: Iterable[PodRecord], placed: Iterable[PlacedClaim]) -> Ledger:
    """What is free once every placed deployment has got its pods."""
    ledger = Ledger(pools, pods)
    ledger.claim([_outstanding(claim, ledger) for claim in placed])
    return ledger


def _place(ask: Ask, ranking: Ranking, ledger: Ledger, catalog: Catalog) -> Choice:
    request = ask.request

    def room(fit: Fit) -> Room:
        if fit.candidate.shape is None:
            return NO_ROOM
        wanted = demand(request, fit.candidate, catalog)
        return ledger.room(fit.candidate.shape.id, wanted, node_selector=request.node_selector)

    ledger.release(owner_of(ask.key))
    choice = choose(ranking, replicas=ask.replicas, room=room)
    ledger.retake(owner_of(ask.key))
    if choice.placed and choice.fit is not None and choice.fit.candidate.shape is not None:
        wanted = PlacedClaim(
            key=ask.key,
            pool=choice.fit.candidate.shape.id,
            demand=demand(request, choice.fit.candidate, catalog),
            replicas=ask.replicas,
            node_selector=request.node_selector,
        )
        ledger.claim([_outstanding(wanted, ledger)])
    return choice


def owner_of(key: Key) -> Key:
    """The owner that pods name: children are labelled with the name that children have."""
    namespace, name = key
    return namespace, child_name(name)


def _outstanding(claim: PlacedClaim, ledger: Ledger) -> Claim:
    bound = ledger.bound(owner_of(claim.key), claim.pool, claim.demand)
    return Claim(
        key=claim.key,
        pool=claim.pool,
        demand=claim.demand,
        replicas=max(0, claim.replicas - bound),
        node_selector=claim.node_selector,
    )
