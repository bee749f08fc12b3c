"""The counting of the scenes' load: what a server does to a request decides where it is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from engine.scenes.load import Asking, Load, Report

TOKENS = 5


class Server:
    """Answers as an engine would, but for the faults that it is told, one a request."""

    def __init__(self, *faults: str) -> None:
        self._faults = list(faults)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One completion, or what the next fault makes of it."""
        fault = self._faults.pop(0) if self._faults else ""
        asked = await request.json()
        if fault == "close":
            assert request.transport is not None
            request.transport.close()
        if fault == "error":
            return web.json_response({"error": "engine is dead"}, status=500)
        made = 1 if fault == "short" else TOKENS
        if not asked["stream"]:
            return web.json_response({"usage": {"completion_tokens": made}})
        return await self._streamed(request, made, fault)

    @staticmethod
    async def _streamed(request: web.Request, made: int, fault: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(
            b"data: " + json.dumps({"usage": {"completion_tokens": made}}).encode() + b"\n\n"
        )
        if fault == "cut":
            assert request.transport is not None
            request.transport.close()
            return response
        if fault != "unended":
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/completions", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v1"
    finally:
        await runner.cleanup()


async def loaded(server: Server, *, pooled: bool, stream: bool, requests: int) -> Report:
    """What becomes of so many requests of one client."""
    async with serving(server) as url:
        load = Load(Asking(url, "tiny", TOKENS), most=requests)
        load.mark("begin")
        await load.client(pooled=pooled, stream=stream)
        load.mark("end")
        return load.summed_up()


def outcome(report: Report) -> tuple[int, int, int]:
    return report.answered, report.retried, report.lost


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        (("", "", ""), (3, 0, 0)),
        (("", "close", "", ""), (2, 1, 0)),
        (("close", "close", "", ""), (2, 0, 1)),
        (("error", "", ""), (2, 0, 1)),
        (("close", "error", ""), (2, 0, 1)),
        (("short", "", ""), (2, 0, 1)),
    ],
)
def test_each_request_is_counted_once(
    pooled: bool, stream: bool, faults: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    report = asyncio.run(loaded(Server(*faults), pooled=pooled, stream=stream, requests=3))
    assert outcome(report) == expected
    assert report.met == 3


@pytest.mark.parametrize("fault", ["cut", "unended"])
def test_a_stream_that_began_and_did_not_end_is_lost(fault: str) -> None:
    report = asyncio.run(loaded(Server(fault), pooled=True, stream=True, requests=2))
    assert outcome(report) == (1, 0, 1), report.troubles
