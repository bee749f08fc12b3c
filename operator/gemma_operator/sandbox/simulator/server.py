"""One simulated model server: what it is told, what it counts, what it answers.

Low-level aiohttp: a handler and a table instead of an application with forty routes, for there may be a
thousand of these in one process.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson
from aiohttp import web

from gemma_operator.sandbox.guarded import Guard
from gemma_operator.sandbox.simulator import replies, routes
from gemma_operator.sandbox.simulator.exposition import CONTENT_TYPE, Exposition
from gemma_operator.sandbox.simulator.instructions import Fault, Orders, ServerArguments

_MARK = {"X-Simulated": "true", "server": "vllm-simulated"}
#: What a guard adds to the head of an answer, which a stream has to know before its first event.
_ADDED = "gemma.added"
_identifiers = itertools.count(1)


class ModelServer:
    """The engine in one container, from its start to its end."""

    def __init__(self, arguments: ServerArguments, orders: Orders, *, guard: Guard | None = None) -> None:
        self._guard = guard
        self.arguments = arguments
        self.orders = orders
        self.started = False  # the engine is up: /health may say 200
        self._created = int(time.time())
        self._seats = asyncio.Semaphore(arguments.max_num_seqs)
        self._told_anew = asyncio.Event()
        self.metrics = Exposition(
            model=self.names[0],
            kv_cache_tokens=orders.kv_cache_tokens or 4 * arguments.max_model_len,
            max_model_len=arguments.max_model_len,
            shows_size=orders.kv_cache_tokens is not None,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The model names that are served."""
        if self.orders.fault is Fault.WRONG_MODEL:
            return tuple(f"not-{name}" for name in self.arguments.names)
        return self.arguments.names

    @property
    def healthy(self) -> bool:
        """Whether a GET of /health would be answered with 200."""
        faults = {Fault.UNHEALTHY, Fault.REFUSED, Fault.HANGING}
        return self.started and self.orders.fault not in faults

    def tell(self, orders: Orders) -> None:
        """New orders; requests that hang under the old ones look again."""
        self.orders = orders
        self._told_anew.set()
        self._told_anew = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        while self.orders.fault is Fault.HANGING:
            await self._told_anew.wait()
        if self._guard is None:
            return await self._let_in(request)
        judged = await self._guard.judge(request)
        if judged.refusal is not None:
            return judged.refusal
        request[_ADDED] = judged.adds
        response = await self._let_in(request)
        if not response.prepared:
            response.headers.update(judged.adds)
        return response

    async def _let_in(self, request: web.BaseRequest) -> web.StreamResponse:
        method, path = request.method, request.path
        allowed = routes.methods(path)
        if allowed is None:
            return _json({"detail": "Not Found", "simulated": True}, status=404)
        if method not in allowed:
            return _json({"detail": "Method Not Allowed", "simulated": True}, status=405)
        if (method, path) not in routes.SIMULATED:
            text = f"simulated: the sandbox's model server does not play {method} {path}"
            return _json({"error": {"message": text, "type": "NotImplementedError", "code": 501}}, status=501)
        if not self.started and path != "/health":
            # vLLM listens only when its engine is up; until then nobody answers.
            return _json({"detail": "simulated: still starting"}, status=503)
        self.metrics.count_request(handler=path, method=method)
        return await self._answer(request, path)

    async def _answer(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        match path:
            case "/health":
                return web.Response(status=200 if self.healthy else 503, headers=_MARK)
            case "/metrics":
                return web.Response(
                    body=self.metrics.render(), headers={**_MARK, "Content-Type": CONTENT_TYPE}
                )
            case "/version":
                return _json({"version": replies.VERSION, "simulated": True})
            case "/v1/models":
                length = self.arguments.max_model_len
                return _json(replies.models(self.names, created=self._created, max_model_len=length))
            case _:
                return await self._complete(request, chat=path == "/v1/chat/completions")

    async def _complete(self, request: web.BaseRequest, *, chat: bool) -> web.StreamResponse:
        if self.orders.fault is Fault.ERROR_500:
            self.metrics.add("vllm:request_success_total", finished_reason="error")
            error = {"message": "EngineCore encountered an issue (simulated)", "type": "InternalServerError"}
            return _json({"error": {**error, "param": None, "code": 500}}, status=500)
        try:
            asked = replies.ask(
                _decoded(await request.read()),
                chat=chat,
                names=self.names,
                max_model_len=self.arguments.max_model_len,
            )
        except replies.BadRequest as refusal:
            return _json(refusal.body, status=refusal.status)
        identifier = f"simulated-{next(_identifiers)}"
        if asked.stream:
            return await self._stream(request, asked, identifier)
        tokens = 0
        async for _ in self._generate(asked):
            tokens += 1
        return _json(replies.whole(asked, identifier=identifier, created=int(time.time()), tokens=tokens))

    async def _stream(
        self, request: web.BaseRequest, asked: replies.Ask, identifier: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                **_MARK,
                "Content-Type": "text/event-stream; charset=utf-8",
                **request.get(_ADDED, {}),
            }
        )
        await response.prepare(request)
        head: dict[str, Any] = {"identifier": identifier, "created": int(time.time())}
        tokens = 0
        if asked.chat:
            await response.write(_event(replies.chunk(asked, **head, text="", first=True)))
        async for text in self._generate(asked):
            tokens += 1
            await response.write(_event(replies.chunk(asked, **head, text=text)))
        await response.write(_event(replies.chunk(asked, **head, text="", finish_reason=asked.finish_reason)))
        if asked.include_usage:
            await response.write(_event(replies.usage_chunk(asked, **head, tokens=tokens)))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _generate(self, asked: replies.Ask) -> AsyncIterator[str]:
        """The tokens of one answer, counted as an engine counts them."""
        arrived = time.monotonic()
        self.metrics.add("vllm:num_requests_waiting")
        try:
            await self._seats.acquire()
        finally:
            self.metrics.add("vllm:num_requests_waiting", -1)
        run = _Run(self.metrics, asked, arrived=arrived)
        try:
            for index in range(asked.max_tokens):
                await self._next_token()
                if self.orders.fault is Fault.NO_TOKEN:
                    break
                run.token()
                yield replies.word(index)
            run.finish(asked.finish_reason)
        finally:
            run.end()
            self._seats.release()

    async def _next_token(self) -> None:
        while self.orders.fault in {Fault.WEDGED, Fault.HANGING}:
            await self._told_anew.wait()
        if self.orders.token_seconds:
            await asyncio.sleep(self.orders.token_seconds)


class _Run:
    """The bookkeeping of one running request."""

    def __init__(self, metrics: Exposition, asked: replies.Ask, *, arrived: float) -> None:
        self._metrics = metrics
        self._asked = asked
        self._arrived = arrived
        self._began = self._last = time.monotonic()
        self._tokens = 0
        self._finished = False
        metrics.add("vllm:num_requests_running")
        metrics.add("vllm:prompt_tokens_total", asked.prompt_tokens)
        metrics.add("vllm:prompt_tokens_by_source_total", asked.prompt_tokens, source="local_compute")
        metrics.add("vllm:prefix_cache_queries_total", asked.prompt_tokens)
        metrics.observe("vllm:request_queue_time_seconds", self._began - arrived)
        metrics.hold(asked.prompt_tokens)

    def token(self) -> None:
        """One more token is out."""
        now = time.monotonic()
        if self._tokens == 0:
            self._metrics.observe("vllm:time_to_first_token_seconds", now - self._arrived)
        else:
            self._metrics.observe("vllm:inter_token_latency_seconds", now - self._last)
        self._last = now
        self._tokens += 1
        self._metrics.add("vllm:generation_tokens_total")
        self._metrics.hold(1)

    def finish(self, reason: str) -> None:
        """The answer is complete."""
        self._finished = True
        now, metrics, asked = time.monotonic(), self._metrics, self._asked
        metrics.add("vllm:request_success_total", finished_reason=reason)
        metrics.observe("vllm:request_prompt_tokens", asked.prompt_tokens)
        metrics.observe("vllm:request_generation_tokens", self._tokens)
        metrics.observe("vllm:request_params_max_tokens", asked.max_tokens)
        metrics.observe("vllm:e2e_request_latency_seconds", now - self._arrived)
        metrics.observe("vllm:request_inference_time_seconds", now - self._began)

    def end(self) -> None:
        """The request left the engine, finished or not."""
        if not self._finished:
            self._metrics.add("vllm:request_success_total", finished_reason="abort")
        self._metrics.add("vllm:num_requests_running", -1)
        self._metrics.hold(-(self._asked.prompt_tokens + self._tokens))


def _decoded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise replies.BadRequest(400, "BadRequestError", f"the body is not JSON: {error}") from error


def _json(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", headers=_MARK
    )


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"
