"""A Prometheus of one test: scrapes each second, answers PromQL, is gone at the end.

Other test folders use it by `from monitoring.server import prometheus` in their conftest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from monitoring import debian

_LISTENS = re.compile(rb'msg="Listening on" address=(\S+)')
_READY_SECONDS = 60


@dataclass(frozen=True)
class Series:
    """One series of an instant query."""

    labels: dict[str, str]
    value: float


class PrometheusServer:
    """Asked by PromQL."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def query(self, promql: str, *, at: float | None = None) -> list[Series]:
        """The instant vector of a query, at a Unix time or now."""
        parameters = {"query": promql} | ({} if at is None else {"time": repr(at)})
        async with self._session.get(f"{self.url}/api/v1/query", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return [Series(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    async def until(
        self, promql: str, fits: Callable[[list[Series]], bool] = bool, *, within_seconds: float = 60
    ) -> list[Series]:
        """Asks until the answer fits; by default until there is one."""
        series: list[Series] = []
        try:
            async with asyncio.timeout(within_seconds):
                while not fits(series := await self.query(promql)):  # noqa: ASYNC110 - it cannot call back
                    await asyncio.sleep(0.1)  # between two questions
        except TimeoutError:
            raise AssertionError(f"{promql} was {series} for {within_seconds} s") from None
        return series

    async def until_unbroken(self, series: str, *, seconds: int) -> float:
        """The time of the last scrape, once the so many before it lack none.

        A busy machine leaves scrapes out; what was counted at the edge of a window is then a guess of `rate`.
        """
        counted = f"count_over_time({series}[{seconds * 1000 - 500}ms])"  # the edges lie between two scrapes
        async with asyncio.timeout(60 + seconds):
            while True:
                (last,) = await self.query(f"timestamp({series})")
                (found,) = await self.query(counted, at=last.value)
                if found.value >= seconds:
                    return last.value
                await asyncio.sleep(0.1)  # between two questions


StartPrometheus = Callable[[Sequence[str]], Awaitable[PrometheusServer]]


def tools_or_skip() -> debian.Tools:
    """Both binaries, or a skip that says why."""
    try:
        return debian.tools()
    except debian.NotAvailableError as reason:
        pytest.skip(str(reason))


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[StartPrometheus]:
    """`await prometheus(["127.0.0.1:8080"])` scrapes these targets each second."""
    tools = await asyncio.to_thread(tools_or_skip)
    async with contextlib.AsyncExitStack() as stack:

        async def start(targets: Sequence[str]) -> PrometheusServer:
            return await stack.enter_async_context(running(tools, targets, tmp_path / "prometheus"))

        yield start


@contextlib.asynccontextmanager
async def running(
    tools: debian.Tools, targets: Sequence[str], folder: Path
) -> AsyncIterator[PrometheusServer]:
    """A Prometheus process over an empty folder."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "gemma-operator", "static_configs": [{"targets": list(targets)}]}],
    }
    file = folder / "prometheus.yml"
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(file.write_text, json.dumps(config))
    process = await asyncio.create_subprocess_exec(
        tools.prometheus,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--log.level=info",
        stderr=asyncio.subprocess.PIPE,
    )
    drain = None
    try:
        async with asyncio.timeout(_READY_SECONDS):
            address = await _address(process)
        drain = asyncio.create_task(process.stderr.read())  # a full pipe would stop it
        async with aiohttp.ClientSession() as session:
            server = PrometheusServer(f"http://{address}", session)
            await _ready(server, session)
            yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if drain is not None:
            await drain


async def _address(process: asyncio.subprocess.Process) -> str:
    seen: list[bytes] = []
    while line := await process.stderr.readline():
        seen.append(line)
        if match := _LISTENS.search(line):
            return match[1].decode()
    raise AssertionError(f"prometheus ended: {b''.join(seen).decode()}")


async def _ready(server: PrometheusServer, session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            async with session.get(f"{server.url}/-/ready") as response:
                if response.status == 200:
                    return
            await asyncio.sleep(0.05)  # between two questions
