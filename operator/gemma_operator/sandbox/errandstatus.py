"""What a kubelet writes of containers that are to end, as strategic merge patches. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]


def job_ended(pod: Json, *, ended: Json) -> dict[str, Any]:
    """A Job's pod is over."""
    statuses = [
        {"name": container["name"], "ready": False, "started": False, "state": _only("terminated", ended)}
        for container in pod["spec"]["containers"]
    ]
    phase = "Failed" if ended["exitCode"] else "Succeeded"
    return {"status": {"phase": phase, "containerStatuses": statuses}}


def initialized(pod: Json, *, ended: Json, now: str) -> dict[str, Any]:
    """The init containers did what they are for, and the others run."""
    running = [
        {"name": container["name"], "state": _only("running", {"startedAt": now})}
        for container in pod["spec"]["containers"]
    ]
    condition = {"type": "Initialized", "status": "True", "lastTransitionTime": now}
    return {
        "status": {
            "phase": "Running",
            "conditions": [condition],
            "initContainerStatuses": [_init(pod, state=_only("terminated", ended), ready=True)],
            "containerStatuses": running,
        }
    }


def init_failed(pod: Json, *, ended: Json, restarts: int, back_off_seconds: int) -> dict[str, Any]:
    """The last init container failed; the kubelet starts it again, the first time at once."""
    state = _only("terminated", ended)
    if back_off_seconds:
        metadata, name = pod["metadata"], pod["spec"]["initContainers"][-1]["name"]
        message = (
            f"back-off {back_off_seconds}s restarting failed container={name} "
            f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        )
        state = _only("waiting", {"reason": "CrashLoopBackOff", "message": message})
    status = _init(pod, state=state, ready=False)
    failed = {**status, "restartCount": restarts, "lastState": {"terminated": ended}}
    return {"status": {"initContainerStatuses": [failed]}}


def not_made(pod: Json, *, why: str) -> dict[str, Any]:
    """The last init container lacks something that its environment refers to."""
    state = _only("waiting", {"reason": "CreateContainerConfigError", "message": why})
    return {"status": {"initContainerStatuses": [_init(pod, state=state, ready=False)]}}


def _init(pod: Json, *, state: Json, ready: bool) -> dict[str, Any]:
    return {"name": pod["spec"]["initContainers"][-1]["name"], "ready": ready, "state": state}


def _only(kind: str, value: Json) -> dict[str, Any]:
    return {"running": None, "waiting": None, "terminated": None, kind: dict(value)}
