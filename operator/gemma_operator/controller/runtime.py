"""What runs, in which order it starts, and in which order it stops.

Start: caches and kopf list everything; only then does the process take part in the election, so a leader is
never one that knows half. Leading opens the queue. Stop: the queue closes, workers get ten seconds, the Lease
is given back, then everything else ends, kopf last, because it closes the shared session and cancels whatever
is younger than it.

Whatever task ends by itself ends the process (kubelet starts it again): running on half blind is worse.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Protocol

from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.optional import OptionalCache
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.queue import Queue
from gemma_operator.controller.watch import Watch
from gemma_operator.controller.workers import OnResult, Reconcile, work

logger = logging.getLogger(__name__)

#: Together less than the 30 seconds that the kubelet grants a pod to end.
_WORKERS_MAY_TAKE_SECONDS = 10.0
_RELEASE_MAY_TAKE_SECONDS = 5.0
_KOPF_MAY_TAKE_SECONDS = 8.0

Job = Callable[[], Coroutine[Any, Any, None]]


class Election(Protocol):
    """An Elector, or one who is known to be alone."""

    async def run(self) -> None:
        """Until cancelled."""

    async def release(self) -> None:
        """Gives the Lease back."""


class Runtime:
    """Runs the parts it is given until `stop` or until one of them fails."""

    def __init__(
        self,
        *,
        watch: Watch,
        caches: Sequence[Cache[Any] | OptionalCache[Any]],
        queue: Queue[Key],
        election: Election,
        reconcile: Reconcile,
        workers: int,
        on_result: OnResult,
        jobs: Sequence[tuple[str, Job]] = (),
    ) -> None:
        self._watch = watch
        self._caches = caches
        self._queue = queue
        self._election = election
        self._reconcile = reconcile
        self._workers = workers
        self._on_result = on_result
        self._jobs = jobs
        self._stopping = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Everything was listed once: for `/readyz`, of a standby too."""
        return self._watch.synced and all(cache.synced.is_set() for cache in self._caches)

    def stop(self) -> None:
        """Begins an orderly end; `run` returns when it is over."""
        self._stopping.set()

    async def run(self) -> None:
        """Until `stop`, SIGTERM or SIGINT; raises what ended it otherwise."""
        # kopf is the last: at its end it cancels every task that is younger
        tasks = [self._task("election", self._elect())]
        workers = [self._task(f"worker {number}", self._work()) for number in range(self._workers)]
        others = [self._task(f"cache {cache.resource.full_name}", cache.run()) for cache in self._caches]
        others.append(self._task("own kinds", self._watch.follow()))
        others += [self._task(name, job()) for name, job in self._jobs]
        stopping = self._task("stop", self._wait_for_stop())
        kopf = self._task("kopf", self._watch.run())
        try:
            done, _ = await asyncio.wait(
                [*tasks, *workers, *others, stopping, kopf], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            logger.info("stopping")
            self._queue.close()
            await self._finish_work()
            await _end([*tasks, *workers])
            await self._release()
            await _end([*others, stopping])
            self._watch.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(_KOPF_MAY_TAKE_SECONDS):
                    await asyncio.wait([kopf])
            await _end([kopf])
        for task in done - {stopping}:
            if task is kopf and task.exception() is None:
                return  # a signal that came before our handler was in place
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
            raise RuntimeError(f"{task.get_name()} ended by itself")

    @staticmethod
    def _task(name: str, job: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(job, name=name)

    async def _elect(self) -> None:
        await self._watch.wait_synced()
        for cache in self._caches:
            await cache.synced.wait()
        await self._election.run()

    async def _work(self) -> None:
        await work(self._queue, self._reconcile, on_result=self._on_result)

    async def _wait_for_stop(self) -> None:
        self._handle_signals()
        await self._watch.started.wait()
        self._handle_signals()  # kopf has installed handlers of its own, which would end it first
        await self._stopping.wait()

    def _handle_signals(self) -> None:
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, self.stop)

    async def _finish_work(self) -> None:
        try:
            async with asyncio.timeout(_WORKERS_MAY_TAKE_SECONDS):
                await self._queue.idle()
        except TimeoutError:
            logger.warning("%d reconciles did not end in time", self._queue.working)

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(_RELEASE_MAY_TAKE_SECONDS):
                await self._election.release()
        except TimeoutError:
            logger.warning("the Lease was not released in time, a standby has to wait for its end")


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
