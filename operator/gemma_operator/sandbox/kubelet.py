"""What a kubelet would do for the pods of the fleet: start the model server, play its probes, report.

One `PodLife` a pod, from the moment kwok has given it an address until it is gone. kwok makes scheduled pods
Running and lets deleted ones go; Ready is written here alone, so one place answers for it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from gemma_operator.sandbox import guarded, podstatus, probes
from gemma_operator.sandbox.errands import Errands
from gemma_operator.sandbox.guarded import Files
from gemma_operator.sandbox.podstatus import Ending
from gemma_operator.sandbox.simulator import instructions
from gemma_operator.sandbox.simulator.instructions import Fault, ServerArguments
from gemma_operator.sandbox.simulator.listener import Listener
from gemma_operator.sandbox.simulator.server import ModelServer
from gemma_operator.sandbox.watching import cancel

_DRAIN_SECONDS = 30
_LOOK_SECONDS = 60  # new orders come sooner
_NO_FILES = Files()
_BACK_OFF_SECONDS = (0, 10, 20, 40, 80, 160, 300)  # kubelet's: at once, then doubling, at most 5 minutes

_log = logging.getLogger(__name__)

WriteStatus = Callable[[dict[str, Any], dict[str, Any]], Awaitable[None]]


class Kubelet:
    """All pods of the fleet."""

    def __init__(
        self, *, http: aiohttp.ClientSession, write_status: WriteStatus, files: Files = _NO_FILES
    ) -> None:
        self._http = http
        self._write_status = write_status
        self._files = files
        self._lives: dict[str, tuple[PodLife, asyncio.Task[None]]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._errands = Errands(write_status=write_status, files=files)
        self._lost_nodes: set[str] = set()

    def changed(self, pod: dict[str, Any]) -> None:
        """A pod was seen: its life begins, gets new orders, or is over."""
        uid = pod["metadata"]["uid"]
        if pod["spec"].get("nodeName") not in self._lost_nodes:
            self._errands.changed(pod)
        if uid in self._lives:
            if pod["status"].get("phase") in {"Succeeded", "Failed"}:
                self.gone(pod)
            else:
                self._lives[uid][0].tell(pod)
        elif podstatus.runs_here(pod) and pod["spec"]["nodeName"] not in self._lost_nodes:
            life = PodLife(pod, http=self._http, write_status=self._write_status, files=self._files.of(uid))
            task = asyncio.create_task(life.run(), name=f"pod {pod['metadata']['name']}")
            task.add_done_callback(_report)
            self._lives[uid] = (life, task)

    def gone(self, pod: dict[str, Any]) -> None:
        """A pod was deleted: refuse at once, let what runs end."""
        self._errands.gone(pod)
        found = self._lives.pop(pod["metadata"]["uid"], None)
        if found is not None:
            ending = asyncio.create_task(self._end(*found))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    def node_changed(self, node: dict[str, Any]) -> None:
        """A node was seen."""
        self._lost_nodes.discard(node["metadata"]["name"])

    def node_gone(self, node: dict[str, Any]) -> None:
        """A machine is gone: what ran there is silent, and nobody is left to say so of its pods."""
        name = node["metadata"]["name"]
        self._lost_nodes.add(name)
        self._errands.node_gone(name)
        for life, _ in list(self._lives.values()):
            if life.pod["spec"]["nodeName"] == name:
                self.gone(life.pod)

    async def stop(self) -> None:
        """End every life at once; for who has one kubelet after the other in a process."""
        await self._errands.stop()
        ending, self._lives = list(self._lives.values()), {}
        for life, task in ending:
            await cancel(task)
            await life.close(drain_seconds=0)
        await cancel(*self._endings)

    @staticmethod
    async def _end(life: PodLife, task: asyncio.Task[None]) -> None:
        await cancel(task)
        await life.close(drain_seconds=_DRAIN_SECONDS)


class PodLife:
    """One pod: its container's lives, one after the other."""

    def __init__(
        self, pod: dict[str, Any], *, http: aiohttp.ClientSession, write_status: WriteStatus, files: Files
    ) -> None:
        self.pod = pod
        self._files = files
        self._http = http
        self._write_status = write_status
        self._host: str = pod["status"]["podIP"]
        self._arguments = instructions.server_arguments(pod)
        self._orders = instructions.orders(pod)
        self._told = asyncio.Event()
        self._server: ModelServer | None = None
        self._listener: Listener | None = None
        self._restarts = 0
        self._ended: dict[str, Any] | None = None
        self._warn()

    def tell(self, pod: dict[str, Any]) -> None:
        """The pod changed; only its annotations matter here."""
        self.pod = pod
        orders = instructions.orders(pod)
        if orders != self._orders:
            self._orders = orders
            self._warn()
            if self._server is not None:
                self._server.tell(orders)
            self._told.set()

    async def run(self) -> None:
        """Live until cancelled."""
        if self._arguments is None:
            await self._say(container=None, started=True, ready=True, since=_now())
            return
        while True:
            since = _now()
            ending = await self._one_life(self._arguments, since)
            await self.close(drain_seconds=0)
            pause = _BACK_OFF_SECONDS[min(self._restarts, len(_BACK_OFF_SECONDS) - 1)]
            patch = podstatus.ended(
                self.pod,
                container=self._arguments.container,
                ending=ending,
                restarts=self._restarts,
                since=since,
                now=_now(),
                back_off_seconds=pause,
            )
            await self._write_status(self.pod, patch)
            self._ended = patch
            await asyncio.sleep(pause)
            self._restarts += 1

    async def close(self, *, drain_seconds: float) -> None:
        """Refuse connections; requests that run may end within `drain_seconds`."""
        listener, self._listener, self._server = self._listener, None, None
        if listener is not None:
            await listener.close(drain_seconds=drain_seconds)
        shutil.rmtree(self._files.folder, ignore_errors=True)

    async def _one_life(self, arguments: ServerArguments, since: str) -> Ending:
        container = next(c for c in self.pod["spec"]["containers"] if c["name"] == arguments.container)
        await self._until_let()
        await guarded.until_it_can_be_made(
            self.pod, container, self._files, say=self._say_lacking, pause=self._pause
        )
        guard = guarded.guard_of(self.pod, container, self._files)
        server = self._server = ModelServer(arguments, self._orders, guard=guard)
        self._listener = Listener(server, host=self._host, port=arguments.port)
        await self._keep_door(self._listener)
        if self._restarts:
            await self._say(container=arguments.container, started=False, ready=False, since=since)
        await self._boot()
        if self._orders.fault is Fault.MEMORY_REFUSAL:
            return Ending(1, "Error", self._orders.refusal(arguments.max_model_len))
        if (told := self._orders.ends_with) is not None:
            return Ending(told.exit_code, told.reason, told.message, told.ran_seconds)
        if guard is not None and (unknown := await guard.trouble()):
            return Ending(1, "Error", unknown)
        server.started = True
        probe = probes.startup(container)
        if not await self._starts(probe, port=arguments.port, guard=guard):
            return Ending(137, "Error", "the start-up probe failed too often: killed (simulated)")
        await self._stay_in_step(
            server, arguments, since, patience_seconds=probes.patience_seconds(container)
        )
        return Ending(137, "Error", "the liveness probe failed too often: killed (simulated)")

    async def _until_let(self) -> None:
        """While it is told to wait it waits; each new reason is said once."""
        said = None
        while (words := self._orders.waits_with) is not None:
            if words != said:
                said = words
                await self._say_waiting(words.reason, words.message)
            await self._pause(_LOOK_SECONDS)

    async def _boot(self) -> None:
        """The start-up time, which may be changed while it runs."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left := began + self._orders.startup_seconds - loop.time()) > 0:
            await self._pause(left)

    async def _starts(self, probe: probes.Probe, *, port: int, guard: guarded.Guard | None) -> bool:
        """Play the start-up probe until it succeeds or its failures are too many."""
        await asyncio.sleep(probe.initial_delay_seconds)
        for _ in range(probe.failure_threshold):
            shown = await guard.headers() if guard is not None else {}
            if await probes.succeeds(probe, host=self._host, port=port, http=self._http, credentials=shown):
                return True
            await self._pause(probe.period_seconds)
        return False

    async def _stay_in_step(
        self, server: ModelServer, arguments: ServerArguments, since: str, *, patience_seconds: float | None
    ) -> None:
        """Ready follows /health; returns when the liveness probe would have had the container killed.

        Nothing is asked over the wire here: what a thousand servers would answer every second is known.
        """
        said: bool | None = None
        while True:
            self._told.clear()
            if self._listener is not None:
                await self._keep_door(self._listener)
            if server.healthy is not said:
                said = server.healthy
                await self._say(container=arguments.container, started=True, ready=said, since=since)
            try:
                await asyncio.wait_for(self._told.wait(), None if said else patience_seconds)
            except TimeoutError:
                return

    async def _keep_door(self, listener: Listener) -> None:
        if self._orders.fault is Fault.REFUSED:
            await listener.close()
        else:
            await listener.open()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not on when new orders come: a probe that may succeed now need not wait.

        Those that came since the last pause count too: whoever pauses may have looked at the orders before them.
        """
        try:
            await asyncio.wait_for(self._told.wait(), seconds)
        except TimeoutError:
            return
        self._told.clear()
        if self._listener is not None:
            await self._keep_door(self._listener)

    async def _say(self, *, container: str | None, started: bool, ready: bool, since: str) -> None:
        patch = podstatus.running(
            self.pod,
            container=container,
            started=started,
            ready=ready,
            restarts=self._restarts,
            since=since,
            now=_now(),
        )
        await self._write_status(self.pod, podstatus.after(self._ended, patch))

    async def _say_lacking(self, message: str) -> None:
        await self._say_waiting("CreateContainerConfigError", message)

    async def _say_waiting(self, reason: str, message: str) -> None:
        assert self._arguments is not None, "a pod without a server lacks nothing"
        patch = podstatus.waiting(
            self.pod,
            container=self._arguments.container,
            reason=reason,
            message=message,
            restarts=self._restarts,
            now=_now(),
        )
        await self._write_status(self.pod, podstatus.after(self._ended, patch))

    def _warn(self) -> None:
        metadata = self.pod["metadata"]
        for complaint in self._orders.unreadable:
            _log.warning("pod %s/%s: %s", metadata["namespace"], metadata["name"], complaint)


def _report(task: asyncio.Task[None]) -> None:
    """A life that ends by an error is a fault of ours; the other pods go on."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("%s: %r", task.get_name(), error, exc_info=error)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
