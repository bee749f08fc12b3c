"""Prometheus itself reads our metrics and comes to the figures that were really fed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from gemma_operator.metrics.registry import DeploymentView, Metrics, PoolView
from gemma_operator.metrics.server import MetricsServer
from gemma_operator.probing.deltas import Delta, since
from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import ProbeResult
from gemma_operator.settings import OperatorSettings
from monitoring.server import tools_or_skip

WINDOW_SECONDS = 10
TOKENS_PER_SECOND = 1234


@dataclass(frozen=True, slots=True)
class Key:
    namespace: str
    name: str


CHAT = Key("team", "chat")
VIEW = DeploymentView(
    backend="Kubernetes",
    variant="31B",
    precision="bf16",
    engine="VLLM",
    engine_version="0.32",
    pool="h100",
    accelerator="nvidia-h100-80gb",
    conditions={"Ready": "True"},
    replicas={"wanted": 2, "proved": 2},
    pod_uids=frozenset({"one", "two"}),
    predicted_kv_tokens=40000,
    startup_seconds={"load": 61.5},
    cost_per_hour=("USD", 4.96),
)


@pytest.fixture
def metrics() -> Metrics:
    """The leader's."""
    metrics = Metrics()
    metrics.leader(True)
    metrics.deployment(CHAT, VIEW)
    metrics.pools([PoolView("group", "h100", "nvidia-h100-80gb", total=8, free=6, claimed=0)])
    return metrics


@pytest.fixture
async def served(metrics) -> AsyncIterator[str]:
    """The address under which the metrics are served."""
    server = MetricsServer(
        settings=OperatorSettings(metrics_host="127.0.0.1", metrics_port=0),
        exposition=metrics.exposition,
        loop_lag_seconds=float,
        oldest_worker_seconds=float,
        ready=lambda: (True, ""),
    )
    async with server:
        yield f"127.0.0.1:{server.port}"


class Load:
    """Two engines that generate by the clock; one restarts every two seconds and forgets its counters."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: dict[str, EngineSample] = {}
        self._counts = {"one": 5_000_000, "two": 0}
        self._fed = 0
        self.log: list[tuple[float, int]] = []

    async def run(self) -> None:
        began = time.time()
        restarts = 0
        while True:
            now = time.time()
            self.log.append((now, self._fed))
            if now - began > 2 * (restarts + 1):
                restarts += 1
                self._counts["one"] = 0
            due = int((now - began) * TOKENS_PER_SECOND) - self._fed
            # a restarted engine is noticed by its lower counter, so the other half goes elsewhere
            self._generate("one", due // 2)
            self._generate("two", due - due // 2)
            self._fed += due
            await asyncio.sleep(0.02)  # the pace of the load

    def _generate(self, pod_uid: str, tokens: int) -> None:
        self._counts[pod_uid] += tokens
        sample = EngineSample(running=1, generation_tokens=self._counts[pod_uid], requests={"stop": 0})
        delta = since(self._samples.get(pod_uid), sample)
        if pod_uid not in self._samples:
            delta = replace(delta, generation_tokens=tokens)  # seen from its first token on
        self._samples[pod_uid] = sample
        self._metrics.sample(CHAT, pod_uid, sample, delta)

    def tokens_per_second(self, *, until: float) -> float:
        """What was really fed in the window, however busy this machine was."""
        return (self._fed_by(until) - self._fed_by(until - WINDOW_SECONDS)) / WINDOW_SECONDS

    def _fed_by(self, moment: float) -> int:
        return max(fed for at, fed in self.log if at <= moment)


async def test_promql_gives_the_tokens_per_second_that_were_fed(metrics, served, prometheus):
    server = await prometheus([served])
    tokens = 'gemma_deployment_generation_tokens_total{namespace="team",name="chat"}'
    exported = 'gemma_deployment_generation_tokens_total{exported_namespace="team"}'
    first = await server.until(tokens)
    assert [series.value for series in first] == [0.0]
    assert await server.query(exported) == []
    load = Load(metrics)
    running = asyncio.create_task(load.run())
    enough = WINDOW_SECONDS + 3
    await server.until(
        f"count_over_time(({tokens} > 0)[1m:1s])", lambda series: series and series[0].value > enough
    )
    at = await server.until_unbroken(tokens, seconds=WINDOW_SECONDS)
    rate = await server.query(f"sum(rate({tokens}[{WINDOW_SECONDS}s]))", at=at)
    expected = load.tokens_per_second(until=at)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert expected == pytest.approx(TOKENS_PER_SECOND, rel=0.2)
    assert rate[0].value == pytest.approx(expected, rel=0.05)


async def test_series_are_gone_after_the_object(metrics, served, prometheus):
    server = await prometheus([served])
    await server.until('gemma_deployment_info{name="chat"}')
    metrics.forget(CHAT)
    await server.until('{__name__=~"gemma_deployment_.+"}', lambda series: series == [])
    assert await server.query('gemma_pool_accelerators{state="free"}') != []


def test_promtool_finds_nothing_to_mend(metrics):
    tools = tools_or_skip()
    sample = EngineSample(running=1, kv_usage=0.5, kv_tokens=9, requests={"stop": 1})
    metrics.sample(CHAT, "one", sample, Delta())
    metrics.probe(CHAT, "one", ProbeResult(None, seconds=0.2))
    metrics.request("get", 200)
    lint = subprocess.run(
        [tools.promtool, "check", "metrics"],
        input=metrics.exposition(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")
