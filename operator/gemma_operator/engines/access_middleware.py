"""Lets in who shows a key; runs inside the model server, not in the operator.

An ASGI middleware, loaded by the engine from the folder in which its keys lie too (vLLM: `--middleware
gemma_access.RequireKey`), so it imports nothing but the standard library. It answers before any route is looked up
and lets through only what it knows: a route that an engine gets tomorrow is guarded. vLLM's own `--api-key` guards
four prefixes and leaves the rest open, `/invocations` among it (0.32, entrypoints/serve/middleware/authenticate.py).

Two kinds of keys, neither kept in memory but as its SHA-256: the users', one a line of `user.key`, and the
operator's, of which only the hash is in the pod. A file is looked at for each request (a stat of a tmpfs costs
microseconds), so a key that was changed or taken away is so from the next request on.

The operator is let in by its own key whatever becomes of the users', so it would see nothing amiss where every user is
refused. Hence an answer to its key, and to no other, says how many keys of users there are: a number, and not the keys.
"""

import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

USER_KEYS = "user.key"
PROBE_KEY_HASH = "probe.sha256"
#: Of answers to the operator's key alone.
USER_KEYS_HEADER = "x-gemma-operator-user-keys"
#: Exactly these, as the router will see them, whatever the method. A longer path, another case or one with a
#: slash more is guarded, also where the engine would answer it all the same.
OPEN_PATHS = frozenset({"/health", "/ping", "/version", "/metrics"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNAUTHORIZED = 401
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1
_BODY = json.dumps(
    {
        "error": {
            "message": "No valid API key: send it as `Authorization: Bearer KEY`.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
).encode()
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_BODY)).encode()),
    (b"www-authenticate", b"Bearer"),
]


class RequireKey:
    """The middleware. Pure ASGI: of what the application answers, only the head to the operator is touched."""

    def __init__(self, app: Application, folder: Path = Path(__file__).parent) -> None:
        # the folder as it is named, never resolved: the kubelet swaps what the name stands for
        self._app = app
        self._users = _HashFile(folder / USER_KEYS, hashes_of_keys)
        self._operators = _HashFile(folder / PROBE_KEY_HASH, _hashes_themselves)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, or refuse."""
        if scope["type"] == "lifespan" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        key = _shown_key(scope)
        # both are asked, so that the time tells nobody whose key it was
        is_users, is_operators = self._users.knows(key), self._operators.knows(key)
        if is_operators:
            await self._app(scope, receive, self._counting(send))
        elif is_users:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, receive, send)

    def _counting(self, send: Send) -> Send:
        """Sends on, and says in the head of the answer how many keys of users there are at that moment."""
        name = USER_KEYS_HEADER.encode()

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                kept = [header for header in message.get("headers", ()) if header[0].lower() != name]
                count = str(len(set(self._users.hashes()))).encode()
                message = {**message, "headers": [*kept, (name, count)]}
            await send(message)

        return told


class _HashFile:
    """The hashes that one file holds; none where it is missing, empty or not to be read."""

    def __init__(self, path: Path, read: Callable[[bytes], tuple[bytes, ...]]) -> None:
        self._path = path
        self._read = read
        self._identity: tuple[int, int, int] | None = None
        self._hashes: tuple[bytes, ...] = ()

    def hashes(self) -> tuple[bytes, ...]:
        """As the file is now."""
        try:
            # before it is read: a file that is swapped in between is then read once more
            found = self._path.stat()
            identity = (found.st_ino, found.st_mtime_ns, found.st_size)
            if identity != self._identity:
                self._hashes = self._read(self._path.read_bytes())
                self._identity = identity
        except (OSError, ValueError):
            self._identity, self._hashes = None, ()
        return self._hashes

    def knows(self, key: bytes) -> bool:
        """Compared with all there are, in the same time whichever it is."""
        shown = hashlib.sha256(key).digest()
        found = False
        for known in self.hashes():
            found |= hmac.compare_digest(shown, known)
        return found and key != b""


def hashes_of_keys(text: bytes) -> tuple[bytes, ...]:
    """A key a line; blanks around it and empty lines are forgiven, for files end in a newline."""
    keys = (line.strip() for line in text.splitlines())
    return tuple(hashlib.sha256(key).digest() for key in keys if key)


def _hashes_themselves(text: bytes) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(word.decode()) for word in text.split())


def _is_open(scope: Scope) -> bool:
    """A root path is cut from the path before it is routed, so with one no path is what it looks like."""
    return scope["type"] == "http" and not scope.get("root_path") and scope["path"] in OPEN_PATHS


def _shown_key(scope: Scope) -> bytes:
    """The key of the one Authorization header; empty where there is none, another scheme, or more than one."""
    given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
    if len(given) != 1:
        return b""
    scheme, _, key = given[0].partition(b" ")
    shown: bytes = key.strip() if scheme.lower() == b"bearer" else b""
    return shown


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """As OpenAI's API says it. A websocket is closed before it opens, which servers answer with 403.

    Not by ASGI's `websocket.http.response`: uvicorn (0.54) logs an error for each, and an engine's log is for its own.
    """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    await send({"type": "http.response.start", "status": _UNAUTHORIZED, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})
