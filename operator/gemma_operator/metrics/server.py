"""`/metrics`, `/healthz`, `/readyz`: what Prometheus and the kubelet ask the operator itself.

Healthy means that this process gets on: its event loop answers in time and no worker hangs. Ready means
that it could take over: a standby with synced caches is ready. The text of a thousand deployments takes
0.2 s to write, so it is written in a thread.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import Self

from aiohttp import web

from gemma_operator.metrics.registry import CONTENT_TYPE
from gemma_operator.settings import OperatorSettings

#: Beyond these the kubelet may restart the operator: engines serve on, and nothing is lost.
UNHEALTHY_LAG_SECONDS = 5.0
UNHEALTHY_WORKER_SECONDS = 300.0


class LoopLag:
    """How late the event loop is: the worst of the last seconds, so that one stall fails one probe."""

    def __init__(self, *, interval_seconds: float = 0.25, window_seconds: float = 10.0) -> None:
        self._interval_seconds = interval_seconds
        self._lags = collections.deque[float](maxlen=max(1, round(window_seconds / interval_seconds)))

    @property
    def seconds(self) -> float:
        """The worst lag seen in the window."""
        return max(self._lags, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            expected = loop.time() + self._interval_seconds
            await asyncio.sleep(self._interval_seconds)
            self._lags.append(max(0.0, loop.time() - expected))


class MetricsServer:
    """An aiohttp server; `async with` starts and stops it. Everything it tells is given as callables."""

    def __init__(
        self,
        *,
        settings: OperatorSettings,
        exposition: Callable[[], bytes],
        loop_lag_seconds: Callable[[], float],
        oldest_worker_seconds: Callable[[], float],
        ready: Callable[[], tuple[bool, str]],
    ) -> None:
        self._settings = settings
        self._exposition = exposition
        self._loop_lag_seconds = loop_lag_seconds
        self._oldest_worker_seconds = oldest_worker_seconds
        self._ready = ready
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """Where it listens; the settings may say 0 and leave the choice to the system."""
        assert self._runner is not None, "not started"
        return int(self._runner.addresses[0][1])

    def app(self) -> web.Application:
        """The three paths."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        return app

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.metrics_host, self._settings.metrics_port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metrics(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(self._exposition)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _healthz(self, _: web.Request) -> web.Response:
        lag, oldest = self._loop_lag_seconds(), self._oldest_worker_seconds()
        problems = []
        if lag > UNHEALTHY_LAG_SECONDS:
            problems.append(f"the event loop was {lag:.1f} s late (limit {UNHEALTHY_LAG_SECONDS:g} s)")
        if oldest > UNHEALTHY_WORKER_SECONDS:
            problems.append(f"a reconcile runs for {oldest:.0f} s (limit {UNHEALTHY_WORKER_SECONDS:g} s)")
        figures = {"loopLagSeconds": round(lag, 3), "oldestWorkerSeconds": round(oldest, 1)}
        return _answer(not problems, {"problems": problems, **figures})

    async def _readyz(self, _: web.Request) -> web.Response:
        ready, message = self._ready()
        return _answer(ready, {"message": message})


def _answer(fine: bool, facts: dict[str, object]) -> web.Response:
    return web.json_response({"ok": fine, **facts}, status=200 if fine else 503)
