"""Engines that accept requests and generate nothing: which pod is deleted, when the next may be, when none is. Pure.

Kubernetes does not help here: such an engine answers /health, so it stays behind the Service and takes its share of the
requests; only its deletion takes it out. One at a time, with a pause after each: when that was stands in an annotation
of the Deployment, so the pause outlives the operator. Where more than half are wedged the cause is hardly the engine
(a driver, a node, a request that comes again): deleting them all would end what still serves and mend nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from gemma_operator.api import names
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures import Trouble
from gemma_operator.backends.kubernetes.health import Health
from gemma_operator.backends.kubernetes.snapshot import Child, Replica

_DEPLOYMENT: Final = "Deployment"
_AT: Final = "%Y-%m-%dT%H:%M:%SZ"


def too_many(counted: Health) -> bool:
    """More than half of several. A single replica is replaced: nothing else would bring it back."""
    return counted.live > 1 and 2 * len(counted.wedged) > counted.live


def next_one(counted: Health) -> Replica | None:
    """The pod to delete: one of an older generation first, since it is on its way out anyway."""
    outdated = {each.uid for each in counted.outdated}
    return min(counted.wedged, key=lambda each: (each.uid not in outdated, each.name), default=None)


def replaced_at(children: Sequence[Child]) -> str:
    """When one was deleted last; empty where none was."""
    for child in children:
        if child.kind == _DEPLOYMENT:
            return child.annotations.get(names.WEDGED_REPLACED_AT, "")
    return ""


def youngest(replicas: Sequence[Replica]) -> str:
    """When the last pod was made."""
    return max((each.times.made or each.started_at for each in replicas), default="")


def written(now: datetime) -> str:
    """A moment as the annotation has it."""
    return now.strftime(_AT)


def pause_seconds(
    counted: Health, last: str, *, now: datetime, pause_seconds: float, startup_budget_seconds: float
) -> float:
    """How long the next one has to wait, 0 or less: no longer.

    While the successor of the last one may still be starting there is no second one out of service.
    """
    if not last:
        return 0.0
    starting = any(not (each.started or each.ready) for each in (*counted.current, *counted.outdated))
    pause = max(pause_seconds, startup_budget_seconds) if starting else pause_seconds
    return pause - (now - datetime.fromisoformat(last)).total_seconds()


def trouble(counted: Health) -> Trouble | None:
    """What is said of them; by name and not by count of requests, which moves."""
    if not counted.wedged:
        return None
    pods = [each.name for each in counted.wedged]
    if too_many(counted):
        return Trouble(
            Reason.WEDGED,
            f"{len(pods)} of {counted.live} replicas accept requests and generate nothing ({', '.join(pods[:3])}), "
            "more than half, so none is deleted: see `kubectl logs` of one and its node's GPUs, then "
            f"`kubectl delete pod {pods[0]}`",
            final=True,
        )
    return Trouble(
        Reason.WEDGED,
        f"pod {pods[0]} accepts requests and generates nothing; it is deleted so that another takes its place, one "
        f"at a time; see `kubectl logs {pods[0]}`",
        final=False,
    )


def deleted(replica: Replica) -> str:
    """The Event."""
    return (
        f"pod {replica.name} accepted requests and generated nothing, though it answered /health: it is deleted, and "
        "its Deployment makes another"
    )
