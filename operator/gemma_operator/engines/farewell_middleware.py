"""Moves clients over before the engine goes; runs inside the model server, not in the operator.

An ASGI middleware (vLLM: `--middleware gemma_farewell.Farewell`), so it imports nothing but the standard library.

Whoever keeps a connection to a pod goes on asking there, also when the pod is no longer behind its Service: proxies
choose at connect. vLLM 0.32 cannot answer that once it has SIGTERM: it shuts what renders prompts down first and its
HTTP server last (AsyncLLM.shutdown, v1/engine/async_llm.py; serve_http, entrypoints/launchers/launcher.py), so a new
request on a kept connection gets 500 "cannot schedule new futures after shutdown". Hence, told by the pod's preStop
hook (`farewell_hook`) through a file: every answer says `Connection: close`, and when nobody connects any more the
connections that are left are closed as uvicorn itself closes them: at once where nothing runs, else after the answer.

A stream sends its head first, when nobody knows yet whether the engine will still be wanted at its end. So each stream
ends its connection: a client that hears at the end that it may not go on has often sent its next request already.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

#: In the pod's own memory, which all of its containers' lives share.
FILE = Path("/dev/shm/gemma-operator-farewell")  # noqa: S108 - a mount of the pod's own
UNROUTED = b"unrouted"
#: Still answered then: the hook's own question, probes and scrapes.
ANSWERED = frozenset({"/health", "/ping", "/version", "/metrics"})

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_CLOSE = (b"connection", b"close")
_STREAM = b"text/event-stream"
_UNAVAILABLE = 503
_BODY = json.dumps(
    {
        "error": {
            "message": "This replica is going. Send the request again on a new connection.",
            "type": "service_unavailable",
            "param": None,
            "code": None,
        }
    }
).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"retry-after", b"1"),
]


class Farewell:
    """The middleware. Pure ASGI: what the application streams is not touched."""

    def __init__(self, app: Application, file: Path = FILE) -> None:
        self._app = app
        self._file = file
        with contextlib.suppress(OSError):
            file.unlink()  # of a container that was here before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and say with it whether the connection is to be kept."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                if _is_stream(headers) or self._file.exists():
                    kept = [header for header in headers if header[0].lower() != _CLOSE[0]]
                    message = {**message, "headers": [*kept, _CLOSE]}
            await send(message)

        if self._is_unrouted():
            _close_connections(scope)
            if scope["path"] not in ANSWERED:
                await told({"type": "http.response.start", "status": _UNAVAILABLE, "headers": _HEADERS})
                await send({"type": "http.response.body", "body": _BODY})
                return
        await self._app(scope, receive, told)

    def _is_unrouted(self) -> bool:
        try:
            return self._file.read_bytes() == UNROUTED
        except OSError:
            return False


def _is_stream(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(_STREAM) for name, value in headers)


def _close_connections(scope: Scope) -> None:
    """uvicorn's own graceful end of each (Server.shutdown, 0.54), which vLLM reaches too late.

    Those that were upgraded have no cycle of request and answer; they are left to the engine's end.
    """
    server = getattr(getattr(scope.get("app"), "state", None), "server", None)
    for connection in list(getattr(getattr(server, "server_state", None), "connections", ())):
        if hasattr(connection, "cycle"):
            connection.shutdown()
