"""A Job that gets no pod: unlike a Deployment it says why in Events alone. Pure.

They are asked for only while a Job of ours has no pod, and only those about it: at rest nothing is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.snapshot import Child, Snapshot

#: pkg/controller/controller_utils.go, FailedCreatePodReason, 1.37.
REASON: Final = "FailedCreate"
#: A Job gets its pod within a second, or an Event; more seldom than that there is nothing new.
LOOK_AGAIN_SECONDS: Final = 5.0
_OVER: Final = frozenset({"Complete", "Failed"})


def waiting(snapshot: Snapshot) -> Child | None:
    """The Job that brings the weights, where it is not over and no pod of it is there."""
    if snapshot.terminating or snapshot.current_plan is None:
        return None
    for child in snapshot.children:
        ours = child.kind == names.JOB_KIND and child.controller_uid == snapshot.uid and not child.terminating
        if ours and not _is_over(child) and all(pod.job_uid != child.uid for pod in snapshot.weights_pods):
            return child
    return None


def last_note(events: Sequence[Mapping[str, Any]]) -> str:
    """What the last of them says; empty where there is none."""
    return str(max(events, key=_last_seen).get("note", "")) if events else ""


def _is_over(job: Child) -> bool:
    conditions: Sequence[Mapping[str, Any]] = job.status.get("conditions", ())
    return any(said.get("type") in _OVER and said.get("status") == "True" for said in conditions)


def _last_seen(event: Mapping[str, Any]) -> str:
    series: Mapping[str, Any] = event.get("series") or {}
    seen = series.get("lastObservedTime") or event.get("deprecatedLastTimestamp") or event.get("eventTime")
    return str(seen or "")
