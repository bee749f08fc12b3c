"""How one generation follows another: which way, why, and in which words. Pure.

The way is chosen when the pod template changes and stands in an annotation of the Deployment beside the figures that
the Deployment controller obeys, so a restarted operator goes on with it and nothing is written at rest, whatever room
comes and goes. Always RollingUpdate: with either pair of figures that controller (pkg/controller/deployment/rolling.go
of Kubernetes 1.37) counts available pods of all generations against one budget, so edits in quick succession never
take a second replica, and a new replica that never becomes ready keeps the old ones where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.api.scaling import RolloutStrategy
from gemma_operator.backends.kubernetes.snapshot import Child, Replica, Snapshot
from gemma_operator.hardware.pods import OVER
from gemma_operator.planner.values import Plan

_DEPLOYMENT: Final = "Deployment"


class Way(StrEnum):
    """Who comes first."""

    #: One replica more, none fewer: the new one first.
    SURGE = "Surge"
    #: None more, one fewer: the old one goes first.
    REPLACE = "Replace"


class Why(StrEnum):
    """What decided."""

    #: There is nothing to follow yet.
    FIRST = "First"
    ROOM = "Room"
    #: What a drained replica frees is no room for its successor.
    ELSEWHERE = "Elsewhere"
    NO_ROOM = "NoRoom"
    ASKED = "Asked"
    CLAIM = "Claim"
    #: The room of a surge went to somebody else.
    TAKEN = "Taken"


#: Such a choice stands until its rollout ends; what somebody asked for ends with the asking.
_BY_ROOM: Final = frozenset({Why.FIRST, Why.ROOM, Why.ELSEWHERE, Why.NO_ROOM, Why.TAKEN})


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way of the rollout to the template that stands beside it."""

    way: Way
    why: Why

    def __str__(self) -> str:
        return f"{self.way.value}/{self.why.value}"

    @property
    def figures(self) -> dict[str, Any]:
        """As a Deployment's `rollingUpdate` has it. Both are always said."""
        surge = self.way is Way.SURGE
        return {"maxSurge": int(surge), "maxUnavailable": int(not surge)}


FIRST: Final = Rollout(Way.REPLACE, Why.FIRST)


def read(text: str) -> Rollout | None:
    """The annotation; None where it is absent or not ours."""
    way, _, why = text.partition("/")
    try:
        return Rollout(Way(way), Why(why))
    except ValueError:
        return None


def chosen(snapshot: Snapshot, *, intent: str, wanted: int) -> Rollout | None:
    """The way to the template `intent`; None: `snapshot.spare` must be known first."""
    assert snapshot.deployment is not None, "see `view`"
    strategy = snapshot.deployment.spec.rollout.strategy
    # a pod without a node serves nothing: it goes at once, before a node is brought for it in vain
    followed = [each for each in _living(snapshot.replicas) if each.intent != intent and each.node]
    standing = _standing(snapshot.children, intent=intent)
    if standing is None and not (followed and wanted):
        return FIRST
    if standing is not None and (not followed or standing.why in _BY_ROOM):
        # a change of mind counts in the middle of a rollout, and at rest it writes nothing
        return (_asked(strategy, snapshot) or standing) if followed else standing
    return _asked(strategy, snapshot) or _by_room(snapshot, wanted=wanted)


def _asked(strategy: RolloutStrategy, snapshot: Snapshot) -> Rollout | None:
    """What neither room nor anything else can change."""
    if snapshot.claims_forbid_surge:
        return Rollout(Way.REPLACE, Why.CLAIM)
    ways = {RolloutStrategy.SURGE: Way.SURGE, RolloutStrategy.RECREATE: Way.REPLACE}
    return Rollout(ways[strategy], Why.ASKED) if strategy in ways else None


def _by_room(snapshot: Snapshot, *, wanted: int) -> Rollout | None:
    """A surge needs a node for every pod that its first step makes: what is missing, and one."""
    if snapshot.spare is None:
        return None
    if not snapshot.spare.drained_frees_room:
        return Rollout(Way.SURGE, Why.ELSEWHERE)
    bound = sum(1 for each in _living(snapshot.replicas) if each.node)
    if snapshot.spare.replicas >= wanted + 1 - bound:
        return Rollout(Way.SURGE, Why.ROOM)
    return Rollout(Way.REPLACE, Why.NO_ROOM)


def _standing(children: Sequence[Child], *, intent: str) -> Rollout | None:
    found = _deployment(children)
    return read(found.annotations.get(names.ROLLOUT, "")) if found and found.intent == intent else None


def begins(snapshot: Snapshot, *, intent: str) -> bool:
    """The template is about to change under replicas that run."""
    found = _deployment(snapshot.children)
    return found is not None and found.intent != intent and bool(_living(snapshot.replicas))


def surges(children: Sequence[Child], replicas: Sequence[Replica]) -> bool:
    """A surge is under way: one replica more than wanted is claimed until no older one is left."""
    found = _deployment(children)
    way = read(found.annotations.get(names.ROLLOUT, "")) if found is not None else None
    if found is None or way is None or way.way is not Way.SURGE:
        return False
    return any(each.intent != found.intent for each in _living(replicas))


def falls_back_at(
    snapshot: Snapshot, rollout: Rollout, *, intent: str, grace_seconds: float
) -> datetime | None:
    """When a surge whose replica finds no node becomes a drain, since its room went to somebody else.

    Only where room decided for it: who asked for a surge waits, and elsewhere nothing would be freed. While replicas
    leave, the next one waits for what they hold, so nothing is stuck then.
    """
    if rollout != Rollout(Way.SURGE, Why.ROOM) or any(each.terminating for each in snapshot.replicas):
        return None
    living = _living(snapshot.replicas)
    waiting = [
        each.times.made or each.started_at for each in living if each.intent == intent and not each.node
    ]
    if len(waiting) == len(living) or not (since := [*waiting, *_not_made_since(snapshot.children)]):
        return None
    patience = timedelta(seconds=snapshot.settings.surge_patience_seconds + grace_seconds)
    return datetime.fromisoformat(min(since)) + patience


def _not_made_since(children: Sequence[Child]) -> list[str]:
    found = _deployment(children)
    return [
        condition["lastTransitionTime"]
        for condition in (found.status.get("conditions", ()) if found is not None else ())
        if (condition.get("type"), condition.get("status")) == ("ReplicaFailure", "True")
        and condition.get("lastTransitionTime")
    ]


def words(rollout: Rollout, plan: Plan, *, wanted: int) -> str:
    """Which way, and why; where nothing will answer for a while, that and what to do against it."""
    pool = f"{plan.pool.source.value}/{plan.pool.name}"
    if rollout.way is Way.SURGE:
        return {
            Why.ROOM: f"surge: {plan.accelerators_per_replica} spare {plan.accelerator} in pool {pool}",
            Why.ELSEWHERE: f"surge: pool {pool} is another one, so the old replicas serve until the new ones do",
        }.get(
            rollout.why, f"surge: rollout.strategy is Surge, so a new replica waits for room in pool {pool}"
        )
    why = {
        Why.NO_ROOM: f"no spare GPUs in pool {pool}",
        Why.ASKED: "rollout.strategy is Recreate",
        Why.CLAIM: "one node or one pod only may mount its claim",
        Why.TAKEN: f"the spare GPUs in pool {pool} went to somebody else",
    }.get(rollout.why, "nobody said otherwise")
    said = f"one replica is drained before its successor starts: {why}"
    return f"{said}; nothing answers meanwhile: {_against_a_gap(rollout.why)}" if wanted == 1 else said


def _against_a_gap(why: Why) -> str:
    if why is Why.ASKED:
        return "set rollout.strategy to Auto to surge where there is room"
    if why is Why.CLAIM:
        return "use a claim that many nodes may mount to have none"
    return "set rollout.strategy to Surge to wait for room instead, or replicas to 2"


def _living(replicas: Sequence[Replica]) -> list[Replica]:
    return [each for each in replicas if not each.terminating and each.phase not in OVER]


def _deployment(children: Sequence[Child]) -> Child | None:
    return next((child for child in children if child.kind == _DEPLOYMENT), None)
