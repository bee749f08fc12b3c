"""What is decided before any backend is asked, read from top to bottom.

These rules know no backend: they look at the object, its spec and its placement. Where none of them
speaks, the deployment has a plan and the plan's backend decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from gemma_operator.api import conditions, names
from gemma_operator.api.conditions import Condition, Reason
from gemma_operator.api.parse import not_implemented_fields
from gemma_operator.api.serving import EngineName
from gemma_operator.backends.decision import Ask, Decision, Event, ObjectRef, soonest
from gemma_operator.backends.kubernetes import claims, setbacks, speech
from gemma_operator.backends.kubernetes import policies as kubernetes
from gemma_operator.backends.kubernetes.snapshot import Owner, Placement, Snapshot
from gemma_operator.backends.kubernetes.view import owner_of, view
from gemma_operator.controller import events, saying
from gemma_operator.engines.base import Engine
from gemma_operator.engines.registry import ENGINES
from gemma_operator.planner import correction

Policy = Callable[[Snapshot, datetime], Decision | None]


def being_deleted(snapshot: Snapshot, now: datetime) -> Decision | None:
    """Everything in the cluster goes with its owner, and no finalizer is ours; it stays while others keep it."""
    if not snapshot.terminating:
        return None
    if not snapshot.finalizers:
        return Decision(policy="being_deleted")
    keepers = ", ".join(snapshot.finalizers)
    message = f"it is being deleted, and what it owns goes with it; finalizers of others keep it: {keepers}"
    ready = conditions.not_ready(Reason.DELETING, message)
    return Decision(
        policy="being_deleted",
        conditions=(
            *saying.said_before(snapshot, but="Ready"),
            ready,
            saying.still_healthy(snapshot, ready),
            conditions.reconciling(Reason.DELETING, message),
        ),
        status=speech.kept(snapshot),
    )


def hands_off(snapshot: Snapshot, now: datetime) -> Decision | None:
    """The user said so: object and children are left alone, and the status says that they are."""
    if snapshot.annotations.get(names.RECONCILE) != names.RECONCILE_DISABLED:
        return None
    message = (
        f"the annotation {names.RECONCILE}: {names.RECONCILE_DISABLED} stops the operator; remove it to go on"
    )
    before = {condition.get("type"): condition for condition in snapshot.status.get("conditions", ())}
    said = before.get("Ready", {})
    # what was said of an older generation is not said of this one: nobody rolled it out
    status = said.get("status") if said.get("observedGeneration") == snapshot.generation else None
    ready = replace(conditions.ready_unknown(Reason.HANDS_OFF, message), status=status or "Unknown")
    return Decision(
        policy="hands_off",
        conditions=(ready, *saying.said_before(snapshot, but="Ready")),
        status=speech.kept(snapshot),
    )


def spec_invalid(snapshot: Snapshot, now: datetime) -> Decision | None:
    """A spec that got past an older CRD: a condition, never a crash, and what runs goes on."""
    if snapshot.deployment is not None:
        return None
    return saying.refused(snapshot, "spec_invalid", Reason.INVALID_SPEC, snapshot.spec_error)


def schema_outdated(snapshot: Snapshot, now: datetime) -> Decision | None:
    """The server prunes a field that we would honour: no new plan may ignore it. What runs goes on."""
    if not snapshot.schema_gaps or snapshot.current_plan is not None:
        return None
    message = f"the installed CRD lacks {', '.join(snapshot.schema_gaps[:5])}: apply this operator's CRDs"
    return saying.refused(snapshot, "schema_outdated", Reason.SCHEMA_OUTDATED, message)


def not_implemented(snapshot: Snapshot, now: datetime) -> Decision | None:
    """A field whose part does not exist yet is never ignored."""
    assert snapshot.deployment is not None
    fields = not_implemented_fields(snapshot.deployment.spec)
    if not fields:
        return None
    message = f"not there yet in this version: {', '.join(fields)}; remove it from the spec"
    return saying.refused(snapshot, "not_implemented", Reason.NOT_IMPLEMENTED, message)


def suspended(snapshot: Snapshot, now: datetime) -> Decision | None:
    """Planned and shown, nothing made; on a running one everything is removed and the claim freed."""
    assert snapshot.deployment is not None
    if not snapshot.deployment.spec.suspend:
        return None
    plan = snapshot.current_plan
    if snapshot.answer is None and (plan is None or snapshot.newly_requested("replan")):
        return Decision(policy="suspended", ask=Ask.PLACE)
    removed = tuple(
        ObjectRef(child.kind, child.name, child.uid)
        for child in snapshot.children
        if not child.terminating and owner_of(child, snapshot) in (Owner.OURS, Owner.ORPHAN)
    )
    planned = conditions.planned("planned for the day it is resumed; nothing is claimed")
    runs = "the last replicas finish their requests" if snapshot.replicas else "nothing runs"
    return Decision(
        policy="suspended",
        delete=removed,
        conditions=(
            planned if snapshot.answer is None or plan else _not_planned(snapshot.answer),
            conditions.not_provisioned(Reason.SUSPENDED, f"suspend is true: {runs}"),
            conditions.not_healthy(Reason.SUSPENDED, f"suspend is true: {runs}"),
            conditions.suspended(f"suspend is true: {runs}; set it to false to start"),
        ),
        status=saying.placed_status(snapshot),
    )


def claim_unusable(snapshot: Snapshot, now: datetime) -> Decision | None:
    """A volume that cannot hold, give or share the weights is named before anything is planned or made with it."""
    assert snapshot.deployment is not None
    plan = snapshot.current_plan
    found = claims.trouble(
        snapshot.deployment.spec, snapshot.claims, needed_bytes=plan.weights_on_disk_bytes if plan else 0
    )
    if found is None:
        return None
    refused = saying.refused(snapshot, "claim_unusable", found.reason, found.message)
    if found.final:
        return refused
    waiting = conditions.reconciling(found.reason, found.message)
    return replace(refused, conditions=(*refused.conditions[:-1], waiting))


def engine_unknown(snapshot: Snapshot, now: datetime) -> Decision | None:
    """Another version of the operator chose an engine that this one cannot start or read: what runs is left alone.

    Planned anew only where the user says so: an operator that was put back moves nothing by itself.
    """
    plan, deployment = snapshot.plan, snapshot.deployment
    assert deployment is not None
    if plan is None or plan.engine in ENGINES or snapshot.newly_requested("replan"):
        return None
    if deployment.spec.serving.engine.name is not EngineName.AUTO:
        return None
    message = (
        f"it is planned for engine {plan.engine}, which this version of the operator does not know: run the version "
        f"that planned it, or plan anew by writing one of {', '.join(sorted(ENGINES))} in serving.engine.name"
    )
    return saying.refused(snapshot, "engine_unknown", Reason.NOT_IMPLEMENTED, message)


def unplaced(snapshot: Snapshot, now: datetime) -> Decision | None:
    """Plan first: everything below needs one. Asks placement, or says why there is none; what runs goes on."""
    if snapshot.current_plan is not None and not _wanted_anew(snapshot):
        return None
    answer = snapshot.answer
    if answer is None:
        return Decision(policy="unplaced", ask=Ask.PLACE)
    if answer.plan is not None or snapshot.keeps_its_plan:
        return None
    not_planned = _not_planned(_after_a_plan(snapshot, answer))
    verdict = conditions.reconciling if answer.waiting else conditions.stalled
    return Decision(
        policy="unplaced",
        conditions=(
            conditions.not_ready(not_planned.reason, not_planned.message),
            not_planned,
            saying.still_healthy(snapshot, not_planned),
            conditions.not_provisioned(not_planned.reason, "nothing is made without a plan"),
            verdict(not_planned.reason, not_planned.message),
        ),
        status=saying.placed_status(snapshot),
    )


POLICIES: tuple[Policy, ...] = (
    being_deleted,
    hands_off,
    spec_invalid,
    schema_outdated,
    not_implemented,
    suspended,
    claim_unusable,
    engine_unknown,
    unplaced,
)


def decide(snapshot: Snapshot, *, now: datetime, engine: Engine) -> Decision:
    """The controller's policies first, then those of the plan's backend; conditions carry this generation."""
    decision = next((said for policy in POLICIES if (said := policy(snapshot, now))), None)
    if decision is None:
        plan = snapshot.current_plan
        assert plan is not None, "unplaced lets nothing through without a plan"
        decision = kubernetes.decide(view(snapshot, plan, engine=engine), now=now)
    stamped = conditions.stamp(decision.conditions, generation=snapshot.generation)
    return replace(
        decision,
        conditions=stamped,
        events=_together(decision.events, events.of(snapshot, stamped, decision.status)),
        look_again_after_seconds=soonest(
            decision.look_again_after_seconds, setbacks.waits_seconds(snapshot, now=now)
        ),
    )


def _together(own: tuple[Event, ...], others: tuple[Event, ...]) -> tuple[Event, ...]:
    """What a policy tells comes first, and once."""
    told = {event.reason for event in own}
    return (*own, *(event for event in others if event.reason not in told))


def _wanted_anew(snapshot: Snapshot) -> bool:
    """There is a plan for these inputs, and it has to be made again."""
    return (
        snapshot.newly_requested("replan")
        or not snapshot.plan_possible
        or snapshot.resumes
        or snapshot.wait_over
        or snapshot.refusal is not None
    )


def _after_a_plan(snapshot: Snapshot, answer: Placement) -> Placement:
    """The answer, where it leaves a plan of the same inputs without a successor: that is told first."""
    plan, refusal = snapshot.plan, snapshot.refusal
    if plan is None or plan.inputs_hash != snapshot.inputs_hash or answer.waiting:
        return answer
    if refusal is not None:
        short = correction.words(correction.correction_mib(plan, refusal))
        return replace(answer, reason=refusal.reason, message=f"{short}: {answer.message}")
    if snapshot.plan_possible:
        return answer
    gone = f"pool {plan.pool.source.value}/{plan.pool.name} of the plan is gone"
    return replace(
        answer, reason=Reason.PLAN_IMPOSSIBLE, message=f"{gone}, and no other will do: {answer.message}"
    )


def _not_planned(answer: Placement) -> Condition:
    return conditions.not_planned(answer.reason, answer.message)
