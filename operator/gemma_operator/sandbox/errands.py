"""What is to end in a simulated pod: its init containers before the model server, and the container of a Job's pod.

Nothing is brought anywhere: how long it takes and whether it fails is told by annotations (see
`simulator.instructions`). How it ends is written as a kubelet writes it, so that the Job controller and the operator
read what they would read of a real node. Init containers wait for their Secrets, Jobs do not. Sidecars are not played.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from gemma_operator.sandbox import errandstatus, guarded
from gemma_operator.sandbox.guarded import Files
from gemma_operator.sandbox.simulator import instructions
from gemma_operator.sandbox.watching import cancel

_NO_FILES = Files()
_BACK_OFF_SECONDS = (0, 10, 20, 40, 80, 160, 300)
#: Reasons after which the real script says that no other try will do.
_FINAL = {"WeightsMismatch", "WeightsMissing"}
_FINAL_EXIT = 42

_log = logging.getLogger(__name__)

WriteStatus = Callable[[dict[str, Any], dict[str, Any]], Awaitable[None]]


def is_errand(pod: dict[str, Any]) -> bool:
    """Whether something in this pod is to end before anything of it serves."""
    status = pod.get("status") or {}
    if pod["metadata"].get("deletionTimestamp") or not status.get("podIP"):
        return False
    if _of_a_job(pod):
        return status.get("phase") == "Running"
    return status.get("phase") == "Pending" and bool(pod["spec"].get("initContainers"))


class Errands:
    """Those of all pods of the fleet."""

    def __init__(self, *, write_status: WriteStatus, files: Files = _NO_FILES) -> None:
        self._write_status = write_status
        self._files = files
        self._running: dict[str, tuple[Errand, asyncio.Task[None]]] = {}

    def changed(self, pod: dict[str, Any]) -> None:
        """A pod was seen: its errand begins, gets new orders, or is over."""
        uid = pod["metadata"]["uid"]
        if not is_errand(pod):
            self.gone(pod)
        elif uid in self._running:
            self._running[uid][0].pod = pod
        else:
            errand = Errand(pod, write_status=self._write_status, files=self._files)
            task = asyncio.create_task(errand.run(), name=f"errand of {pod['metadata']['name']}")
            task.add_done_callback(_report)
            self._running[uid] = errand, task

    def gone(self, pod: dict[str, Any]) -> None:
        """A pod was deleted, or its errand is done."""
        found = self._running.pop(pod["metadata"]["uid"], None)
        if found is not None:
            found[1].cancel()

    def node_gone(self, name: str) -> None:
        """What ran on that machine is silent."""
        for errand, _ in list(self._running.values()):
            if errand.pod["spec"].get("nodeName") == name:
                self.gone(errand.pod)

    async def stop(self) -> None:
        """End all at once."""
        running, self._running = list(self._running.values()), {}
        await cancel(*(task for _, task in running))


class Errand:
    """One pod's; the pod is replaced by what is seen of it, so orders may change while it runs."""

    def __init__(self, pod: dict[str, Any], *, write_status: WriteStatus, files: Files = _NO_FILES) -> None:
        self.pod = pod
        self._write_status = write_status
        self._files = files

    async def run(self) -> None:
        """Until it ended as its pod ends, or the pod goes on to serve."""
        failures = 0
        if not _of_a_job(self.pod):
            await guarded.until_it_can_be_made(
                self.pod,
                self.pod["spec"]["initContainers"][-1],
                self._files,
                say=self._say_lacking,
                pause=asyncio.sleep,
            )
        while True:
            since = _now()
            await asyncio.sleep(instructions.orders(self.pod).weights_seconds)
            fault = instructions.orders(self.pod).weights_fault
            if _of_a_job(self.pod):
                await self._write(errandstatus.job_ended(self.pod, ended=_ended(fault, since)))
                return
            if fault is None:
                await self._write(errandstatus.initialized(self.pod, ended=_ended(None, since), now=_now()))
                return
            pause = _BACK_OFF_SECONDS[min(failures, len(_BACK_OFF_SECONDS) - 1)]
            failed = errandstatus.init_failed(
                self.pod, ended=_ended(fault, since), restarts=failures, back_off_seconds=pause
            )
            await self._write(failed)
            await asyncio.sleep(pause)
            failures += 1

    async def _say_lacking(self, what: str) -> None:
        await self._write(errandstatus.not_made(self.pod, why=what))

    async def _write(self, patch: dict[str, Any]) -> None:
        await self._write_status(self.pod, patch)


def _ended(fault: str | None, since: str) -> dict[str, Any]:
    """A container's `terminated` state."""
    if fault is None:
        return {"exitCode": 0, "reason": "Completed", "startedAt": since, "finishedAt": _now()}
    return {
        "exitCode": _FINAL_EXIT if fault in _FINAL else 1,
        "reason": "Error",
        "message": json.dumps(
            {"reason": fault, "message": f"what brings the weights was told {fault} (simulated)"}
        ),
        "startedAt": since,
        "finishedAt": _now(),
    }


def _of_a_job(pod: dict[str, Any]) -> bool:
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences") or [])


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s: %r", task.get_name(), error, exc_info=error)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
