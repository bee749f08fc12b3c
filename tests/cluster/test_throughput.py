"""Tokens per second by PromQL are the tokens that engines really made: the whole way, from pod to Prometheus."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from cluster import scraping
from cluster.teams import a_deployment
from monitoring.server import prometheus

__all__ = ["prometheus"]

pytestmark = pytest.mark.cluster
#: Figures are a probe period (1 s) old at most, on either side: within 5 % from 22 s on.
WINDOW_SECONDS = 25
LOOPS = 4
TOKENS_A_REQUEST = 10
TOLD = {
    "sandbox.gemma-operator.io/startup-seconds": "0.1",
    "sandbox.gemma-operator.io/token-seconds": "0.01",
}


class Load:
    """Clients that ask again as soon as they are answered, and remember when they got how many tokens."""

    def __init__(self, *addresses: str, model: str) -> None:
        self._addresses = addresses
        self._model = model
        self._moments: list[float] = []
        self._made: list[int] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session:
            loops = [
                asyncio.create_task(self._ask(session, address))
                for address in self._addresses
                for _ in range(LOOPS)
            ]
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                ended = await asyncio.gather(*loops, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def _ask(self, session: aiohttp.ClientSession, address: str) -> None:
        body = {"model": self._model, "prompt": "how many?", "max_tokens": TOKENS_A_REQUEST}
        while True:
            async with session.post(f"http://{address}:8000/v1/completions", json=body) as response:
                answer = await response.json()
            assert response.status == 200, answer
            self._moments.append(time.time())
            self._made.append(answer["usage"]["completion_tokens"])

    def tokens_per_second(self, *, until: float) -> float:
        """What was really made in the window."""
        first = bisect.bisect(self._moments, until - WINDOW_SECONDS)
        return sum(self._made[first : bisect.bisect(self._moments, until)]) / WINDOW_SECONDS


@pytest.fixture
def chat(team, operator):
    """Two replicas that generate a hundred tokens a second for each who asks; their addresses."""
    pool = team.pool("l4", nodes=2)
    name = f"chat-{team.namespace}"
    team.apply(a_deployment(name, hardware={"pools": [pool]}, replicas=2, pod={"annotations": TOLD}))
    team.ready(name)
    return name, [pod["status"]["podIP"] for pod in team.pods(name)]


async def test_promql_gives_the_tokens_per_second_that_the_load_made(chat, operator, prometheus, request):
    name, addresses = chat
    server = await prometheus([f"127.0.0.1:{operator.metrics_port}"])
    tokens = f'gemma_deployment_generation_tokens_total{{name="{name}"}}'
    await server.until(tokens)
    load = Load(*addresses, model=name)
    async with load.running():
        # the window begins when the operator saw the load, and is full a window later
        (start,) = await server.until(f"timestamp({tokens} > {10 * TOKENS_A_REQUEST})")
        await server.until(
            f"timestamp({tokens})", lambda found: found[0].value > start.value + WINDOW_SECONDS + 2
        )
        at = await server.until_unbroken(tokens, seconds=WINDOW_SECONDS)
        (rate,) = await server.query(f"sum(rate({tokens}[{WINDOW_SECONDS}s]))", at=at)
        (requests,) = await server.query(
            f'sum(rate(gemma_deployment_requests_total{{name="{name}",finished_reason="length"}}[{WINDOW_SECONDS}s]))',
            at=at,
        )
        made = load.tokens_per_second(until=at)
        running = await server.query(f'gemma_deployment_requests_running{{name="{name}"}}')
    told = ("tokens per second made and told", (round(made, 1), round(rate.value, 1)))
    request.node.user_properties.append(told)
    assert made > 100, "the load was no load"
    assert rate.value == pytest.approx(made, rel=0.05)
    assert requests.value * TOKENS_A_REQUEST == pytest.approx(made, rel=0.05)
    assert 0 <= running[0].value <= LOOPS * len(addresses)
    (pods,) = await server.query(f'gemma_deployment_replicas{{name="{name}",state="proved"}}')
    assert pods.value == 2


def test_the_operator_says_that_it_is_well_and_who_it_is(operator):
    status, health = scraping.answer(operator, "/healthz")
    assert (status, health["ok"], health["problems"]) == (200, True, [])
    assert health["loopLagSeconds"] < 5
    assert scraping.answer(operator, "/readyz") == (200, {"ok": True, "message": "leading"})
