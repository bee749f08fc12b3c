"""How an engine is spoken to over HTTP: bounded in time and size, and no error of a pod gets further.

A look is one visit over one connection, closed at its end. uvicorn closes an idle connection after 5 s, long
before the next look, and one that closes under a request looks like a failure. Nor is there a pool over
all engines: httpx looks at every pooled connection at each request, which at 64 connections was a third
of what a look costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx

from gemma_operator.engines.base import MetricNames
from gemma_operator.errors import EngineError
from gemma_operator.probing.answers import hear, judge
from gemma_operator.probing.exposition import EngineSample, sample
from gemma_operator.probing.facts import FailureKind, Heard, ProbeResult
from gemma_operator.scrub import excerpt
from gemma_operator.settings import OperatorSettings

#: vLLM 0.32 exposes 55 kB; a body beyond this is not read to its end.
_LARGEST_SCRAPE_BYTES = 4 * 1024 * 1024
_LARGEST_ANSWER_BYTES = 256 * 1024
#: A scrape waits for no queue: an engine that needs longer is not well.
_SCRAPE_TIMEOUT_SECONDS = 5.0
#: Longer than two lost packets cost (1 and 3 s): a way that is closed is told from an engine that does not answer.
_CONNECT_TIMEOUT_SECONDS = 5.0
_OK = 200
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "gemma-operator"}


class _TooLargeError(Exception):
    """A body went on and on."""


#: What may go wrong between here and an answer. An address or a header that cannot be sent is no bug of
#: ours either, and must not end the probing of all others.
_FAILURES = (TimeoutError, httpx.HTTPError, httpx.InvalidURL, UnicodeError, _TooLargeError)


class Wire:
    """Makes visits. A client that is given (by tests, or for a proxy) is used as it is and not closed."""

    def __init__(self, *, settings: OperatorSettings, http: httpx.AsyncClient | None = None) -> None:
        self._timeout_seconds = settings.probe_timeout_seconds
        self._http = http
        # engines speak plain HTTP; a context for each connection would be most of its cost
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @contextlib.asynccontextmanager
    async def visit(self) -> AsyncIterator[Visit]:
        """One look at one engine, over one connection."""
        if self._http is not None:
            yield Visit(
                functools.partial(self._http.send, stream=True), timeout_seconds=self._timeout_seconds
            )
            return
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            yield Visit(transport.handle_async_request, timeout_seconds=self._timeout_seconds)


class Visit:
    """Scrapes and questions; what goes wrong comes back as a value."""

    def __init__(
        self, send: Callable[[httpx.Request], Awaitable[httpx.Response]], *, timeout_seconds: float
    ) -> None:
        self._send = send
        self._timeout_seconds = timeout_seconds
        connect_seconds = min(_CONNECT_TIMEOUT_SECONDS, timeout_seconds / 2)
        self._extensions = {"timeout": {"connect": connect_seconds}}

    async def scrape(self, url: str, names: MetricNames) -> EngineSample | None:
        """The engine's counters, or None where they cannot be had: the question then says why."""
        try:
            request = httpx.Request("GET", url, headers=_HEADERS, extensions=self._extensions)
            async with asyncio.timeout(min(self._timeout_seconds, _SCRAPE_TIMEOUT_SECONDS)):
                status, _, body = await self._exchange(request, _LARGEST_SCRAPE_BYTES)
            return sample(body, names) if status == _OK else None
        except (*_FAILURES, EngineError):
            return None

    async def ask(
        self,
        url: str,
        *,
        body: str,
        headers: tuple[tuple[str, str], ...],
        model_name: str,
        generated_tokens: Callable[[Mapping[str, Any]], int],
    ) -> ProbeResult:
        """One token, asked for and judged."""
        started = time.monotonic()
        try:
            request = httpx.Request(
                "POST",
                url,
                content=body,
                headers={**_HEADERS, "content-type": "application/json", **dict(headers)},
                extensions=self._extensions,
            )
            async with asyncio.timeout(self._timeout_seconds):
                status, head, answer = await self._exchange(request, _LARGEST_ANSWER_BYTES)
        except _FAILURES as error:
            return self._failed(error, seconds=time.monotonic() - started)
        result = judge(
            status=status,
            body=answer,
            model_name=model_name,
            generated_tokens=generated_tokens,
            seconds=time.monotonic() - started,
        )
        return replace(result, heard=hear(head))

    async def hear(self, url: str, *, headers: tuple[tuple[str, str], ...]) -> Heard | None:
        """What the guard says, in an answer that costs no token; None where none came."""
        try:
            request = httpx.Request(
                "GET", url, headers={**_HEADERS, **dict(headers)}, extensions=self._extensions
            )
            async with asyncio.timeout(min(self._timeout_seconds, _SCRAPE_TIMEOUT_SECONDS)):
                _, head, _ = await self._exchange(request, _LARGEST_ANSWER_BYTES)
        except _FAILURES:
            return None
        return hear(head)

    async def _exchange(self, request: httpx.Request, largest_bytes: int) -> tuple[int, httpx.Headers, bytes]:
        response = await self._send(request)
        try:
            parts: list[bytes] = []
            room = largest_bytes
            async for part in response.aiter_raw():
                room -= len(part)
                if room < 0:
                    raise _TooLargeError
                parts.append(part)
            return response.status_code, response.headers, b"".join(parts)
        finally:
            await response.aclose()

    def _failed(self, error: Exception, *, seconds: float) -> ProbeResult:
        if isinstance(error, _TooLargeError):
            detail = f"the answer is larger than {_LARGEST_ANSWER_BYTES} bytes"
            return ProbeResult(FailureKind.BROKEN, detail=detail, seconds=seconds)
        if isinstance(error, TimeoutError):
            detail = f"no answer in {self._timeout_seconds:g} s"
            return ProbeResult(FailureKind.TIMEOUT, detail=detail, seconds=seconds)
        if isinstance(error, UnicodeError):
            # its text would show the header
            return ProbeResult(FailureKind.UNREACHABLE, detail="a header cannot be sent", seconds=seconds)
        return ProbeResult(_kind(error), detail=excerpt(str(error) or type(error).__name__), seconds=seconds)


def _kind(error: Exception) -> FailureKind:
    """What a transport error means; httpx keeps the system's own error as a cause some levels down."""
    if isinstance(error, httpx.ConnectTimeout | httpx.InvalidURL | httpx.UnsupportedProtocol):
        return FailureKind.UNREACHABLE
    if isinstance(error, httpx.TimeoutException):
        return FailureKind.TIMEOUT
    if isinstance(error, httpx.ConnectError):
        return FailureKind.REFUSED if _was_refused(error) else FailureKind.UNREACHABLE
    # it broke off in the middle: a server that goes down is like one that is gone
    return FailureKind.REFUSED


def _was_refused(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False
