"""What a kubelet brings from Secrets and annotations, and the guard that an engine loads from it.

The guard is the product's own: the file that the pod carries is compared with it and never run, for whoever writes a
pod would else run a program in the sandbox. Files are looked after when they are needed, at most once a second: a
real kubelet takes a minute.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web

from gemma_operator import engines
from gemma_operator.engines.access_middleware import USER_KEYS, Receive, RequireKey, Scope, Send
from gemma_operator.engines.farewell_middleware import Farewell

#: Namespace and name → the Secret, or None.
ReadSecret = Callable[[str, str], Awaitable[dict[str, Any] | None]]

_SYNC_SECONDS = 1.0
_LOOK_FOR_SECRETS_SECONDS = 1.0
_FLAG = "--middleware"
_ADMITTED = "gemma.admitted"
_ANNOTATION = re.compile(r"metadata\.annotations\['(.+)'\]")


async def _no_secret(namespace: str, name: str) -> dict[str, Any] | None:
    del namespace, name
    return None


@dataclass(frozen=True, slots=True)
class Files:
    """Where Secrets are read and volumes are laid out; without an API server there is no Secret."""

    folder: Path = Path("/nowhere")
    read: ReadSecret = _no_secret

    def of(self, uid: str) -> Files:
        """Those of one pod."""
        return replace(self, folder=self.folder / uid)


async def missing_secret(container: Mapping[str, Any], *, namespace: str, read: ReadSecret) -> str:
    """Why the container cannot be made, in the kubelet's words; empty where every Secret of its environment is there.

    Source: Kubernetes 1.37, pkg/kubelet/kubelet_pods.go, makeEnvironmentVariables.
    """
    for variable in container.get("env") or ():
        wanted = (variable.get("valueFrom") or {}).get("secretKeyRef")
        if not wanted or wanted.get("optional"):
            continue
        secret = await read(namespace, wanted["name"])
        if secret is None:
            return f'secret "{wanted["name"]}" not found'
        if wanted["key"] not in (secret.get("data") or {}):
            return f"couldn't find key {wanted['key']} in Secret {namespace}/{wanted['name']}"
    return ""


async def until_it_can_be_made(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    files: Files,
    *,
    say: Callable[[str], Awaitable[None]],
    pause: Callable[[float], Awaitable[None]],
) -> None:
    """Returns when every Secret of its environment is there; until then each new reason is said once."""
    said = ""
    namespace = pod["metadata"]["namespace"]
    while missing := await missing_secret(container, namespace=namespace, read=files.read):
        if missing != said:
            said = missing
            await say(missing)
        await pause(_LOOK_FOR_SECRETS_SECONDS)


@dataclass(frozen=True, slots=True)
class Judged:
    """Refused, with this answer; or let through, with something to say in the head of the engine's own."""

    refusal: web.Response | None = None
    adds: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """The guard of one server, with its volume as a folder on this machine."""

    def __init__(self, pod: Mapping[str, Any], container: Mapping[str, Any], files: Files) -> None:
        self._metadata = pod["metadata"]
        self._sources = _sources(pod, container)
        self._module, _, self._class = _guard(container).rpartition(".")
        self._folder = files.folder
        self._read = files.read
        self._syncing = asyncio.Lock()
        self._synced_at = -math.inf
        self._guard = RequireKey(_admit, files.folder)

    async def trouble(self) -> str:
        """Why the engine cannot load it; empty where it can."""
        await self._sync()
        file = self._folder / f"{self._module}.py"
        if not file.exists() or self._class != RequireKey.__name__:
            return f"ModuleNotFoundError: No module named '{self._module}' (simulated)"
        if file.read_bytes() != resources.files(engines).joinpath("access_middleware.py").read_bytes():
            return "the sandbox loads no other guard than that of this operator (simulated)"
        return ""

    async def judge(self, request: web.BaseRequest) -> Judged:
        """What the guard makes of a request."""
        await self._sync()
        headers = [(name.lower(), value) for name, value in request.raw_headers]
        scope = {"type": "http", "method": request.method, "path": request.path, "headers": headers}
        said: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: MutableMapping[str, Any]) -> None:
            said.append(message)

        await self._guard(scope, receive, send)
        start, *bodies = said
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        if _ADMITTED in scope:
            return Judged(adds=told)
        (body,) = bodies
        return Judged(refusal=web.Response(status=start["status"], body=body["body"], headers=told))

    async def headers(self) -> dict[str, str]:
        """What the start-up probe sends along: the first key of the users."""
        await self._sync()
        file = self._folder / USER_KEYS
        keys = file.read_text().split() if file.exists() else []
        return {"Authorization": f"Bearer {keys[0]}"} if keys else {}

    async def _sync(self) -> None:
        """Bring the folder to what the Secrets and annotations say now, or wait for whoever does."""
        async with self._syncing:
            if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
                await self._bring()
                self._synced_at = time.monotonic()

    async def _bring(self) -> None:
        files = dict([file for source in self._sources async for file in self._files(source)])
        self._folder.mkdir(parents=True, exist_ok=True)
        for gone in {path.name for path in self._folder.iterdir()} - files.keys():
            (self._folder / gone).unlink()
        for name, content in files.items():
            path = self._folder / name
            if not path.exists() or path.read_bytes() != content:
                fresh = path.with_suffix(".new")
                fresh.write_bytes(content)
                fresh.replace(path)

    async def _files(self, source: Mapping[str, Any]) -> AsyncIterator[tuple[str, bytes]]:
        if secret := source.get("secret"):
            found = await self._read(self._metadata["namespace"], secret["name"]) or {}
            data = found.get("data") or {}
            for item in secret["items"]:
                if item["key"] in data:
                    yield item["path"], base64.b64decode(data[item["key"]])
        for item in (source.get("downwardAPI") or {}).get("items") or ():
            named = _ANNOTATION.fullmatch(item["fieldRef"]["fieldPath"])
            yield item["path"], self._metadata["annotations"][named.group(1) if named else ""].encode()


def guard_of(pod: Mapping[str, Any], container: Mapping[str, Any], files: Files) -> Guard | None:
    """The guard that the container's command line names; None where it names none."""
    return Guard(pod, container, files) if _guard(container) else None


async def _admit(scope: Scope, receive: Receive, send: Send) -> None:
    """In the place of the engine: nothing but the head of an answer, for the guard to add to."""
    del receive
    scope[_ADMITTED] = True
    await send({"type": "http.response.start", "status": 200, "headers": []})


def _guard(container: Mapping[str, Any]) -> str:
    """The middleware that is not the farewell, which no simulated engine needs."""
    words = _words(container)
    loaded = (word for flag, word in itertools.pairwise(words) if flag == _FLAG)
    return next((word for word in loaded if not word.endswith(f".{Farewell.__name__}")), "")


def _words(container: Mapping[str, Any]) -> list[str]:
    return [*(container.get("command") or ()), *(container.get("args") or ())]


def _sources(pod: Mapping[str, Any], container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the projected volume that lies first on the container's Python path."""
    environment = {variable["name"]: variable.get("value", "") for variable in container.get("env") or ()}
    place = environment.get("PYTHONPATH", "").split(":")[0]
    mounts = [mount["name"] for mount in container.get("volumeMounts") or () if mount["mountPath"] == place]
    volumes = [volume for volume in pod["spec"].get("volumes") or () if volume["name"] in mounts]
    return [source for volume in volumes for source in volume.get("projected", {}).get("sources", ())]
