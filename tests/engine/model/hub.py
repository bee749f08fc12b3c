"""A stand-in for the Hugging Face hub, for one model at one commit: what `huggingface_hub` 2.4 asks of it.

Answers `GET /api/models/…/revision/…` and `…/tree/…`, and HEAD and GET of `/…/resolve/…/FILE`, with the headers that
the client keeps its cache by: `etag`, `x-repo-commit`, `accept-ranges`. Each fault is one that a team meets: a
repository that asks for a licence, too many requests, a repository or a commit that is not there, a slow line, a line
that breaks once. Two repositories beside the model's own have the same files and a fault for ever, so that one hub can
show several at once.

`python -m engine.model.hub FOLDER --host ADDRESS --port PORT [--fault NAME] …` serves until it is ended.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiohttp import web

REPO = "gemma-operator-tests/tiny-gemma-4"
REVISION = "7e57000000000000000000000000000000000004"
GATED_REPO, BUSY_REPO = "gemma-operator-tests/gated", "gemma-operator-tests/busy"
_PIECE_BYTES = 64 * 1024


class Fault(StrEnum):
    """What is wrong with the hub."""

    NONE = "none"
    #: Without the token 401, with another one 403.
    GATED = "gated"
    RATE_LIMITED = "rate-limited"
    SLOW = "slow"
    #: Each file's first answer ends half-way.
    CUT = "cut"


@dataclass
class Hub:
    """One model. A test may change the fault of its repository while it runs, and read what was asked."""

    folder: Path
    fault: Fault = Fault.NONE
    token: str = "hf_stand_in_token"
    retry_after_seconds: int = 1
    bytes_per_second: int = 1024 * 1024
    asked: list[str] = field(default_factory=list)
    _cut: set[str] = field(default_factory=set)

    def application(self) -> web.Application:
        """The routes, to be served by whom it may concern."""
        application = web.Application(middlewares=[self._refuse])
        application.router.add_get("/api/models/{owner}/{name}", self._information)
        application.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._information)
        application.router.add_get("/api/models/{owner}/{name}/tree/{revision}", self._tree)
        application.router.add_get("/{owner}/{name}/resolve/{revision}/{file:.+}", self._file)
        return application

    @web.middleware
    async def _refuse(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        repo, shown = _repo(request), request.headers.get("Authorization")
        faults = {REPO: self.fault, GATED_REPO: Fault.GATED, BUSY_REPO: Fault.RATE_LIMITED}
        if repo not in faults:
            # who shows no token is not told whether it is missing or private
            raise _error(404 if shown else 401, "RepoNotFound", "Repository not found")
        if faults[repo] is Fault.RATE_LIMITED:
            raise web.HTTPTooManyRequests(headers={"Retry-After": str(self.retry_after_seconds)})
        if faults[repo] is Fault.GATED and shown != f"Bearer {self.token}":
            raise _error(403 if shown else 401, "GatedRepo", f"{repo} is gated")
        response: web.StreamResponse = await handler(request)
        return response

    async def _information(self, request: web.Request) -> web.Response:
        _check_revision(request)
        siblings = [{"rfilename": path.name, "size": path.stat().st_size} for path in self._files()]
        repo = _repo(request)
        about = {"id": repo, "modelId": repo, "sha": REVISION, "private": False, "gated": False}
        return web.json_response({**about, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        _check_revision(request)
        files = self._files()
        return web.json_response(
            [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path)}
                for path in files
            ]
        )

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file())

    async def _file(self, request: web.Request) -> web.StreamResponse:
        _check_revision(request)
        path = self.folder / request.match_info["file"]
        if path.parent != self.folder or not path.is_file():
            raise _error(404, "EntryNotFound", "no such file")
        headers = {"ETag": f'"{_etag(path)}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(path.stat().st_size)})
        return await self._sent(request, path.read_bytes(), headers)

    async def _sent(
        self, request: web.Request, content: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        wanted = request.http_range
        start = wanted.start or 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start : wanted.stop]
        response = web.StreamResponse(
            status=206 if start else 200, headers={**headers, "Content-Length": str(len(rest))}
        )
        await response.prepare(request)
        for index in range(0, len(rest), _PIECE_BYTES):
            if self._breaks(request.path, index, len(rest)):
                assert request.transport is not None
                request.transport.abort()
                return response
            piece = rest[index : index + _PIECE_BYTES]
            await response.write(piece)
            if self.fault is Fault.SLOW:
                await asyncio.sleep(len(piece) / self.bytes_per_second)
        return response

    def _breaks(self, path: str, sent_bytes: int, of_bytes: int) -> bool:
        if self.fault is not Fault.CUT or path in self._cut or sent_bytes * 2 < of_bytes or not sent_bytes:
            return False
        self._cut.add(path)
        return True


def _repo(request: web.Request) -> str:
    return "/".join(request.match_info.get(part, "") for part in ("owner", "name"))


def _check_revision(request: web.Request) -> None:
    if request.match_info.get("revision", "main") not in ("main", REVISION):
        raise _error(404, "RevisionNotFound", "Invalid rev id")


def _error(status: int, code: str, message: str) -> web.HTTPException:
    kinds = {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}
    # the client tells its errors apart by this header alone
    return kinds[status](headers={"X-Error-Code": code, "X-Error-Message": message})


def _etag(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fault", type=Fault, choices=list(Fault), default=Fault.NONE)
    parser.add_argument("--retry-after-seconds", type=int, default=Hub.retry_after_seconds)
    parser.add_argument("--bytes-per-second", type=int, default=Hub.bytes_per_second)
    given = parser.parse_args()
    hub = Hub(
        given.folder,
        fault=given.fault,
        retry_after_seconds=given.retry_after_seconds,
        bytes_per_second=given.bytes_per_second,
    )
    web.run_app(hub.application(), host=given.host, port=given.port, print=None)


if __name__ == "__main__":
    main()
