"""A small API server in memory: lists in pages, watches with bookmarks, applies, and can be made to fail.

It knows no schema and no field ownership: an apply replaces what it names at the top of `metadata`, `spec`
and the other top-level fields. It is for tests of how we talk, never of what the server decides.
"""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

from gemma_operator.apiserver.credentials import Connection
from gemma_operator.apiserver.resources import BY_KIND, Resource


@dataclass(slots=True)
class Fault:
    """What the next requests that match get instead of an answer."""

    code: int
    times: int = 1
    method: str = ""
    path_part: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "told to fail"

    def matches(self, request: web.Request) -> bool:
        return self.times > 0 and self.method in {"", request.method} and self.path_part in request.path_qs


class KubeApi:
    """State and behaviour; `serve` puts it on a loopback port."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[tuple[str, str], dict]] = {}
        self.log: list[tuple[int, str, str, dict]] = []
        self.compacted = 0
        self.requests: list[tuple[str, str, str]] = []
        self.faults: list[Fault] = []
        self.missing_namespaces: set[str] = set()
        self.token = "secret"
        self.tokens_seen: list[str] = []
        self.url = ""
        self.streams: list[asyncio.Queue[bytes | None]] = []
        self._stream_of: dict[int, tuple[str, str]] = {}
        self.on_request: Callable[[web.Request], None] = lambda _request: None

    # what tests do to it

    def put(self, resource: Resource, name: str, *, namespace: str = "", **top: object) -> dict:
        """Creates or changes an object, with an event unless nobody watches."""
        table = self.objects.setdefault(resource.full_name, {})
        old = table.get((namespace, name))
        self.version += 1
        metadata = dict(old["metadata"]) if old else {"name": name, "uid": str(uuid.uuid4()), "generation": 1}
        if namespace:
            metadata["namespace"] = namespace
        metadata |= top.pop("metadata", {})
        metadata["resourceVersion"] = str(self.version)
        new = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **top}
        table[(namespace, name)] = new
        self._event(resource, "MODIFIED" if old else "ADDED", new)
        return copy.deepcopy(new)

    def remove(self, resource: Resource, name: str, *, namespace: str = "", quietly: bool = False) -> None:
        """Deletes an object; `quietly` without an event, as after a gap that was compacted away."""
        gone = self.objects[resource.full_name].pop((namespace, name))
        self.version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        if not quietly:
            self._event(resource, "DELETED", gone)

    def compact(self) -> None:
        """Forgets all events: watches from an older version get 410."""
        self.compacted = self.version
        self.log.clear()

    def drop_streams(self) -> None:
        """Ends all watches."""
        for stream in self.streams:
            stream.put_nowait(None)

    def send(self, event: dict) -> None:
        """Sends one raw event to all watches."""
        for stream in self.streams:
            stream.put_nowait(orjson.dumps(event) + b"\n")

    def bookmark(self) -> None:
        """Sends a bookmark of the current version to all watches."""
        self.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}})

    def connection(self, token: str = "secret") -> Connection:
        """What a session needs to talk to it."""

        async def authorization() -> str:
            return f"Bearer {token}"

        return Connection(self.url, authorization)

    def count(self, method: str, part: str = "") -> int:
        """How many requests of this kind there were."""
        return sum(1 for seen, path, _query in self.requests if seen == method and part in path)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[KubeApi]:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await self.close()

    async def close(self) -> None:
        """Goes away. To be called before kopf is stopped in the same loop: kopf waits for younger tasks."""
        self.drop_streams()
        await self._runner.cleanup()

    # how it answers

    def _event(self, resource: Resource, kind: str, obj: dict) -> None:
        self.log.append((self.version, resource.full_name, kind, obj))
        line = orjson.dumps({"type": kind, "object": obj}) + b"\n"
        for stream in self.streams:
            if self._stream_of[id(stream)][0] == resource.full_name:
                stream.put_nowait(line)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, request.query_string))
        self.on_request(request)
        return self._refusal(request) or await self._answer(request)

    def _refusal(self, request: web.Request) -> web.Response | None:
        self.tokens_seen.append(request.headers.get("Authorization", ""))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", "Unauthorized")
        fault = next((fault for fault in self.faults if fault.matches(request)), None)
        if fault is None:
            return None
        fault.times -= 1
        return _status(fault.code, "Told", fault.message, fault.headers)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if (discovered := _discovery(request.path)) is not None:
            return _json(discovered)
        found = _parse(request.path)
        if found is None:
            return _status(404, "NotFound", "the server could not find the requested resource")
        resource, namespace, name, subresource = found
        if request.method == "GET" and not name:
            if request.query.get("watch"):
                return await self._watch(request, resource)
            return self._list(request, resource, namespace)
        return await self._one(request, resource, namespace, name, subresource)

    def _list(self, request: web.Request, resource: Resource, namespace: str) -> web.Response:
        table = self.objects.get(resource.full_name, {})
        names = sorted(place for place in table if namespace in {"", place[0]})
        names = [place for place in names if _selected(table[place], request.query.get("labelSelector", ""))]
        limit = int(request.query.get("limit") or 0) or len(names) or 1
        start, version = 0, self.version
        if token := request.query.get("continue"):
            start, version = map(int, token.split("."))
            if version < self.compacted:
                return _status(410, "Expired", "the continue token is too old")
        page = [table[place] for place in names[start : start + limit]]
        metadata = {"resourceVersion": str(version)}
        if start + limit < len(names):
            metadata["continue"] = f"{start + limit}.{version}"
        if "PartialObjectMetadataList" in request.headers.get("Accept", ""):
            page = [{"metadata": obj["metadata"]} for obj in page]
        # as the real one: items of a list carry neither
        page = [{k: v for k, v in obj.items() if k not in {"apiVersion", "kind"}} for obj in page]
        return _json({"kind": f"{resource.kind}List", "metadata": metadata, "items": page})

    async def _watch(self, request: web.Request, resource: Resource) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self.compacted:
            return _status(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream: asyncio.Queue[bytes | None] = asyncio.Queue()
        for version, name, kind, obj in self.log:
            if version > since and name == resource.full_name:
                stream.put_nowait(orjson.dumps({"type": kind, "object": obj}) + b"\n")
        self._stream_of[id(stream)] = (resource.full_name, request.query.get("labelSelector", ""))
        self.streams.append(stream)
        try:
            await response.prepare(request)
            while (line := await stream.get()) is not None:
                await response.write(line)
        finally:
            self.streams.remove(stream)
        return response

    async def _one(
        self, request: web.Request, resource: Resource, namespace: str, name: str, subresource: str
    ) -> web.Response:
        table = self.objects.setdefault(resource.full_name, {})
        body = json.loads(await request.read() or b"{}")
        if request.method == "POST" and namespace in self.missing_namespaces:
            return _status(404, "NotFound", f"namespaces {namespace!r} not found")
        if request.method == "POST":
            name = body["metadata"]["name"]
            if (namespace, name) in table:
                return _status(409, "AlreadyExists", f"{resource.plural} {name!r} already exists")
            return _json(self._store(resource, namespace, name, body), 201)
        return self._existing(request, resource, namespace, name, subresource, body)

    def _existing(
        self,
        request: web.Request,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        body: dict,
    ) -> web.Response:
        table = self.objects.setdefault(resource.full_name, {})
        held = table.get((namespace, name))
        if request.method == "PATCH":
            return self._apply(resource, namespace, name, subresource, body)
        if held is None:
            return _status(404, "NotFound", f"{resource.plural} {name!r} not found")
        if request.method == "GET":
            return _json(held)
        if request.method == "PUT":
            if body["metadata"].get("resourceVersion") not in {None, held["metadata"]["resourceVersion"]}:
                return _status(409, "Conflict", "the object has been modified")
            return _json(self._store(resource, namespace, name, body))
        wanted = (body.get("preconditions") or {}).get("uid")
        if wanted and wanted != held["metadata"]["uid"]:
            return _status(409, "Conflict", "the UID in the precondition does not match")
        self.remove(resource, name, namespace=namespace)
        return _json({"kind": "Status", "status": "Success"})

    def _apply(
        self, resource: Resource, namespace: str, name: str, subresource: str, body: dict
    ) -> web.Response:
        held = self.objects.get(resource.full_name, {}).get((namespace, name))
        if held is None and subresource:
            return _status(404, "NotFound", f"{resource.plural} {name!r} not found")
        uid = body["metadata"].pop("uid", None)
        if uid and held is None:
            return _status(404, "NotFound", "uid mismatch: the object does not exist")
        if uid and held and uid != held["metadata"]["uid"]:
            return _status(409, "Conflict", "Precondition failed: UID in precondition")
        wanted = (
            {"status": body["status"]} if subresource else {k: v for k, v in body.items() if k != "status"}
        )
        merged = {**(held or {}), **wanted}
        merged["metadata"] = {**(held or {"metadata": {}})["metadata"], **body["metadata"]}
        if merged == held:
            return _json(held)
        return _json(self._store(resource, namespace, name, merged), 200 if held else 201)

    def _store(self, resource: Resource, namespace: str, name: str, body: dict) -> dict:
        top = {k: v for k, v in body.items() if k not in {"apiVersion", "kind", "metadata"}}
        metadata = {k: v for k, v in body["metadata"].items() if k not in {"resourceVersion", "uid"}}
        return self.put(resource, name, namespace=namespace, metadata=metadata, **top)


def _discovery(path: str) -> dict | None:
    """What is served, as `kubectl api-resources` and kopf ask for it."""
    versions = {(resource.group, resource.version) for resource in BY_KIND.values()}
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = [
            {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
            for group, version in sorted(versions)
            if group
        ]
        return {"groups": groups}
    for group, version in versions:
        if path == (f"/apis/{group}/{version}" if group else f"/api/{version}"):
            served = [r for r in BY_KIND.values() if (r.group, r.version) == (group, version)]
            if not group:  # kopf waits for namespaces, which we never touch
                served.append(Resource("", "v1", "namespaces", "Namespace", namespaced=False))
            return {"resources": [_served(resource) for resource in served]}
    return None


def _served(resource: Resource) -> dict:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "kind": resource.kind,
        "namespaced": resource.namespaced,
        "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
    }


def _parse(path: str) -> tuple[Resource, str, str, str] | None:
    parts = path.strip("/").split("/")
    parts = ["", *parts[1:]] if parts[0] == "api" else parts[1:]
    if len(parts) < 3:
        return None
    group, version, *rest = parts
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    for resource in BY_KIND.values():
        if (resource.group, resource.version, resource.plural) == (group, version, rest[0]):
            return resource, namespace, *[*rest[1:], "", ""][:2]
    return None


def _selected(obj: dict, selector: str) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(labels.get(k) == v for k, v in (term.split("=") for term in selector.split(",") if term))


def _json(body: object, code: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=code, content_type="application/json")


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.Response(
        body=orjson.dumps(body), status=code, content_type="application/json", headers=headers
    )
