"""What a kubelet writes into a pod's status, as strategic merge patches. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MESSAGE_BYTES = 2048  # kubelet keeps this much of a log as the termination message (FallbackToLogsOnError)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended."""

    exit_code: int
    reason: str
    message: str
    #: Where it is said to have run for another time than it did.
    ran_seconds: int | None = None


def running(
    pod: Mapping[str, Any],
    *,
    container: str | None,
    started: bool,
    ready: bool,
    restarts: int,
    since: str,
    now: str,
) -> dict[str, Any]:
    """The model container runs; the others run and are ready, for nothing can be wrong with them."""
    statuses = [
        {
            "name": name,
            "ready": ready if name == container else True,
            "started": started if name == container else True,
            "restartCount": restarts if name == container else 0,
            "state": {"running": {"startedAt": since}, "waiting": None, "terminated": None},
        }
        for name in _names(pod)
    ]
    return _patch(pod, statuses, unready=[] if ready or container is None else [container], now=now)


def ended(
    pod: Mapping[str, Any],
    *,
    container: str,
    ending: Ending,
    restarts: int,
    since: str,
    now: str,
    back_off_seconds: int,
) -> dict[str, Any]:
    """The model container ended. The first time kubelet starts it again at once, later it backs off."""
    finished = now
    if ending.ran_seconds is not None:
        over = datetime.fromisoformat(since) + timedelta(seconds=ending.ran_seconds)
        finished = over.strftime("%Y-%m-%dT%H:%M:%SZ")
    terminated = {
        "exitCode": ending.exit_code,
        "reason": ending.reason,
        "message": ending.message[-MESSAGE_BYTES:],
        "startedAt": since,
        "finishedAt": finished,
    }
    state: dict[str, Any] = {"running": None, "waiting": None, "terminated": terminated}
    if back_off_seconds:
        metadata = pod["metadata"]
        message = (
            f"back-off {back_off_seconds}s restarting failed container={container} "
            f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        )
        state |= {"waiting": {"reason": "CrashLoopBackOff", "message": message}, "terminated": None}
    status = {
        "name": container,
        "ready": False,
        "started": False,
        "restartCount": restarts,
        "lastState": {"terminated": terminated},
        "state": state,
    }
    return _patch(pod, [status], unready=[container], now=now)


def waiting(
    pod: Mapping[str, Any], *, container: str, reason: str, message: str, restarts: int, now: str
) -> dict[str, Any]:
    """The container cannot be made yet; the kubelet tries again."""
    lacking = {"reason": reason, "message": message}
    status = {
        "name": container,
        "ready": False,
        "started": False,
        "restartCount": restarts,
        "state": {"running": None, "terminated": None, "waiting": lacking},
    }
    return _patch(pod, [status], unready=[container], now=now)


def after(ended: Mapping[str, Any] | None, patch: dict[str, Any]) -> dict[str, Any]:
    """The same of a container that ended before: a patch replaces the list as a whole, and with it how that was."""
    if ended is None:
        return patch
    (before,) = ended["status"]["containerStatuses"]
    statuses = [
        {**each, "lastState": before["lastState"]} if each["name"] == before["name"] else each
        for each in patch["status"]["containerStatuses"]
    ]
    return {"status": {**patch["status"], "containerStatuses": statuses}}


def runs_here(pod: Mapping[str, Any]) -> bool:
    """A pod that is to be played: it has an address, is not on its way out, and no Job's."""
    status = pod.get("status") or {}
    return bool(
        status.get("podIP")
        and status.get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        and all(owner["kind"] != "Job" for owner in pod["metadata"].get("ownerReferences") or [])
    )


def _names(pod: Mapping[str, Any]) -> list[str]:
    return [container["name"] for container in pod["spec"]["containers"]]


def _patch(
    pod: Mapping[str, Any], statuses: list[dict[str, Any]], *, unready: Sequence[str], now: str
) -> dict[str, Any]:
    """The moment of a condition moves when its status does, and not before."""
    stood = {each["type"]: each for each in pod.get("status", {}).get("conditions") or ()}
    why = {
        "status": "False",
        "reason": "ContainersNotReady",
        "message": f"containers with unready status: [{' '.join(unready)}]",
    }
    word = why if unready else {"status": "True", "reason": None, "message": None}
    conditions = [
        {"type": kind, "lastTransitionTime": _since(stood.get(kind, {}), word["status"]) or now, **word}
        for kind in ("ContainersReady", "Ready")
    ]
    return {"status": {"containerStatuses": statuses, "conditions": conditions}}


def _since(condition: Mapping[str, Any], status: str | None) -> str:
    return (condition.get("lastTransitionTime") or "") if condition.get("status") == status else ""
