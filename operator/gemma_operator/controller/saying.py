"""What the controller's policies say, where nothing is made: beside what runs on, and without losing what was said.

Pure. What is said of a placed deployment is its backend's business.
"""

from __future__ import annotations

from gemma_operator.api import conditions
from gemma_operator.api.conditions import Condition, Reason
from gemma_operator.backends.decision import Decision, StatusFields
from gemma_operator.backends.kubernetes import speech
from gemma_operator.backends.kubernetes.snapshot import Snapshot
from gemma_operator.planner import alternatives
from gemma_operator.planner.plan import to_status
from gemma_operator.probing.facts import Verdict, serves_users, verdict


def still_healthy(snapshot: Snapshot, why: Condition) -> Condition:
    """Healthy while a proved replica is behind the Service, whatever else is refused; else `why`."""
    served = [snapshot.facts.get(address.pod_uid) for address in snapshot.served if address.ready]
    # a restarted operator has not asked yet: what was said last stands until it has
    unasked = all(verdict(facts) is Verdict.UNKNOWN for facts in served)
    stands = bool(served) and unasked and _was_healthy(snapshot)
    if stands or any(serves_users(facts) for facts in served):
        return conditions.healthy("at least one proved replica is behind the Service")
    return conditions.not_healthy(why.reason, why.message)


def _was_healthy(snapshot: Snapshot) -> bool:
    return any(
        said.get("type") == "Healthy" and said.get("status") == "True"
        for said in snapshot.status.get("conditions", ())
    )


def refused(snapshot: Snapshot, policy: str, reason: Reason, message: str) -> Decision:
    """Nothing is done until the user mends it; what runs goes on and is still watched."""
    not_ready = conditions.not_ready(reason, message)
    return Decision(
        policy=policy,
        conditions=(
            not_ready,
            conditions.not_planned(reason, message),
            conditions.not_provisioned(reason, message),
            still_healthy(snapshot, not_ready),
            conditions.stalled(reason, message),
        ),
        status=speech.kept(snapshot),
    )


def placed_status(snapshot: Snapshot) -> StatusFields:
    """What placement answered, beside what is running still."""
    answer = snapshot.answer
    changes: dict[str, object] = {
        "last_handled_replan_at": snapshot.requested("replan") or snapshot.status.get("lastHandledReplanAt")
    }
    if answer is not None:
        changes["alternatives"] = [alternatives.to_status(alternative) for alternative in answer.alternatives]
    plan = snapshot.current_plan or snapshot.plan
    changes["plan"] = to_status(plan) if plan else None
    return speech.kept(snapshot, **changes)


def said_before(snapshot: Snapshot, *, but: str) -> tuple[Condition, ...]:
    """What the status says already, but of one type and of who is at work."""
    return tuple(
        Condition(
            _TYPES[before["type"]],
            before["status"],
            _REASONS[before["reason"]],
            before.get("message", ""),
        )
        for before in snapshot.status.get("conditions", ())
        if before["type"] not in (but, "Reconciling", "Stalled")
        and before["type"] in _TYPES
        and before["reason"] in _REASONS  # what another version of the operator said may be unknown here
    )


_TYPES = {kind.value: kind for kind in conditions.ConditionType}
_REASONS = {reason.value: reason for reason in Reason}
