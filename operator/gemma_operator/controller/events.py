"""Which changes are worth an Event: Ready, the choice, and a prediction that a measurement belies.

Each is told once, when the status is about to say it for the first time, and none at rest: what stands in the
status is the memory of what was said. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gemma_operator.api.conditions import Condition, Reason
from gemma_operator.backends.decision import Event, StatusFields
from gemma_operator.backends.kubernetes import standing
from gemma_operator.backends.kubernetes.snapshot import Snapshot
from gemma_operator.planner import correction, left, prediction

#: Members of status.plan that are settings, in words.
_SETTINGS: Final = {
    "contextLength": "tokens of context",
    "maxSequences": "sequences",
    "maxBatchedTokens": "batched tokens",
    "kvCachePrecision": "KV cache",
}
ARROW: Final = "\u2192"


def of(snapshot: Snapshot, said: tuple[Condition, ...], status: StatusFields | None) -> tuple[Event, ...]:
    """The Events of a decision, at most one of a reason."""
    return (*_ready(snapshot, said), *_replanned(snapshot, status), *_prediction_off(snapshot, status))


def _ready(snapshot: Snapshot, said: tuple[Condition, ...]) -> Iterator[Event]:
    """When Ready or its reason changes; a status that is only completed gives none."""
    ready = next((condition for condition in said if condition.type == "Ready"), None)
    said_before = snapshot.status.get("conditions", ())
    before: Mapping[str, str] = next((c for c in said_before if c.get("type") == "Ready"), {})
    if ready is None or (ready.status == before.get("status") and ready.reason == before.get("reason")):
        return
    kind = "Normal" if ready.status == "True" or ready.reason in standing.CALM else "Warning"
    yield Event(type=kind, reason=str(ready.reason), message=ready.message)


def _replanned(snapshot: Snapshot, status: StatusFields | None) -> Iterator[Event]:
    """When another choice takes the place of one that stood in the status."""
    old = snapshot.status.get("plan")
    new = status.plan if status is not None else None
    if not old or not new:
        return
    if setback := _setback(snapshot, old):
        reason, why = setback
        yield Event(type="Warning", reason=str(reason), message=f"{why}; now {_choice(new)}")
        return
    if _choice(old) != _choice(new):
        yield _event(f"{_choice(old)} {ARROW} {_choice(new)}")
        return
    changed = [
        f"{old.get(member)} {ARROW} {new.get(member)} {words}"
        for member, words in _SETTINGS.items()
        if old.get(member) != new.get(member)
    ]
    if changed:
        yield _event(f"{_choice(new)}: {', '.join(changed)}")


def _setback(snapshot: Snapshot, old: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Why a plan of the same inputs was left: its pool brought no node, or its engine refused to start."""
    plan, pool = snapshot.current_plan, old.get("pool") or {}
    if plan is None or plan.inputs_hash != old.get("inputsHash"):
        return None
    if plan.correction_mib != old.get("correctionMiB", 0):
        return Reason.REPLANNED, correction.words(plan.correction_mib)
    last = plan.left[-1:]
    if last and (last[0].pool.name, last[0].pool.shape) == (pool.get("name"), pool.get("shape")):
        return Reason.CAPACITY_TIMEOUT, left.words(last[0])
    return None


def _event(message: str) -> Event:
    return Event(type="Normal", reason=str(Reason.REPLANNED), message=message)


def _choice(plan: Mapping[str, Any]) -> str:
    pool, repo = plan.get("pool") or {}, (plan.get("checkpoint") or {}).get("repo")
    return (
        f"{plan.get('variant')} {plan.get('precision')} ({repo}) on {plan.get('acceleratorsPerReplica')} x "
        f"{plan.get('accelerator')} of {pool.get('source')}/{pool.get('name')}"
    )


def _prediction_off(snapshot: Snapshot, status: StatusFields | None) -> Iterator[Event]:
    """When a measurement is off that was not, or was not there, before."""
    plan = snapshot.current_plan
    if plan is None or status is None:
        return
    apart = prediction.off(plan, status.measured)
    if apart and not prediction.off(plan, snapshot.status.get("measured")):
        yield Event(type="Warning", reason=str(Reason.PREDICTION_OFF), message=apart)
