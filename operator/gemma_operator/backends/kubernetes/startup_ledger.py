"""Where the seconds of a start went: phases of one replica, from the moments that Kubernetes wrote down. Pure.

Only what the API server shows is read, so the figures are those of the cluster's clocks and survive a restart of the
operator. Logs are not read: the operator has no right to them, and no metric of vLLM 0.32 tells compiling from
loading. So `load` is all from the start of the engine's container until the pod is Ready, compiling and the start-up
probe's token among it; where the engine brings its weights itself, their download too. `firstToken` is how long the
operator's own first question for a token took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gemma_operator.api.conditions import Reason

Json = Mapping[str, Any]

CAPACITY: Final = "capacity"
IMAGE: Final = "image"
DOWNLOAD: Final = "download"
#: An engine that ended and was started again: what went before its last start is neither image nor load.
RETRIES: Final = "retries"
LOAD: Final = "load"
FIRST_TOKEN: Final = "firstToken"  # noqa: S105 - no password
#: What a replica waits for in each phase that can be seen while it lasts; "": it is not there yet.
_SAID: Final = {
    "": (Reason.PROVISIONING, "its pods are being made"),
    CAPACITY: (Reason.PROVISIONING, "a pod waits for its node"),
    IMAGE: (Reason.PULLING_IMAGE, "a pod waits for its image"),
    DOWNLOAD: (Reason.DOWNLOADING, "a pod waits for its weights"),
    LOAD: (Reason.STARTING_UP, "the engine loads, compiles and generates its first token"),
}


@dataclass(frozen=True, slots=True)
class PodTimes:
    """Moments of one pod, as RFC 3339; empty: not yet, or not said."""

    made: str = ""
    #: The scheduler gave it a node.
    scheduled: str = ""
    #: Its init containers: from the first one's start until the last one's end.
    fetch_started: str = ""
    fetch_finished: str = ""
    #: The engine's container: as it runs now, else as it ran last.
    engine_started: str = ""
    #: The start-up probe had its token, and the engine answers.
    ready: str = ""


@dataclass(frozen=True, slots=True)
class WeightsTimes:
    """When the Job that brings the weights began and ended; `completed_at` is empty while it runs."""

    started_at: str
    completed_at: str = ""


def pod_times(pod: Json, *, engine: Json) -> PodTimes:
    """Cut from a pod as the API server has it (core/v1 PodStatus); `engine` is its containerStatus."""
    status: Json = pod.get("status", {})
    inits = [_state_of(each) for each in _fetching(pod)]
    ended = [state.get("finishedAt", "") for state in inits]
    return PodTimes(
        made=pod["metadata"].get("creationTimestamp") or "",
        scheduled=_since(status, "PodScheduled"),
        fetch_started=min(filter(None, (state.get("startedAt", "") for state in inits)), default=""),
        fetch_finished=max(ended, default="") if all(ended) else "",
        engine_started=_engine_started(engine),
        ready=_since(status, "Ready"),
    )


def phases(
    times: PodTimes,
    *,
    weights: WeightsTimes | None = None,
    restarts: int = 0,
    first_token_seconds: float | None = None,
) -> tuple[tuple[str, int], ...]:
    """Phase and whole seconds, in their order; what nobody wrote down is left out."""
    fetched = _between(times.fetch_started, times.fetch_finished)
    until_engine = _between(times.scheduled, times.engine_started)
    brought = _between(weights.started_at, weights.completed_at) if weights else None
    found = (
        (CAPACITY, _between(times.made, times.scheduled)),
        (RETRIES if restarts else IMAGE, _less(until_engine, fetched)),
        (DOWNLOAD, None if brought is None and fetched is None else (brought or 0) + (fetched or 0)),
        (LOAD, _between(times.engine_started, times.ready)),
        (FIRST_TOKEN, None if first_token_seconds is None else round(first_token_seconds)),
    )
    return tuple((phase, seconds) for phase, seconds in found if seconds is not None)


def took_seconds(times: PodTimes) -> int:
    """From the pod's making until it was Ready; by it the slowest replica is found."""
    return _between(times.made, times.ready) or 0


def phase_of(times: PodTimes) -> str:
    """What a replica that is not Ready waits for."""
    if not times.scheduled:
        return CAPACITY
    if times.engine_started:
        return LOAD
    return DOWNLOAD if times.fetch_started and not times.fetch_finished else IMAGE


def furthest_behind(replicas: Iterable[PodTimes]) -> str:
    """The earliest phase that any of them is in; empty where there is none."""
    found = {phase_of(each) for each in replicas}
    return next((phase for phase in (CAPACITY, IMAGE, DOWNLOAD, LOAD) if phase in found), "")


def said_of(phase: str) -> tuple[Reason, str]:
    """The reason and the words of a start that is in this phase."""
    return _SAID[phase]


def to_status(found: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    """status.startup."""
    return [{"phase": phase, "seconds": seconds} for phase, seconds in found]


def _since(status: Json, kind: str) -> str:
    for condition in status.get("conditions", ()):
        if (condition.get("type"), condition.get("status")) == (kind, "True"):
            return condition.get("lastTransitionTime") or ""
    return ""


def _fetching(pod: Json) -> list[Json]:
    """Statuses of init containers that end; a sidecar (restartPolicy Always) that somebody injected does not."""
    specs = pod.get("spec", {}).get("initContainers", ())
    sidecars = {each["name"] for each in specs if each.get("restartPolicy") == "Always"}
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    return [each for each in statuses if each.get("name") not in sidecars]


def _engine_started(engine: Json) -> str:
    state, last = engine.get("state", {}), engine.get("lastState", {})
    found = (state.get("running"), state.get("terminated"), last.get("terminated"))
    return next((each["startedAt"] for each in found if each and each.get("startedAt")), "")


def _state_of(status: Json) -> Json:
    state = status.get("state", {})
    found: Json = state.get("terminated") or state.get("running") or {}
    return found


def _between(begin: str, end: str) -> int | None:
    """Whole seconds; the clocks of two machines may differ, and no phase took less than nothing."""
    if not begin or not end:
        return None
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    return max(0, round(seconds))


def _less(seconds: int | None, part: int | None) -> int | None:
    return None if seconds is None else max(0, seconds - (part or 0))
