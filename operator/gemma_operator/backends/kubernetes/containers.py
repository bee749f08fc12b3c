"""What is kept of one container's status: why it waits, how it ended, and how long it had run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gemma_operator.scrub import tail

Json = Mapping[str, Any]

#: The kubelet keeps so much of a log (pkg/kubelet/container/runtime.go); of a file more, which is cut to the same.
LAST_WORDS_BYTES: Final = 2048
#: Its message says for how long the kubelet waits, another figure after each end: no matter of a status.
_BACK_OFF: Final = "CrashLoopBackOff"
#: A container that waits for its turn and for nothing else.
_IN_TURN: Final = frozenset({"", "PodInitializing", "ContainerCreating"})


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod. `terminated_…` is of its last life, when it lives again too."""

    name: str
    waiting_reason: str = ""
    waiting_message: str = ""
    terminated_reason: str = ""
    #: Scrubbed, as it comes in.
    terminated_message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    #: Of its last life.
    ran_seconds: int | None = None

    @property
    def words(self) -> str:
        """All that it or its node said."""
        return f"{self.terminated_message}\n{self.waiting_message}"


def container(status: Json) -> Container:
    """Cut from a containerStatus (core/v1)."""
    waiting = status.get("state", {}).get("waiting") or {}
    ended = ended_of(status)
    why = waiting.get("reason", "")
    return Container(
        name=status.get("name", ""),
        waiting_reason=why,
        waiting_message="" if why == _BACK_OFF else waiting.get("message", ""),
        terminated_reason=ended.get("reason", ""),
        terminated_message=last_words(ended.get("message", "")),
        exit_code=ended.get("exitCode"),
        restarts=status.get("restartCount", 0),
        ran_seconds=_ran_seconds(ended),
    )


def ended_of(status: Json) -> Json:
    """How it ended last; empty where it never did."""
    ended: Json = (
        status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated") or {}
    )
    return ended


def last_words(message: str) -> str:
    """A termination message without secrets; of one that was cut, the first line goes."""
    return tail(message[-LAST_WORDS_BYTES:], limit=LAST_WORDS_BYTES)


def holding_up(status: Json, *, but: str) -> Container | None:
    """The first container beside `but` that keeps the pod from being ready; init containers come before others."""
    return next(
        (container(each) for each in _others(status, but=but) if _is_in_trouble(each)),
        None,
    )


def unhealthy_devices(status: Json) -> tuple[str, ...]:
    """Devices of a container that the kubelet calls unhealthy (KEP-4680, core/v1 ResourceHealth)."""
    return tuple(
        f"{entry.get('name', '')} {device.get('resourceID', '')}"
        for entry in status.get("allocatedResourcesStatus") or ()
        for device in entry.get("resources") or ()
        if device.get("health") == "Unhealthy"
    )


def had_been_ready(pod: Json, status: Json) -> bool:
    """The life that ended had been ready: Ready became False after it had begun, not before."""
    began = ended_of(status).get("startedAt") or ""
    ready: Json = next((each for each in pod.get("conditions", ()) if each.get("type") == "Ready"), {})
    return bool(began) and ready.get("status") == "False" and (ready.get("lastTransitionTime") or "") > began


def _others(status: Json, *, but: str) -> Iterator[Json]:
    for each in status.get("initContainerStatuses", ()):
        if each.get("state", {}).get("terminated", {}).get("exitCode") != 0:
            yield each
    yield from (each for each in status.get("containerStatuses", ()) if each.get("name") != but)


def _is_in_trouble(status: Json) -> bool:
    state = status.get("state", {})
    waits = (state.get("waiting") or {}).get("reason", "") not in _IN_TURN
    failed = ended_of(status).get("exitCode") not in (None, 0)
    return waits or (failed and not status.get("ready", False))


def _ran_seconds(ended: Json) -> int | None:
    began, finished = ended.get("startedAt"), ended.get("finishedAt")
    if not began or not finished:
        return None
    return round((datetime.fromisoformat(finished) - datetime.fromisoformat(began)).total_seconds())
