"""What probing costs. Figures are printed (`pytest tests/bench -s`), never judged by the clock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from aiohttp import web

from gemma_operator.engines.registry import engine_named
from gemma_operator.probing.exposition import sample
from gemma_operator.probing.prober import Prober
from gemma_operator.probing.targets import Target
from gemma_operator.settings import OperatorSettings

RECORDED = (Path(__file__).parents[1] / "data/vllm-0.32/metrics.txt").read_bytes()
ENGINE = engine_named("VLLM")
MODEL = "gemma-4-tiny"
ENGINES = 1000
PERIOD_SECONDS = 30


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def test_reading_one_scrape():
    rounds = 500
    started = time.perf_counter()
    for _ in range(rounds):
        assert sample(RECORDED, ENGINE.metrics).generation_tokens == 528
    each = (time.perf_counter() - started) / rounds
    say(f"\nreading metrics.txt: {each * 1000:.3f} ms (design: < 0.5 ms)")


def serve() -> None:
    """One process stands for all engines, each under a loopback address of its own."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=RECORDED, content_type="text/plain")

    async def complete(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "model": MODEL,
                "choices": [{"text": "4", "message": {"content": "4"}}],
                "usage": {"completion_tokens": 1},
            }
        )

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_post("/v1/{kind:completions|chat/completions}", complete)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "0.0.0.0", 0, backlog=1024)
        await site.start()
        say(str(site._server.sockets[0].getsockname()[1]))
        await asyncio.to_thread(sys.stdin.read)  # until the measuring process closes it, or is gone
        await runner.cleanup()

    asyncio.run(main())


async def test_a_thousand_engines():
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        await measure(int(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


async def measure(port: int) -> None:
    asked, enough = 0, asyncio.Event()
    wanted = ENGINES

    def count(_key: str, _pod_uid: str, result) -> None:
        nonlocal asked
        assert result.kind is None, result
        asked += 1
        if asked >= wanted:
            enough.set()

    prober = Prober[str](
        settings=OperatorSettings(probe_period_seconds=PERIOD_SECONDS),
        on_verdict=lambda _key: None,
        on_sample=lambda *_: None,
        on_probe=count,
    )
    for number in range(ENGINES):
        prober.set_targets(f"key-{number}", [a_target(number, port)])
    running = asyncio.create_task(prober.run())
    await figures("first burst", running, enough)
    enough.clear()
    wanted = asked + ENGINES // 2
    await figures("at their own pace", running, enough)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def figures(what: str, running: asyncio.Task[None], enough: asyncio.Event) -> None:
    lags: list[float] = []
    meter = asyncio.create_task(measure_lag(lags))
    cpu, wall = time.process_time(), time.perf_counter()
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait({running, waiting}, timeout=120, return_when=asyncio.FIRST_COMPLETED)
    assert waiting.done(), running
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    meter.cancel()
    lags.sort()
    p50, p99 = (lags[int(len(lags) * part)] * 1000 for part in (0.5, 0.99))
    say(
        f"\n{ENGINES} engines, scraped and asked every {PERIOD_SECONDS} s, {what}: {wall:.1f} s,"
        f" {cpu / wall:.1%} of a core, loop lag p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        f" (design: < 15 %, p99 < 50 ms)"
    )


def a_target(number: int, port: int) -> Target:
    return Target(
        pod_uid=f"pod-{number}",
        address=f"127.1.{number // 250}.{number % 250 + 1}",
        port=port,
        engine=ENGINE,
        model_name=MODEL,
        token_request=ENGINE.token_request(model_name=MODEL),
        pod_ready=True,
    )


async def measure_lag(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        expected = loop.time() + 0.01
        await asyncio.sleep(0.01)  # the thing measured, not a wait for something else
        lags.append(max(0.0, loop.time() - expected))


if __name__ == "__main__":
    serve()
