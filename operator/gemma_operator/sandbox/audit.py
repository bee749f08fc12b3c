"""Who asked the API server for what, read from its audit log: tests count requests with this.

The log is written when a request is complete, so a mark is made by a request of our own: everything that was
answered before it is in the log when its line is.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from gemma_operator.errors import NotFound, SandboxError
from gemma_operator.sandbox.client import Client

READS = frozenset({"get", "list", "watch"})
_LIMIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `resource` holds the subresource too (`pods/status`); it is empty for other paths."""

    user: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int

    @property
    def is_write(self) -> bool:
        """Whether it could change something."""
        return self.verb not in READS


def mark(log: Path, client: Client) -> int:
    """A position in the log behind everything that was answered by now."""
    token = f"mark-{uuid.uuid4().hex}"
    start = log.stat().st_size if log.exists() else 0
    with contextlib.suppress(NotFound):  # meant to be: only its line counts
        client.get(f"/api/v1/namespaces/{token}")
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (found := _position_after(log, token.encode(), start)) is None:
        if time.monotonic() > deadline:
            raise SandboxError(f"{log} shows no request after {_LIMIT_SECONDS} s: is its disk full?")
        time.sleep(0.02)
    return found


def requests(log: Path, *, user: str, since: int = 0, until: int | None = None) -> list[Request]:
    """The requests of one user between two marks."""
    return [request for request in _read(log, since, until) if request.user == user]


def _read(log: Path, since: int, until: int | None) -> Iterator[Request]:
    with log.open("rb") as file:
        file.seek(since)
        data = file.read() if until is None else file.read(until - since)
    for line in data.splitlines():
        if line.endswith(b"}"):  # the last one may be half written
            record = orjson.loads(line)
            about = record.get("objectRef") or {}
            parts = (about.get("resource"), about.get("subresource"))
            yield Request(
                user=record["user"]["username"],
                verb=record["verb"],
                resource="/".join(part for part in parts if part),
                namespace=about.get("namespace", ""),
                name=about.get("name", ""),
                code=(record.get("responseStatus") or {}).get("code", 0),
            )


def _position_after(log: Path, token: bytes, start: int) -> int | None:
    with log.open("rb") as file:
        file.seek(start)
        data = file.read()
    found = data.find(token)
    end = data.find(b"\n", found) if found >= 0 else -1
    return start + end + 1 if end >= 0 else None
