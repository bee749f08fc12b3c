"""A model server on a loopback port, with the faults that a probe must see through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

METRICS = """\
vllm:num_requests_running{{engine="0",model_name="{model}"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="{model}"}} {waiting}
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} 0.0
vllm:prompt_tokens_total{{engine="0",model_name="{model}"}} {prompt}
vllm:generation_tokens_total{{engine="0",model_name="{model}"}} {generated}
vllm:request_success_total{{engine="0",finished_reason="length",model_name="{model}"}} {requests}
"""


@dataclass
class Server:
    """Counts as an engine does; each fault is an attribute."""

    model: str = "chat"
    answers_as: str = "chat"
    status: int = 200
    endless: bool = False
    #: Tokens for others, whenever somebody asks.
    tokens_meanwhile: int = 0
    tokens: int = 1
    running: int = 0
    waiting: int = 0
    prompt: int = 0
    generated: int = 0
    requests: int = 0
    asked: int = 0
    scraped: int = 0
    asking_now: int = 0
    most_at_once: int = 0
    port: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    #: What a guard says of the users' keys; None: there is none that counts.
    user_keys: int | None = None
    #: Answers that cost no token.
    listed: int = 0
    #: While clear, questions hang.
    open: asyncio.Event = field(default_factory=asyncio.Event)
    #: While clear, scrapes hang.
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[object] = field(default_factory=set)

    @property
    def said(self) -> dict[str, str]:
        return {} if self.user_keys is None else {"X-Gemma-Operator-User-Keys": str(self.user_keys)}

    async def models(self, request: web.Request) -> web.Response:
        self.listed += 1
        self.connections.add(request.transport)
        self.headers.append(dict(request.headers))
        return web.json_response({"data": []}, headers=self.said)

    async def complete(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.connections.add(request.transport)
        self.headers.append(dict(request.headers))
        self.asking_now += 1
        self.generated += self.tokens_meanwhile
        self.most_at_once = max(self.most_at_once, self.asking_now)
        try:
            await self.open.wait()
        finally:
            self.asking_now -= 1
        if self.endless:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:  # until the client hangs up
                await response.write(b"x" * 65536)
        if self.status != 200:
            error = {"error": {"message": "EngineDeadError"}}
            return web.json_response(error, status=self.status, headers=self.said)
        self.generated += self.tokens
        self.requests += 1
        message = {"role": "assistant", "content": "4" if self.tokens else ""}
        return web.json_response(
            {
                "model": self.answers_as,
                "choices": [{"message": message, "finish_reason": "length"}],
                "usage": {"completion_tokens": self.tokens},
            },
            headers=self.said,
        )

    async def metrics(self, request: web.Request) -> web.Response:
        self.scraped += 1
        self.connections.add(request.transport)
        await self.seen.wait()
        text = METRICS.format(
            model=self.model,
            running=self.running,
            waiting=self.waiting,
            prompt=self.prompt,
            generated=self.generated,
            requests=self.requests,
        )
        return web.Response(text=text)


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers; each stops at the end, or by `await server.stop()`."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**what: object) -> Server:
            server = Server(**what)
            server.open.set()
            server.seen.set()
            app = web.Application()
            app.router.add_post("/v1/chat/completions", server.complete)
            app.router.add_post("/v1/completions", server.complete)
            app.router.add_get("/v1/models", server.models)
            app.router.add_get("/metrics", server.metrics)
            runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.port = site._server.sockets[0].getsockname()[1]
            server.stop = runner.cleanup
            stack.push_async_callback(runner.cleanup)
            return server

        yield begin
