"""Many deployments placed at once: in the order of their creation, each seeing what those before it claim.

Pure: given the fleet, the bound pods, what is placed and who asks, the answer is the same whatever the
order of the arguments, so a restart in the middle of a burst goes on where it stood: what was placed comes
back as a claim, and who was not asks again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gemma_operator.api.names import child_name
from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware.namespaces import NO_RULES, NamespaceRules
from gemma_operator.hardware.records import PodRecord, Pool, PoolId
from gemma_operator.planner.allowance import Allowance, Allowances
from gemma_operator.planner.choice import Choice, PriceOf, Ranking, choose, rank
from gemma_operator.planner.demand import demand
from gemma_operator.planner.left import Leaving, noted, room_beside
from gemma_operator.planner.room import NO_ROOM, Claim, Ledger, Room
from gemma_operator.planner.values import Feasible, Fit, LeftPool, ReplicaDemand, Request
from gemma_operator.planner.worth import node_price_share

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class PlacedClaim:
    """A deployment with a plan: what it wants in all, bound pods included."""

    key: Key
    pool: PoolId
    demand: ReplicaDemand
    replicas: int
    node_selector: tuple[tuple[str, str], ...] = ()
    #: Pods that exist, bound or not: a quota counts them already.
    made: int = 0
    #: Of these, pods held by a scheduling gate (Kueue): they claim nothing until it opens.
    gated: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A deployment without a plan, or with one to leave. `created_at` is its creationTimestamp, as RFC 3339 sorts."""

    key: Key
    uid: str
    created_at: str
    replicas: int
    request: Request
    feasible: Feasible
    #: Pools that brought it no node before.
    left: tuple[LeftPool, ...] = ()
    #: The pool of its plan, where its capacity wait is over; it stays on `kept` unless another has room.
    leaving: Leaving | None = None
    kept: PlacedClaim | None = None

    @property
    def alike(self) -> bool:
        """Whether who asks the same has the same answer."""
        return not self.left and self.leaving is None


def place_all(
    asking: Sequence[Ask],
    *,
    pools: Iterable[Pool],
    pods: Iterable[PodRecord],
    placed: Iterable[PlacedClaim],
    catalog: Catalog,
    price: PriceOf = node_price_share,
    rules: NamespaceRules = NO_RULES,
    quarantined: Collection[tuple[str, str]] = (),
) -> Mapping[Key, Choice]:
    """A choice for each that asks. Who asks again with pods of an older plan has their room too."""
    known = list(placed)
    ledger = ledger_of(pools=pools, pods=pods, placed=known, quarantined=quarantined)
    allowances = Allowances(rules)
    for claim in known:
        allowances.take(claim.key[0], claim.demand, max(0, claim.replicas - claim.made))
    questions: dict[tuple[int, Request], _Question] = {}
    choices: dict[Key, Choice] = {}
    for ask in sorted(asking, key=lambda ask: (ask.created_at, ask.uid)):
        same = (id(ask.feasible), ask.request)
        if same not in questions:
            ranking = rank(ask.feasible, request=ask.request, catalog=catalog, price=price)
            questions[same] = _Question(ask.request, ranking, catalog, {}, {})
        choices[ask.key] = _answer(ask, questions[same], ledger, allowances)
    return choices


@dataclass(frozen=True, slots=True)
class _Question:
    """What equal requests share: their ranking, what a replica of each candidate takes, and who has to wait."""

    request: Request
    ranking: Ranking
    catalog: Catalog
    demands: dict[int, ReplicaDemand]
    #: By replicas: the answer of one that found no room. Room only shrinks in a step, so who asks the same
    #: after it finds none either; a thousand that wait cost no more than one.
    waiting: dict[int, Choice]

    def demand(self, fit: Fit) -> ReplicaDemand:
        """What one replica takes; a burst asks for the same few thousand times."""
        found = self.demands.get(id(fit))
        if found is None:
            found = self.demands[id(fit)] = demand(self.request, fit, self.catalog)
        return found


def ledger_of(
    *,
    pools: Iterable[Pool],
    pods: Iterable[PodRecord],
    placed: Iterable[PlacedClaim],
    quarantined: Collection[tuple[str, str]] = (),
) -> Ledger:
    """What is free once every placed deployment has got its pods."""
    ledger = Ledger(pools, pods, quarantined=quarantined)
    ledger.claim([_outstanding(claim, ledger) for claim in placed])
    return ledger


def _answer(ask: Ask, question: _Question, ledger: Ledger, allowances: Allowances) -> Choice:
    if ledger.has_pods(owner_of(ask.key)) or not ask.alike:  # its own pods are room that nobody else has
        return _place(ask, question, ledger, allowances)
    known = question.waiting.get(ask.replicas)
    if known is None:
        known = _place(ask, question, ledger, allowances)
        if not known.placed:
            question.waiting[ask.replicas] = known
    return known


def _place(ask: Ask, question: _Question, ledger: Ledger, allowances: Allowances) -> Choice:
    """With its own pods counted as free: a plan made anew replaces them."""
    (namespace, _), owner = ask.key, owner_of(ask.key)
    own = ledger.pods_of(owner)
    ledger.release(owner)
    for pod in own:
        allowances.give_back(namespace, pod.requests)
    choice = _chosen(ask, question, ledger, allowances, first=not own)
    ledger.retake(owner)
    for pod in own:
        allowances.take_back(namespace, pod.requests)
    taken = _claim_of(ask, choice, question)
    if taken is not None:
        ledger.claim([_outstanding(taken, ledger)])
        allowances.take(namespace, taken.demand, max(0, ask.replicas - len(own)))
    elif ask.kept is not None:
        ledger.claim([_outstanding(ask.kept, ledger)])
    return choice


def _chosen(ask: Ask, question: _Question, ledger: Ledger, allowances: Allowances, *, first: bool) -> Choice:
    selector, (namespace, _) = ask.request.node_selector, ask.key
    ruled = allowances.rules(namespace)
    left = ask.left
    if ask.leaving is not None and ask.kept is not None:
        there = ledger.room(ask.leaving.pool, ask.kept.demand, node_selector=selector)
        left = noted(left, ask.leaving, room_now=there.now)

    def room_of_nodes(fit: Fit) -> Room:
        shape = fit.candidate.shape
        if shape is None:
            return NO_ROOM
        return room_beside(
            left, shape.id, ledger.room(shape.id, question.demand(fit), node_selector=selector)
        )

    def allowance(fit: Fit) -> Allowance:
        limited = ask.request.memory_bytes is not None
        return allowances.of(namespace, question.demand(fit), memory_limited=limited, first=first)

    def room(fit: Fit) -> Room:
        found = room_of_nodes(fit)
        if not ruled or not found.after_scale_up:
            return found
        allowed = allowance(fit)
        return Room(now=allowed.of(found.now), after_scale_up=allowed.of(found.after_scale_up))

    choice = replace(
        choose(question.ranking, replicas=ask.replicas, room=room, waited=ask.leaving is not None), left=left
    )
    best = choice.best
    shape = best.member.fit.candidate.shape if best else None
    if best is not None and shape is not None and best.room.now < ask.replicas:
        wanted = question.demand(best.member.fit)
        choice = replace(
            choice,
            limit=ledger.limit(shape.id, wanted, node_selector=selector),
            held=ledger.held(shape.id, node_selector=selector),
        )
        if ruled and best.room != room_of_nodes(best.member.fit):
            choice = replace(choice, barred=allowance(best.member.fit).reason)
    return choice


def _claim_of(ask: Ask, choice: Choice, question: _Question) -> PlacedClaim | None:
    """What a choice that is placed will claim from now on."""
    shape = choice.fit.candidate.shape if choice.fit else None
    if not choice.placed or choice.fit is None or shape is None:
        return None
    return PlacedClaim(
        ask.key, shape.id, question.demand(choice.fit), ask.replicas, ask.request.node_selector
    )


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
        replicas=max(0, claim.replicas - bound - claim.gated),
        node_selector=claim.node_selector,
    )
