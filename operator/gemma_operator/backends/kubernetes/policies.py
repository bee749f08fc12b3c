"""What is decided about a placed deployment in the cluster, read from top to bottom.

Each policy is one small rule and knows no other; the first that has something to say decides, and
`settled` always does. What two of them need is a property of the view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from gemma_operator.api import conditions, names
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.decision import Ask, Decision, Event, Manifest, ObjectRef, soonest
from gemma_operator.backends.kubernetes import (
    another_renderer,
    asking,
    contested,
    requested,
    rollout,
    speech,
    standing,
    unmade_jobs,
    wedged,
)
from gemma_operator.backends.kubernetes.rollout import Rollout, Way, Why
from gemma_operator.backends.kubernetes.snapshot import Child, Owner
from gemma_operator.backends.kubernetes.view import (
    View,
    noting_a_wedged_one,
    owner_of,
    rolled_by,
)

Policy = Callable[[View, datetime], Decision | None]

#: A foreign object gives no event when it goes: it is not ours to watch.
_LOOK_FOR_FOREIGN_SECONDS = 30.0
_LOOK_FOR_COLLECTOR_SECONDS = 2.0
#: A repair that admission undoes within the same request changes nothing, so no event tells of it.
_LOOK_AT_REPAIR_SECONDS = 1.0
#: As many as a quarantine is told by, and one.
KEPT_REFUSED = 3
#: So many are deleted in one look; the deletions themselves bring the next.
MOST_CLEARED = 10


def foreign_child(view: View, now: datetime) -> Decision | None:
    """A child that is not ours is never taken over; the user renames one of the two."""
    foreign = [
        child for child in view.snapshot.children if owner_of(child, view.snapshot) is Owner.SOMEBODY_ELSE
    ]
    if not foreign:
        return None
    message = _conflict(foreign[0])
    return Decision(
        policy="foreign_child",
        conditions=(
            conditions.not_ready(Reason.CONFLICT, message),
            *(said for said in speech.everything(view) if said.type in ("Planned", "Healthy")),
            conditions.not_provisioned(Reason.CONFLICT, message),
            conditions.stalled(Reason.CONFLICT, message),
        ),
        status=speech.kept(view.snapshot),
        look_again_after_seconds=_LOOK_FOR_FOREIGN_SECONDS,
    )


def _conflict(child: Child) -> str:
    if child.controller_name:
        owner = f"belongs to {child.controller_kind} {child.controller_name}"
    else:
        owner = f"was made by {', '.join(child.managers)}" if child.managers else "is not ours"
    return f"{child.kind} {child.name} {owner}: delete it, or give this GemmaDeployment another name"


def dying_child(view: View, now: datetime) -> Decision | None:
    """A namesake's children whose owner is gone: the garbage collector has not come by yet."""
    dying = [
        child
        for child in view.snapshot.children
        if owner_of(child, view.snapshot) is Owner.DYING or (child.terminating and not child.controller_uid)
    ]
    if not dying:
        return None
    message = f"{dying[0].kind} {dying[0].name} of an earlier object of this name is being removed"
    return Decision(
        policy="dying_child",
        conditions=(
            conditions.not_ready(Reason.PROVISIONING, message),
            *(said for said in speech.everything(view) if said.type in ("Planned", "Healthy")),
            conditions.not_provisioned(Reason.PROVISIONING, message),
            conditions.reconciling(Reason.PROVISIONING, message),
        ),
        status=speech.kept(view.snapshot),
        look_again_after_seconds=_LOOK_FOR_COLLECTOR_SECONDS,
    )


def adopt_or_scale(view: View, now: datetime) -> Decision | None:
    """What another version rendered lost its owner, or is to have another number of replicas: its template stays."""
    child = another_renderer.left_alone(view)
    part = another_renderer.part_due(view, child) if child is not None else None
    if child is None or part is None:
        return None
    return replace(
        _left_alone(view, child),
        policy="adopt_or_scale",
        apply=another_renderer.siblings_due(view),
        merge=(part,),
        delete=another_renderer.budget_removed(view),
    )


def update_available(view: View, now: datetime) -> Decision | None:
    """Another version of the operator rendered this: an upgrade restarts no engine by itself."""
    child = another_renderer.left_alone(view)
    if child is None:
        return None
    decision = _left_alone(view, child)
    if decision.status is None:
        return decision
    # the Deployment is left alone, so the youngest pod tells when one was deleted last
    return _less_a_wedged_one(decision, view, last=wedged.youngest(view.snapshot.replicas), now=now)


def _left_alone(view: View, child: Child) -> Decision:
    """How it is, counted against its own template; nothing of it before the replicas were asked."""
    snapshot, stands = view.snapshot, another_renderer.as_it_stands(view, child)
    if asking.is_asking(stands):
        return Decision(
            policy="update_available", look_again_after_seconds=snapshot.settings.probe_period_seconds
        )
    planned = (
        f"rendered by renderer {another_renderer.version(child)}; the next change of the spec takes the new form, or "
        f"set {names.REFRESH_REQUESTED_AT}"
    )
    said = [each for each in speech.everything(stands) if each.type != "Planned"]
    return Decision(
        policy="update_available",
        conditions=(*said, conditions.planned(planned, reason=Reason.UPDATE_AVAILABLE)),
        status=speech.status(stands),
    )


def look_for_room(view: View, now: datetime) -> Decision | None:
    """A rollout is about to begin, and which way depends on room: looked at now, and never at rest."""
    return Decision(policy="look_for_room", ask=Ask.ROOM) if view.rollout is None else None


def announce_gap(view: View, now: datetime) -> Decision | None:
    """Nothing will answer while the only replica is replaced: that is said before it is drained."""
    snapshot, way = view.snapshot, view.rollout
    alone = view.wanted == 1 and way is not None and way.way is Way.REPLACE
    if not alone or not rollout.begins(snapshot, intent=view.intent):
        return None
    if not view.health.answering:  # or nobody knows yet whether it answers
        return Decision(policy="announce_gap") if asking.is_asking(view) else None
    said = speech.everything(view)
    if standing.stands(said, snapshot):
        return None
    # the status that is written brings the next look; what was asked for is done by that one, and not by saying so
    status = requested.not_handled(speech.status(view), snapshot)
    return Decision(policy="announce_gap", conditions=said, status=status)


def fall_back(view: View, now: datetime) -> Decision | None:
    """The room of a surge went to somebody else: drain a replica rather than wait for ever."""
    due = view.falls_back_at
    if due is None or now < due:
        return None
    drained = rolled_by(view, Rollout(Way.REPLACE, Why.TAKEN))
    return Decision(
        policy="fall_back",
        apply=drained.pending,
        conditions=speech.everything(drained),
        status=speech.status(drained),
    )


def replace_wedged(view: View, now: datetime) -> Decision | None:
    """An engine that accepts requests and generates nothing: its pod is deleted, one at a time."""
    if not view.health.wedged:
        return None
    said = Decision(policy="replace_wedged", conditions=speech.everything(view), status=speech.status(view))
    noted = noting_a_wedged_one(view, wedged.written(now)).pending
    return _less_a_wedged_one(
        said, view, last=wedged.replaced_at(view.snapshot.children), now=now, noted=noted
    )


def _less_a_wedged_one(
    said: Decision, view: View, *, last: str, now: datetime, noted: tuple[Manifest, ...] = ()
) -> Decision:
    """The same decision, and a wedged pod deleted, unless more than half are or the last one was just now."""
    chosen = wedged.next_one(view.health)
    if chosen is None or wedged.too_many(view.health):
        return said
    wait_seconds = wedged.pause_seconds(
        view.health,
        last,
        now=now,
        pause_seconds=view.snapshot.settings.wedged_pause_seconds,
        startup_budget_seconds=view.startup_budget_seconds,
    )
    if wait_seconds > 0:
        return replace(said, look_again_after_seconds=wait_seconds)
    return replace(
        said,
        apply=noted,  # before the deletion: an operator that dies between the two deletes none too many
        delete=(ObjectRef("Pod", chosen.name, chosen.uid),),
        events=(Event("Warning", str(Reason.WEDGED), wedged.deleted(chosen)),),
    )


def provision(view: View, now: datetime) -> Decision | None:
    """Children that are missing or not as they were applied are applied; what nothing renders is removed."""
    if not view.pending and not view.surplus:
        return None
    known = {(child.kind, child.name) for child in view.snapshot.children}
    repaired = any((sent["kind"], sent["metadata"]["name"]) in known for sent in view.pending)
    # a restarted operator learns from the answer whether what it said of a contest still holds
    learns = repaired and not view.contested and standing.was_contested(view.snapshot)
    return Decision(
        policy="provision",
        apply=view.pending,
        delete=tuple(ObjectRef(child.kind, child.name, child.uid) for child in view.surplus),
        conditions=() if learns else speech.everything(view),
        status=None if learns else speech.status(view),
        look_again_after_seconds=_LOOK_AT_REPAIR_SECONDS if repaired else None,
    )


def clear_refused(view: View, now: datetime) -> Decision | None:
    """Pods that a node refused pile up, since nobody else removes them: the last few are kept to be looked at."""
    refused = sorted(
        (replica for replica in view.snapshot.replicas if replica.refused and not replica.terminating),
        key=lambda replica: (replica.started_at, replica.name),
    )
    surplus = refused[:-KEPT_REFUSED][:MOST_CLEARED]
    if not surplus:
        return None
    return Decision(
        policy="clear_refused",
        delete=tuple(ObjectRef("Pod", replica.name, replica.uid) for replica in surplus),
        conditions=speech.everything(view),
        status=speech.status(view),
    )


def settled(view: View, now: datetime) -> Decision:
    """Nothing to make: say how it is."""
    due = view.falls_back_at
    return Decision(
        policy="settled",
        conditions=speech.everything(view),
        status=speech.status(view),
        look_again_after_seconds=(due - now).total_seconds() if due is not None else None,
    )


POLICIES: tuple[Policy, ...] = (
    foreign_child,
    dying_child,
    adopt_or_scale,
    update_available,
    look_for_room,
    announce_gap,
    fall_back,
    provision,
    clear_refused,
    replace_wedged,
    settled,
)


def decide(view: View, *, now: datetime) -> Decision:
    """The first policy that has something to say decides; `settled` always does. What it says waits for the asking."""
    decision = next(decision for policy in POLICIES if (decision := policy(view, now)))
    decision = asking.unsaid(decision, view) if asking.is_asking(view) else decision
    tried_again = contested.look_again_seconds(view.contested, view.snapshot)
    asked_again = unmade_jobs.LOOK_AGAIN_SECONDS if unmade_jobs.waiting(view.snapshot) else None
    again = soonest(decision.look_again_after_seconds, tried_again, asked_again)
    return replace(decision, look_again_after_seconds=again)
