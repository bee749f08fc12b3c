"""A request to a Service of the sandbox, which has no addresses of its own that anybody would route.

Picks a ready endpoint from the Service's EndpointSlices, as kube-proxy would, and asks the pod behind it. It
says so each time: what answers a Service in a real cluster is the Service.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from gemma_operator.errors import NotFound, SandboxError
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.session import Sandbox


@dataclass(frozen=True, slots=True)
class Visit:
    """What to ask of which Service. A body makes it a POST."""

    namespace: str
    service: str
    path: str
    body: bytes | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A ready pod behind a Service."""

    pod: str
    host: str
    port: int


def visit(sandbox: Sandbox, asked: Visit, *, out: BinaryIO, say: Callable[[str], None]) -> int:
    """Ask one endpoint and copy its answer; 0 for a 2xx, else 1."""
    endpoint = _choose(sandbox, asked)
    url = f"http://{endpoint.host}:{endpoint.port}{asked.path}"
    say(f"sandbox stands in for the Service: {asked.namespace}/{asked.service} → pod {endpoint.pod}, {url}")
    method = "GET" if asked.body is None else "POST"
    headers = {} if asked.body is None else {"Content-Type": "application/json"}
    timeout = httpx.Timeout(5, read=600)
    try:
        with (
            httpx.Client(trust_env=False, timeout=timeout) as http,
            http.stream(method, url, content=asked.body, headers=headers) as response,
        ):
            for piece in response.iter_raw() if asked.stream else iter([response.read()]):
                out.write(piece)
                out.flush()
            if not asked.stream:
                out.write(b"" if response.content.endswith(b"\n") else b"\n")
                out.flush()
            if not response.is_success:
                say(f"the pod answered {response.status_code}")
            return 0 if response.is_success else 1
    except httpx.HTTPError as error:
        raise SandboxError(f"pod {endpoint.pod}: {error or type(error).__name__}") from error


def endpoints(client: Client, *, namespace: str, service: str) -> list[Endpoint]:
    """The ready endpoints of a Service, by targetRef; in a stable order."""
    selector = f"labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    slices = client.items(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?{selector}")
    found = []
    for piece in slices:
        port = next((entry["port"] for entry in piece.get("ports") or [] if "port" in entry), None)
        for entry in piece.get("endpoints") or []:
            if port is not None and entry["conditions"].get("ready") and "targetRef" in entry:
                host = _address(client, namespace, entry["targetRef"])
                if host:
                    found.append(Endpoint(entry["targetRef"]["name"], host, port))
    return sorted(found, key=lambda endpoint: endpoint.pod)


def _address(client: Client, namespace: str, reference: dict[str, Any]) -> str | None:
    try:
        pod = client.get(f"/api/v1/namespaces/{namespace}/pods/{reference['name']}")
    except NotFound:
        return None
    return pod["status"].get("podIP") if pod["metadata"]["uid"] == reference["uid"] else None


def _choose(sandbox: Sandbox, asked: Visit) -> Endpoint:
    try:
        sandbox.client.get(f"/api/v1/namespaces/{asked.namespace}/services/{asked.service}")
    except NotFound:
        raise SandboxError(
            f"sandbox {sandbox.name!r} has no Service {asked.service!r} in namespace {asked.namespace!r}"
        ) from None
    ready = endpoints(sandbox.client, namespace=asked.namespace, service=asked.service)
    if not ready:
        raise SandboxError(f"Service {asked.namespace}/{asked.service} has no ready endpoint yet")
    return ready[_turn(sandbox.folder.path / "curl-turn") % len(ready)]


def _turn(counter: Path) -> int:
    """Round robin over invocations: the next number, kept in the sandbox's own folder."""
    try:
        turn = int(counter.read_text())
    except (FileNotFoundError, ValueError):
        turn = 0
    counter.write_text(str(turn + 1))
    return turn
