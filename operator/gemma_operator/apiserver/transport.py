"""How one request is sent: over the shared session, again after a new login, and its failure as an error.

A request is a value that is built first and sent here, so that the client says what and this room says how.
Kept out: which calls there are (`client`), and waiting after a failure (whoever calls).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from gemma_operator.apiserver import answers
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.errors import Unauthorized, Unreachable

#: Called with the HTTP method and the status code of each answer; 0 where there was none.
OnRequest = Callable[[str, int], None]

_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `doing` names it in messages: "list pods", "apply services team/chat"."""

    method: str
    path: str
    doing: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    #: For the whole answer; None for a stream, which ends by silence.
    timeout_seconds: float | None = 30.0
    #: The longest silence within an answer.
    inactivity_seconds: float | None = None
    #: Called each time that it is about to be sent, after every login; what it raises keeps it here.
    before_sending: Callable[[], None] = lambda: None


class Transport:
    """Sends requests. Everything that can go wrong comes out as an ApiError."""

    def __init__(self, holder: SessionHolder, *, on_request: OnRequest | None = None) -> None:
        self._holder = holder
        self._on_request = on_request or (lambda _method, _code: None)

    async def call(self, request: Request) -> dict[str, Any]:
        """The decoded answer."""
        async with self.open(request) as response:
            return decoded(await response.read(), request.doing)

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer below 400, its body not read yet."""
        try:
            async with await self._send(request) as response:
                if response.status >= 400:
                    raise answers.error_from(
                        response.status,
                        await response.read(),
                        doing=request.doing,
                        retry_after=response.headers.get("Retry-After"),
                    )
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._on_request(request.method, 0)
            raise Unreachable(
                f"{request.doing}: no answer from {self._holder.server}: {str(error) or type(error).__name__}"
            ) from error

    async def _send(self, request: Request) -> aiohttp.ClientResponse:
        session = await self._holder.current()
        try:
            response = await self._send_over(session, request)
        except (RuntimeError, aiohttp.ClientError):
            if not session.closed:
                raise
            # kopf closed it at a 401 of its own; every call is safe to send twice: an apply is idempotent,
            # a create or an update that did arrive comes back as a Conflict
            session = await self._holder.current()
            response = await self._send_over(session, request)
        if response.status == 401:
            try:
                fresh = await self._holder.renew(session)
            except Unauthorized:
                return response
            response.release()
            response = await self._send_over(fresh, request)
        self._on_request(request.method, response.status)
        return response

    async def _send_over(self, session: aiohttp.ClientSession, request: Request) -> aiohttp.ClientResponse:
        request.before_sending()
        return await session.request(
            request.method,
            self._holder.server + request.path,
            params=request.params,
            headers=request.headers,
            data=request.body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=request.timeout_seconds,
                sock_connect=_CONNECT_SECONDS,
                sock_read=request.inactivity_seconds,
            ),
        )


def decoded(body: bytes, doing: str) -> dict[str, Any]:
    """A JSON object; anything else is as good as no answer."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreachable(f"{doing}: the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise Unreachable(f"{doing}: the answer is not an object")
    return answer


async def lines(response: aiohttp.ClientResponse, doing: str) -> AsyncIterator[bytes]:
    """Lines of any length: aiohttp's own iteration fails beyond 128 KiB, and a big object is one line."""
    buffer = bytearray()
    async for chunk in response.content.iter_any():
        searched = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if line:
                yield line
    if buffer.strip():
        raise Unreachable(f"{doing}: the stream was cut in the middle of an event")
