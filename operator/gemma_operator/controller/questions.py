"""What placement is asked, and how its answer tells what the plan before it went through. Pure.

A plan teaches the next one for the same inputs: pools that brought no node in time, memory that an engine measured.
Both stand in the plan, so a restarted operator asks the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.snapshot import Key, Snapshot
from gemma_operator.planner import correction, explain, remarks
from gemma_operator.planner.alternatives import Alternative
from gemma_operator.planner.left import Leaving
from gemma_operator.planner.left import words as left_words
from gemma_operator.planner.placement import PlacedClaim
from gemma_operator.planner.values import Code, LeftPool, Plan, Request
from gemma_operator.planner.words import shortened


@dataclass(frozen=True, slots=True)
class Question:
    """One deployment that has no plan for its inputs."""

    key: Key
    uid: str
    created_at: str
    #: 0 while suspended: planned and shown, nothing claimed.
    replicas: int
    request: Request
    inputs_hash: str
    unverified: tuple[str, ...]
    token: str
    #: When the newest plan that is known was made; the next one is later, whatever this machine's clock says.
    after: str = ""
    #: What its plan for the same inputs has learnt: see `planner.left` and `planner.correction`.
    left: tuple[LeftPool, ...] = ()
    correction_mib: int = 0
    #: The plan whose engine refused to start.
    refused: Plan | None = None
    #: The pool whose capacity wait is over, and what is claimed there until another is found.
    leaving: Leaving | None = None
    kept: PlacedClaim | None = None


def question_of(snapshot: Snapshot, request: Request) -> Question:
    """What a snapshot asks, with what its plan for the same inputs has learnt.

    A user who asks for a plan wants every pool to be tried again; what an engine measured stays measured.
    """
    assert snapshot.deployment is not None
    spec = snapshot.deployment.spec
    question = Question(
        key=snapshot.key,
        uid=snapshot.uid,
        created_at=snapshot.created_at,
        replicas=0 if spec.suspend else spec.replicas,
        request=request,
        inputs_hash=snapshot.inputs_hash,
        unverified=snapshot.unknown_arguments,
        token=snapshot.ask_token,
        after=_newest(snapshot),
    )
    plan = snapshot.plan
    if plan is None or plan.inputs_hash != snapshot.inputs_hash:
        return question
    asked_for = snapshot.newly_requested("replan")
    question = replace(question, left=() if asked_for else plan.left, correction_mib=plan.correction_mib)
    if snapshot.refusal is not None:
        measured = correction.correction_mib(plan, snapshot.refusal)
        return replace(question, correction_mib=measured, refused=plan)
    if not snapshot.wait_over:
        return question
    claim = PlacedClaim(
        key=(snapshot.key.namespace, snapshot.key.name),
        pool=plan.pool,
        demand=plan.demand,
        replicas=question.replicas,
        node_selector=request.node_selector,
    )
    after_seconds = spec.placement.capacity_timeout_seconds
    return replace(question, leaving=Leaving(plan.pool, after_seconds), kept=claim)


def moment(question: Question, *, now_iso: str) -> str:
    """When its plan is made. Of two plans the later is the newer, and this clock may be behind the last leader's."""
    if now_iso > question.after:
        return now_iso
    try:
        later = datetime.fromisoformat(question.after) + timedelta(seconds=1)
        return later.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return now_iso  # a hand wrote it


def _newest(snapshot: Snapshot) -> str:
    said = str((snapshot.status.get("plan") or {}).get("plannedAt", ""))
    return max(said, snapshot.plan.planned_at if snapshot.plan is not None else "")


def told(plan: Plan) -> Plan:
    """With what it went through in its reason."""
    said = remarks.of(plan)
    reason = shortened(f"{plan.reason}; {said}", explain.MAX_REASON) if said else plan.reason
    return replace(plan, reason=reason)


def as_left(other: Alternative, pools: Iterable[LeftPool]) -> Alternative:
    """A candidate that has no room because its pool was left says so."""
    found = next((each for each in pools if f"{each.pool.source.value}/{each.pool.name}" == other.pool), None)
    if found is None or other.code != Code.NO_ROOM.value:
        return other
    return replace(other, code=Reason.CAPACITY_TIMEOUT.value, message=f"fits; {left_words(found)}")
