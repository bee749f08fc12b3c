"""The door of one server: open on the pod's own address, closed when the pod goes: "refused" is true."""

from __future__ import annotations

import asyncio
import errno

from aiohttp import web

from gemma_operator.sandbox.simulator.server import ModelServer

_BIND_LIMIT_SECONDS = 30
_AT_ONCE_SECONDS = 0.01  # aiohttp takes 0 for "for ever"
#: Of the event loop, from accept() until aiohttp waits for a request. Closed before that a connection is never
#: answered: asyncio 3.11 asserts that its server is open, and aiohttp closes only who waits already.
_TURNS_TO_LET_IN = 5


class Listener:
    """A listening socket that can be opened and closed again."""

    def __init__(self, server: ModelServer, *, host: str, port: int) -> None:
        self._server = server
        self._host = host
        self._port = port
        self._web: web.Server | None = None
        self._socket: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        """Whether a connection would be accepted."""
        return self._socket is not None

    async def open(self) -> None:
        """Listen. An address may still be held for a moment by the pod that had it before."""
        if self._socket is not None:
            return
        self._web = web.Server(self._server.handle, access_log=None, handler_cancellation=True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _BIND_LIMIT_SECONDS
        while self._socket is None:
            try:
                await self._listen(loop, self._web)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or loop.time() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def close(self, *, drain_seconds: float = 0) -> None:
        """Refuse from now on; requests that run may end within `drain_seconds`."""
        await self._refuse()
        if self._web is not None:
            server, self._web = self._web, None
            server.pre_shutdown()  # idle connections go at once: a pooled one must not reach a pod that is gone
            await server.shutdown(max(drain_seconds, _AT_ONCE_SECONDS))

    async def _listen(self, loop: asyncio.AbstractEventLoop, server: web.Server) -> None:
        """Bound first and kept, then listening: who is cancelled in between leaves nothing that nobody closes."""
        self._socket = await loop.create_server(
            server, self._host, self._port, backlog=1024, start_serving=False
        )
        try:
            await self._socket.start_serving()
        except OSError:
            self._socket.close()
            self._socket = None
            raise

    async def _refuse(self) -> None:
        """Lets nobody in, then waits until whoever was let in is served, and only then closes the socket."""
        if self._socket is None:
            return
        closing, self._socket = self._socket, None
        loop = asyncio.get_running_loop()
        for listening in closing.sockets:
            loop.remove_reader(listening.fileno())
        try:
            for _ in range(_TURNS_TO_LET_IN):
                await asyncio.sleep(0)
        finally:
            closing.close()
