"""Which of the candidates that fit is taken: one total order, and the room that each has.

The order, read from left to right (`KEYS`): what the user prefers comes before what is free, and what is
free before what is cheap. A candidate without room, now or after its pool has grown, is not placed: the
next one of the same backend is, and only where none of them has room the deployment waits, for the best.
The same input gives the same choice, whatever order it comes in.

Two steps, because room changes every second and the rest does not: `rank` sorts candidates by all that is
known of them (done once for equal requests), `choose` asks for the room of those that can still win.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import Enum
from typing import Final

from gemma_operator.catalog.records import Catalog, Price
from gemma_operator.planner.room import Room
from gemma_operator.planner.values import Feasible, Fit, LeftPool, Request
from gemma_operator.planner.worth import headroom_mib, node_price_share

SPOT_REQUIRED: Final = "Required"

#: What decides, in this order; the first five are known without room, `price` stands for accelerators and
#: total memory where not every candidate left has a price in one currency.
KEYS: Final = (
    "backend",
    "variant",
    "context",
    "tight",
    "precision",
    "room",
    "price",
    "spot",
    "headroom",
    "checkpoint",
    "tensorParallel",
    "pool",
)

RoomOf = Callable[[Fit], Room]
PriceOf = Callable[[Fit], Price | None]


class Outcome(Enum):
    """What becomes of the deployment; the first three are placed."""

    ROOM_NOW = "RoomNow"
    SCALE_UP = "ScaleUp"
    PARTLY = "Partly"
    WAITING = "WaitingForCapacity"
    NOTHING_FITS = "NothingFits"


PLACED: Final = frozenset({Outcome.ROOM_NOW, Outcome.SCALE_UP, Outcome.PARTLY})
_OUTCOMES: Final = (Outcome.ROOM_NOW, Outcome.SCALE_UP, Outcome.PARTLY, Outcome.WAITING)


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate in its place. `room` is None where nobody had to ask.

    `lost_by` is the key of `KEYS` by which the chosen one came first, `room` where none was chosen; empty for
    the chosen one itself.
    """

    fit: Fit
    room: Room | None
    lost_by: str
    #: MiB of each GPU that nothing of the request needs.
    headroom_mib: int


@dataclass(frozen=True, slots=True)
class _Member:
    """A fit with its sort keys: what comes after price, and what stands for price where one is missing."""

    fit: Fit
    price: Price | None
    size: tuple[int, int]
    headroom_mib: int
    rest: tuple[bool, int, int, int, tuple[str, ...]]


_GroupKey = tuple[int, int, int, bool, int]


@dataclass(frozen=True, slots=True)
class _Group:
    """Fits that are equal in everything that comes before room."""

    key: _GroupKey
    members: tuple[_Member, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """All candidates that fit, sorted as far as it goes without room."""

    groups: tuple[_Group, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    """A member, and what was found of its room."""

    member: _Member
    group: _Group
    room: Room
    outcome: Outcome
    #: The price, where it was compared; empty where size stood for it.
    cost: tuple[Decimal, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """`fit` is the one taken or, while waiting, the best one that is waited for."""

    outcome: Outcome
    ranking: Ranking
    asked: tuple[_Standing, ...] = ()
    best: _Standing | None = None
    #: How many were asked for.
    replicas: int = 0
    #: The resource of the host (cpu, memory, ephemeral-storage, pods) that leaves `best` short of replicas.
    limit: str = ""
    #: Why no node of `best`'s pool takes pods ("is cordoned"); empty where one does.
    held: str = ""
    #: What the namespace's quotas and limits say against more replicas of `best`; empty where nodes are the limit.
    barred: str = ""
    #: Pools that brought no node in time, that one among them that is left now.
    left: tuple[LeftPool, ...] = ()

    @property
    def fit(self) -> Fit | None:
        """What the plan is made of."""
        return self.best.member.fit if self.best else None

    @property
    def headroom_mib(self) -> int:
        """What `fit` leaves of each GPU."""
        return self.best.member.headroom_mib if self.best else 0

    @property
    def placed(self) -> bool:
        """Whether a plan is made of it and claims its room."""
        return self.outcome in PLACED

    def ranked(self) -> Iterator[Ranked]:
        """All candidates in their order, for whoever shows them; made only as far as it is read."""
        if self.best is None:
            return
        for standing in self.asked:
            lost_by = _lost_by(self.best, standing) if self.placed else "room"
            yield Ranked(standing.member.fit, standing.room, lost_by, standing.member.headroom_mib)
        last = self.asked[-1].group
        for group in self.ranking.groups[self.ranking.groups.index(last) + 1 :]:
            for member in group.members:
                lost_by = _first_difference(self.best.group.key, group.key)
                yield Ranked(member.fit, None, lost_by, member.headroom_mib)


def rank(
    feasible: Feasible, *, request: Request, catalog: Catalog, price: PriceOf = node_price_share
) -> Ranking:
    """Sort what fits by everything but room. Depends on nothing that changes by the second."""
    places = {checkpoint.name: place for place, checkpoint in enumerate(catalog.checkpoints)}
    groups: defaultdict[_GroupKey, list[_Member]] = defaultdict(list)
    key_of = _group_key_of(request)
    for fit in feasible.fits:
        left = headroom_mib(fit, concurrency=request.concurrency)
        rest = _rest(fit, request, places, headroom=left)
        member = _Member(fit=fit, price=price(fit), size=_size(fit), headroom_mib=left, rest=rest)
        groups[key_of(fit)].append(member)
    return Ranking(
        groups=tuple(
            _Group(key=key, members=tuple(sorted(members, key=lambda member: (member.size, member.rest))))
            for key, members in sorted(groups.items(), key=lambda item: item[0])
        )
    )


def choose(ranking: Ranking, *, replicas: int, room: RoomOf, waited: bool = False) -> Choice:
    """The first that has room, in the first backend that has a candidate; once it has `waited`, in any."""
    asked: list[_Standing] = []
    for group in ranking.groups:
        if group.key[0] != ranking.groups[0].key[0] and not waited:
            break
        standings = _standings(group, replicas=replicas, room=room)
        asked += standings
        if standings[0].outcome in PLACED:
            return Choice(standings[0].outcome, ranking, tuple(asked), standings[0], replicas)
    if not asked:
        return Choice(Outcome.NOTHING_FITS, ranking)
    return Choice(Outcome.WAITING, ranking, tuple(asked), asked[0], replicas)


def _group_key_of(request: Request) -> Callable[[Fit], _GroupKey]:
    backends, variants, precisions = (
        {name: place for place, name in enumerate(names)}
        for names in (request.backends, request.variants, request.precisions)
    )
    left_open = request.context_length is None
    return lambda fit: (
        backends[fit.candidate.backend],
        variants[fit.candidate.variant.name],
        -fit.settings.context_length if left_open else 0,
        fit.tight,
        precisions[fit.candidate.precision],
    )


def _size(fit: Fit) -> tuple[int, int]:
    """Accelerators, then their memory in all."""
    shape, count = fit.candidate.shape, fit.candidate.tensor_parallel
    return count, count * ((shape.memory_mib or 0) if shape else 0)


def _rest(
    fit: Fit, request: Request, places: Mapping[str, int], *, headroom: int
) -> tuple[bool, int, int, int, tuple[str, ...]]:
    candidate = fit.candidate
    checkpoint, shape = candidate.checkpoint, candidate.shape
    return (
        bool(shape and shape.spot) and request.spot != SPOT_REQUIRED,
        -headroom,
        places.get(checkpoint.name, len(places)) if checkpoint else len(places),
        candidate.tensor_parallel,
        shape.sort_key if shape else (),
    )


def _standings(group: _Group, *, replicas: int, room: RoomOf) -> list[_Standing]:
    """The group by the room that each has; price is compared among those that have the same."""
    by_outcome: dict[Outcome, list[_Standing]] = {outcome: [] for outcome in _OUTCOMES}
    for member in group.members:
        found = room(member.fit)
        outcome = _outcome(found, replicas)
        by_outcome[outcome].append(_Standing(member, group, found, outcome))
    return [standing for alike in by_outcome.values() for standing in _by_cost(alike)]


def _by_cost(standings: Sequence[_Standing]) -> Sequence[_Standing]:
    """By price where all have one in one currency, else as `rank` left them: by size."""
    if not _priced_alike([standing.member for standing in standings]):
        return standings
    return sorted(
        (replace(standing, cost=(_amount(standing.member),)) for standing in standings),
        key=lambda standing: (standing.cost, standing.member.rest),
    )


def _priced_alike(members: Sequence[_Member]) -> bool:
    currencies = {member.price.currency if member.price else None for member in members}
    return len(currencies) == 1 and None not in currencies


def _amount(member: _Member) -> Decimal:
    return member.price.amount if member.price else Decimal(0)


def _outcome(room: Room, replicas: int) -> Outcome:
    if room.now >= replicas:
        return Outcome.ROOM_NOW
    if room.after_scale_up >= replicas:
        return Outcome.SCALE_UP
    return Outcome.PARTLY if room.after_scale_up > 0 else Outcome.WAITING


def _lost_by(best: _Standing, other: _Standing) -> str:
    """By what `best` came before `other`: by room alone where `other` comes first in all else."""
    if other is best:
        return ""
    if other.outcome is Outcome.WAITING and best.outcome in PLACED:
        return "room"
    if other.group is not best.group:
        return _first_difference(best.group.key, other.group.key)
    if other.outcome is not best.outcome:
        return "room"
    if (best.cost or best.member.size) != (other.cost or other.member.size):
        return "price"
    rest = zip(KEYS[KEYS.index("price") + 1 :], best.member.rest, other.member.rest, strict=True)
    return next(name for name, one, two in rest if one != two)


def _first_difference(one: _GroupKey, other: _GroupKey) -> str:
    return next(name for name, left, right in zip(KEYS, one, other, strict=False) if left != right)
