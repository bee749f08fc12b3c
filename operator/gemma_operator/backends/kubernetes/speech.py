"""What is said of a placed deployment: its conditions and the rest of its status. Pure.

Said by state, never by time or count that changes at rest: the same state gives the same words, so that
nothing is written when nothing changed. Children that are pending are spoken of as applied: the status is
written after them, and not at all where one of them fails. `Ready` is about the endpoint of this generation,
`Healthy` about any proved replica behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gemma_operator.api import conditions, names
from gemma_operator.api.conditions import Condition, ConditionType, Reason
from gemma_operator.backends.decision import StatusFields
from gemma_operator.backends.kubernetes import keyless, rollout, standing, startup_ledger, troubles, wedged
from gemma_operator.backends.kubernetes.failures import Trouble, unhealthy
from gemma_operator.backends.kubernetes.health import (
    failing_starts,
    is_wrong_model,
    out_of_reach,
    probe_trouble,
)
from gemma_operator.backends.kubernetes.requested import handled
from gemma_operator.backends.kubernetes.snapshot import Snapshot
from gemma_operator.backends.kubernetes.view import View
from gemma_operator.planner import alternatives, prediction, remarks
from gemma_operator.planner.plan import to_status
from gemma_operator.probing.facts import counts_as_proved

#: What keeps a replica from getting a node.
_BEFORE_A_NODE: Final = frozenset(
    {
        Reason.UNSCHEDULABLE,
        Reason.SCHEDULING_GATED,
        Reason.QUOTA_EXCEEDED,
        Reason.ADMISSION_DENIED,
        Reason.NODE_REFUSES,
    }
)


def everything(view: View) -> tuple[Condition, ...]:
    """All conditions of a placed deployment that is not suspended."""
    if view.contested and view.contested[0].grave:
        return _contested(view, view.contested[0].trouble)
    found = troubles.of(view) or wedged.trouble(view.health)
    ready = _ready(view, found)
    said = [ready, _planned(view), _provisioned(view, found), *_weights(view), _healthy(view, found)]
    if found is not None and found.final and ready.status != "True":
        said.append(conditions.stalled(found.reason, found.message))
    elif ready.status != "True" or view.health.outdated:
        said.append(conditions.reconciling(*_at_work(view, ready)))
    return tuple(said)


def _contested(view: View, found: Trouble) -> tuple[Condition, ...]:
    """A child is another thing than was wanted: this generation is not what is served, whatever serves."""
    return (
        conditions.not_ready(found.reason, found.message),
        _planned(view),
        conditions.not_provisioned(found.reason, found.message),
        *_weights(view),
        _healthy(view, found),
        conditions.stalled(found.reason, found.message),
    )


def _weights(view: View) -> tuple[Condition, ...]:
    said = view.weights.condition
    return (said,) if said is not None else ()


def _at_work(view: View, ready: Condition) -> tuple[Reason, str]:
    if ready.status != "True":
        return ready.reason, ready.message
    return (
        Reason.ROLLING_OUT,
        f"{len(view.health.outdated)} replicas of an older generation are being replaced",
    )


def _ready(view: View, found: Trouble | None) -> Condition:
    counted = view.health
    if view.wanted == 0:
        if counted.live:
            return conditions.not_ready(Reason.ROLLING_OUT, "the last replicas are being removed")
        return conditions.ready(Reason.IDLE_AT_ZERO, "replicas is 0: nothing runs and nothing is claimed")
    if view.weights.holds:
        return conditions.not_ready(view.weights.reason, view.weights.message)
    if counted.outdated:
        return conditions.not_ready(*_rolling(view, found))
    if counted.keyless:
        return _not_proved(view, found)
    if counted.missing == 0:
        ill = unhealthy(counted.proved)
        served = f"{view.wanted} of {view.wanted} replicas are proved at {view.url}"
        return conditions.ready(Reason.SERVING, f"{served}; {ill.message}" if ill else served)
    if standing.was_ready(view.snapshot) and len(counted.proved) >= max(1, view.wanted - 1):
        why = _not_proved(view, found).message
        return conditions.ready(
            Reason.REPLICAS_MISSING, f"served by {len(counted.proved)} of {view.wanted} replicas: {why}"
        )
    return _not_proved(view, found)


def _rolling(view: View, found: Trouble | None) -> tuple[Reason, str]:
    """Which way, how far, and what holds it up: the pod's name, and that the older generation serves on."""
    counted = view.health
    way = rollout.words(view.rollout or rollout.FIRST, view.plan, wanted=view.wanted)
    said = f"{way}; {_progress(view)}"
    on = keyless.meanwhile(counted)
    if found is not None and found.reason not in _BEFORE_A_NODE:
        return found.reason, f"{on}: {found.message}"
    if failing := failing_starts(view.snapshot, counted.current):
        replica, facts = failing
        assert facts.failure is not None
        return Reason.ROLLING_OUT, (
            f"{said}; pod {replica.name} {facts.failure.kind.value} and is not counted, {on}; "
            f"see `kubectl logs {replica.name}`"
        )
    homeless = next((each for each in counted.current if not each.node), None)
    if homeless is not None and not counted.leaving:
        return Reason.ROLLING_OUT, f"{said}; pod {homeless.name} waits for a node, {on}"
    return Reason.ROLLING_OUT, said


def _not_proved(view: View, found: Trouble | None) -> Condition:
    if found is not None:
        return conditions.not_ready(found.reason, found.message)
    if out_of_reach(view.snapshot, view.health):
        what = f"Kubernetes calls all replicas ready, and the operator cannot connect to them at port {view.port}"
        return conditions.ready_unknown(Reason.NOT_PROBED, f"{what}; {Reason.NOT_PROBED.remedy}")
    if failing := probe_trouble(view.snapshot, view.health.current):
        replica, facts = failing
        assert facts.failure is not None
        reason = Reason.WRONG_MODEL if is_wrong_model(facts) else Reason.PROBE_FAILED
        detail = f": {facts.failure.detail}" if facts.failure.detail else ""
        return conditions.not_ready(
            reason,
            f"pod {replica.name} {facts.failure.kind.value}{detail}; see `kubectl logs {replica.name}`",
        )
    if unready := next((r for r in view.health.current if r.started and not r.ready), None):
        return conditions.not_ready(
            Reason.NO_ENDPOINTS,
            f"pod {unready.name} had started and is not ready any more, so the Service leaves it out: its "
            f"/health does not answer 200; see `kubectl logs {unready.name}`",
        )
    if any(replica.ready and replica not in view.health.proved for replica in view.health.current):
        return conditions.not_ready(*_unseen(view))
    return conditions.not_ready(*_starting(view))


def _starting(view: View) -> tuple[Reason, str]:
    """The phase of the replica that is furthest behind."""
    if view.health.outdated:
        return Reason.STARTING_UP, _progress(view)
    unready = [replica.times for replica in view.health.current if not replica.ready]
    reason, words = startup_ledger.said_of(startup_ledger.furthest_behind(unready))
    return reason, f"{_progress(view)}: {words}"


def _unseen(view: View) -> tuple[Reason, str]:
    facts = view.snapshot.facts
    if any(replica.ready and not counts_as_proved(facts.get(replica.uid)) for replica in view.health.current):
        return Reason.NOT_PROVED, "a ready replica has not generated a token for the operator yet"
    return Reason.NO_ENDPOINTS, f"a proved replica is not yet behind the Service at {view.url}"


def _progress(view: View) -> str:
    if view.health.outdated:
        return f"{len(view.health.proved)} of {view.wanted} replicas of this generation are proved"
    return (
        f"{view.plan.variant} {view.plan.precision} of generation {view.snapshot.generation} is starting on "
        f"{view.plan.pool.source.value}/{view.plan.pool.name}, a replica may take {view.startup_budget_seconds} seconds"
    )


def _planned(view: View) -> Condition:
    plan = view.plan
    devices = "GPU" if plan.accelerators_per_replica == 1 else "GPUs"
    said = (
        f"{plan.variant} {plan.precision} on {plan.accelerators_per_replica} {plan.accelerator} {devices} a replica, "
        f"pool {plan.pool.source.value}/{plan.pool.name}"
    )
    more = (remarks.of(plan), prediction.off(plan, _measured(view)))
    return conditions.planned("; ".join(filter(None, (said, *more))))


def _provisioned(view: View, found: Trouble | None) -> Condition:
    if view.weights.holds:
        return conditions.not_provisioned(
            view.weights.reason, "the pods of this generation are made when its weights are there"
        )
    if view.health.bound < view.wanted:
        if found is not None and found.reason in _BEFORE_A_NODE:
            return conditions.not_provisioned(found.reason, found.message)
        return conditions.not_provisioned(Reason.PROVISIONING, "replicas wait for their nodes")
    remark = "".join(f"; {each.remark}" for each in view.contested)
    return conditions.provisioned(f"all children exist and every replica has its node{remark}")


def _healthy(view: View, found: Trouble | None) -> Condition:
    if view.health.serves_users:
        return conditions.healthy("at least one proved replica is behind the Service")
    shut = keyless.shut(view.snapshot, view.health)
    if view.wanted == 0 and shut is None:
        return conditions.not_healthy(Reason.IDLE_AT_ZERO, "nothing runs")
    why = _not_proved(view, shut or found)
    return replace(why, type=ConditionType.HEALTHY)


def status(view: View) -> StatusFields:
    """The status beside its conditions."""
    counted = view.health
    return StatusFields(
        replicas=counted.live,
        ready_replicas=len(counted.answering),
        selector=selector(view.snapshot),
        plan=to_status(view.plan),
        alternatives=_alternatives(view),
        endpoint={"url": view.url, "model": view.model_name, "api": "OpenAI"},
        measured=_measured(view),
        startup=_startup(view),
        last_handled_replan_at=handled(view, "replan"),
        last_handled_refresh_at=handled(view, "refresh"),
    )


def kept(snapshot: Snapshot, **changes: object) -> StatusFields:
    """The status as it stands, where a decision is not about it: nothing that is said gets lost."""
    old = snapshot.status
    known: dict[str, Any] = {
        "replicas": sum(1 for replica in snapshot.replicas if not replica.terminating),
        "ready_replicas": old.get("readyReplicas", 0),
        "selector": selector(snapshot),
        "plan": old.get("plan"),
        "alternatives": old.get("alternatives", ()),
        "endpoint": old.get("endpoint"),
        "measured": old.get("measured"),
        "startup": old.get("startup", ()),
        "last_handled_replan_at": old.get("lastHandledReplanAt"),
        "last_handled_refresh_at": old.get("lastHandledRefreshAt"),
    }
    return StatusFields(**(known | changes))


def selector(snapshot: Snapshot) -> str:
    """Label selector of the pods, for the scale subresource."""
    return f"{names.DEPLOYMENT_LABEL}={names.child_name(snapshot.key.name)}"


def _alternatives(view: View) -> list[Mapping[str, Any]]:
    answer = view.snapshot.answer
    if answer is not None and answer.plan is not None:
        return [alternatives.to_status(alternative) for alternative in answer.alternatives]
    return list(view.snapshot.status.get("alternatives", ()))


def _measured(view: View) -> Mapping[str, int] | None:
    """The smallest cache that a proved replica measured; kept over a restart of the operator."""
    tokens = [
        facts.measured_kv_tokens
        for replica in view.health.current
        if (facts := view.snapshot.facts.get(replica.uid)) is not None
        and facts.measured_kv_tokens is not None
    ]
    if not tokens:
        return view.snapshot.status.get("measured")
    return {"kvCacheTokens": min(tokens), "predictedKvCacheTokens": view.plan.kv_tokens}


def _startup(view: View) -> Sequence[Mapping[str, Any]]:
    """The slowest replica of the first proof: written once for a generation and a plan, and kept until the next."""
    snapshot = view.snapshot
    said: Sequence[Mapping[str, Any]] = snapshot.status.get("startup", ())
    if said and snapshot.status.get("observedGeneration") == snapshot.generation and not _newly_planned(view):
        return said
    if view.health.missing or not view.health.proved:
        return ()
    slowest = max(view.health.proved, key=lambda each: (startup_ledger.took_seconds(each.times), each.name))
    facts = snapshot.facts.get(slowest.uid)
    found = startup_ledger.phases(
        slowest.times,
        weights=snapshot.weights_times,
        restarts=slowest.restarts,
        first_token_seconds=facts.probe_seconds if facts else None,
    )
    return startup_ledger.to_status(found)


def _newly_planned(view: View) -> bool:
    said: Mapping[str, Any] = view.snapshot.status.get("plan") or {}
    return said.get("plannedAt") != view.plan.planned_at
