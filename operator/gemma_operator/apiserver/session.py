"""The one HTTP session to the API server, shared with kopf, and what happens when it goes stale.

kopf closes the session that it was given at any 401 and asks `on.login` for another. So nobody keeps a
session: callers ask the holder before each call and, on a 401 or a session closed under them, ask once more.
`Authorization` is set by a client middleware at the moment of sending, so a renewed token needs no 401.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from gemma_operator.apiserver.credentials import Connection, Source
from gemma_operator.errors import Unauthorized

_USER_AGENT = "gemma-operator"
#: A token that is refused again right after a login is refused for good: say so instead of spinning.
_RENEW_AT_MOST_EVERY_SECONDS = 1.0


class SessionHolder:
    """Opens, renews and closes the session. One for each process and event loop."""

    def __init__(self, source: Source, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._lock = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._retired: list[aiohttp.ClientSession] = []
        self._kopfs: aiohttp.ClientSession | None = None
        self._server = ""
        self._renewed_at = float("-inf")

    @property
    def server(self) -> str:
        """The server's address; empty before the first login."""
        return self._server

    async def current(self) -> aiohttp.ClientSession:
        """An open session. Raises UsageError where the credentials cannot be read."""
        session = self._session
        if session is not None and not session.closed:
            return session
        async with self._lock:
            if self._session is None or self._session.closed:
                await self._open()
            assert self._session is not None
            return self._session

    async def renew(self, stale: aiohttp.ClientSession) -> aiohttp.ClientSession:
        """A session other than `stale`, with credentials read anew. Many callers get the same one."""
        async with self._lock:
            if self._session is stale or self._session is None or self._session.closed:
                if self._clock() - self._renewed_at < _RENEW_AT_MOST_EVERY_SECONDS:
                    raise Unauthorized(
                        "the API server refused the credentials that were just read", status=401
                    )
                self._renewed_at = self._clock()
                await self._open()
            assert self._session is not None
            return self._session

    async def for_kopf(self) -> aiohttp.ClientSession:
        """A session that kopf has not had yet: it asks only when it has none, or after a 401."""
        session = await self.current()
        if session is self._kopfs:
            session = await self.renew(session)
        self._kopfs = session
        await self._close_retired()
        return session

    async def close(self) -> None:
        """Closes everything, also what kopf did not close."""
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None
        self._kopfs = None
        await self._close_retired()

    async def _open(self) -> None:
        connection = await asyncio.to_thread(self._source)
        if self._session is not None and not self._session.closed:
            # calls are under way on it, and kopf may hold it: closed when kopf has logged in again
            self._retired.append(self._session)
        self._server = connection.server
        self._session = _session(connection)

    async def _close_retired(self) -> None:
        keep = [session for session in self._retired if session is self._kopfs]
        for session in self._retired:
            if session not in keep and not session.closed:
                await session.close()
        self._retired = keep


def _session(connection: Connection) -> aiohttp.ClientSession:
    async def authorize(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        value = await connection.authorization()
        if value:
            request.headers["Authorization"] = value
        if connection.tls_server_name:
            request.server_hostname = connection.tls_server_name
        return await handler(request)

    tls = True if connection.ssl_context is None else connection.ssl_context
    return aiohttp.ClientSession(
        # no limit of connections: the queue's workers are the limit, and watches stay open
        connector=aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": _USER_AGENT, "Accept": "application/json"},
        middlewares=(authorize,),
        proxy=connection.proxy or None,
    )
