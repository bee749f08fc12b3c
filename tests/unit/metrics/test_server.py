"""What the kubelet and Prometheus are told."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import pytest

from gemma_operator.metrics.registry import Metrics
from gemma_operator.metrics.server import LoopLag, MetricsServer
from gemma_operator.settings import OperatorSettings


def a_server(*, lag: float = 0.0, oldest: float = 0.0, ready=(True, "synced"), host="127.0.0.1", port=0):
    return MetricsServer(
        settings=OperatorSettings(metrics_host=host, metrics_port=port),
        exposition=Metrics().exposition,
        loop_lag_seconds=lambda: lag,
        oldest_worker_seconds=lambda: oldest,
        ready=lambda: ready,
    )


async def ask(server: MetricsServer, path: str):
    async with (
        server,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}") as response,
    ):
        return response.status, response.headers["Content-Type"], await response.read()


async def test_metrics_are_text_of_the_version_that_prometheus_reads():
    status, kind, body = await ask(a_server(), "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"workqueue_depth" in body


async def test_a_process_that_gets_on_is_healthy():
    status, _, body = await ask(a_server(lag=0.01, oldest=2.0), "/healthz")
    assert status == 200
    assert b'"problems": []' in body


@pytest.mark.parametrize(
    ("state", "what"),
    [({"lag": 6.0}, b"the event loop was 6.0 s late"), ({"oldest": 301.0}, b"a reconcile runs for 301 s")],
)
async def test_what_hangs_is_named(state, what):
    status, _, body = await ask(a_server(**state), "/healthz")
    assert status == 503
    assert what in body


async def test_readiness_is_what_the_app_says():
    assert (await ask(a_server(), "/readyz"))[0] == 200
    status, _, body = await ask(a_server(ready=(False, "pods are not listed yet")), "/readyz")
    assert status == 503
    assert b"pods are not listed yet" in body


async def test_a_taken_port_is_an_error_and_leaves_nothing_open():
    async with a_server() as first:
        second = a_server(port=first.port)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()


async def test_the_lag_of_a_blocked_loop_is_seen_and_passes():
    lag = LoopLag(interval_seconds=0.01, window_seconds=0.1)
    assert lag.seconds == 0.0
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - blocks the loop, which is the point
    async with asyncio.timeout(10):
        while lag.seconds < 0.15:  # noqa: ASYNC110 - the loop's own turns are what is waited for
            await asyncio.sleep(0)
        while lag.seconds > 0.1:  # noqa: ASYNC110
            await asyncio.sleep(0)
    measuring.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await measuring
