"""The simulated fleet: a yaml file of pools becomes Nodes that kwok keeps alive.

What a pool's nodes say of themselves (labels, taints, capacity) is the file's; nothing is derived here, so a
record of a real node can be played as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from gemma_operator.errors import Conflict, SandboxError, UsageError
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.plane import FAKE_NODE_ANNOTATION

_POOL_KEYS = {"name", "count", "labels", "annotations", "taints", "capacity", "allocatable"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")
# Pods a node: what kubelet allows by default.
_PODS = "110"


def default() -> dict[str, Any]:
    """The packaged mixed fleet."""
    text = (resources.files("gemma_operator.sandbox") / "fleets" / "default.yaml").read_text(encoding="utf-8")
    return parse(text, source="the packaged default fleet")


def read(path: Path) -> dict[str, Any]:
    """A user's fleet file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> dict[str, Any]:
    """A fleet document, checked: `pools`, each with a name, a count and a capacity."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not yaml: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("pools"), list):
        raise UsageError(f"{source}: a fleet is `pools:` with a list under it")
    names = set()
    for number, pool in enumerate(document["pools"]):
        _check(pool, where=f"{source}: pools[{number}]")
        if pool["name"] in names:
            raise UsageError(f"{source}: two pools are called {pool['name']!r}")
        names.add(pool["name"])
    return document


def nodes(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Nodes of a fleet, in the order of the file."""
    return [node(pool, index) for pool in document["pools"] for index in range(pool["count"])]


def node(pool: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The `index`th node of a pool. `allocatable` is the capacity where the file does not differ."""
    name = f"{pool['name']}-{index}"
    capacity = _quantities({"pods": _PODS, **pool["capacity"]})
    labels = {"kubernetes.io/hostname": name, **_strings(pool.get("labels"))}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": labels,
            "annotations": {FAKE_NODE_ANNOTATION: "fake", **_strings(pool.get("annotations"))},
        },
        "spec": {"taints": pool.get("taints") or []},
        "status": {
            "capacity": capacity,
            "allocatable": {**capacity, **_quantities(pool.get("allocatable"))},
            "nodeInfo": _node_info(labels),
        },
    }


def add(client: Client, wanted: Iterable[dict[str, Any]]) -> None:
    """Create nodes; one that exists is brought to the given labels, taints and status."""
    for body in wanted:
        path = f"/api/v1/nodes/{body['metadata']['name']}"
        try:
            client.create("/api/v1/nodes", body)
        except Conflict:
            client.merge(path, {"metadata": body["metadata"], "spec": body.get("spec", {})})
            client.merge(f"{path}/status", {"status": body.get("status", {})})


def become(client: Client, wanted: list[dict[str, Any]]) -> list[str]:
    """Make the fleet exactly these nodes; returns the names of those that went, their pods with them."""
    add(client, wanted)
    keep = {body["metadata"]["name"] for body in wanted}
    present = [body["metadata"] for body in client.items("/api/v1/nodes")]
    simulated = [m["name"] for m in present if FAKE_NODE_ANNOTATION in (m.get("annotations") or {})]
    surplus = [name for name in simulated if name not in keep]
    for name in surplus:
        delete(client, name, collect_pods=True)
    return surplus


def delete(client: Client, name: str, *, collect_pods: bool = False) -> None:
    """Delete one node; with `collect_pods` its pods too, for which pod GC would take about a minute."""
    client.delete(f"/api/v1/nodes/{name}")
    if collect_pods:
        at_once = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        for pod in client.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{name}"):
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            client.delete(path, at_once)


def wait_ready(client: Client, *, limit_seconds: float) -> None:
    """Until every node says Ready and the scheduler may use it."""
    deadline = time.monotonic() + limit_seconds
    while waiting := [n["metadata"]["name"] for n in client.items("/api/v1/nodes") if not _usable(n)]:
        if time.monotonic() > deadline:
            raise SandboxError(
                f"{len(waiting)} nodes are not ready after {limit_seconds:.0f} s: {waiting[:5]}"
            )
        time.sleep(0.1)


def is_true(body: Mapping[str, Any], condition: str) -> bool:
    """Whether an object's condition of that type is True."""
    conditions = body.get("status", {}).get("conditions") or []
    return any(entry["type"] == condition and entry["status"] == "True" for entry in conditions)


def _usable(body: Mapping[str, Any]) -> bool:
    taints = body["spec"].get("taints") or []
    return is_true(body, "Ready") and all(t["key"] != "node.kubernetes.io/not-ready" for t in taints)


def _check(pool: object, *, where: str) -> None:
    if not isinstance(pool, dict):
        raise UsageError(f"{where}: a pool is a mapping with name, count and capacity")
    if unknown := sorted(set(pool) - _POOL_KEYS):
        raise UsageError(f"{where}: unknown {', '.join(unknown)}; known are {', '.join(sorted(_POOL_KEYS))}")
    if not isinstance(pool.get("name"), str) or not _NAME.fullmatch(pool["name"]):
        raise UsageError(f"{where}.name: must be at most 52 of a-z, 0-9 and '-'")
    if type(pool.get("count")) is not int or not 0 <= pool["count"] <= 5000:
        raise UsageError(f"{where}.count: must be a number from 0 to 5000")
    if not isinstance(pool.get("capacity"), dict):
        raise UsageError(f"{where}.capacity: must be a mapping, for example {{cpu: 16, memory: 64Gi}}")


def _quantities(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(key): str(value) for key, value in (values or {}).items()}


def _strings(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Labels and annotations are strings; yaml's `true` is meant as "true"."""
    return {
        str(key): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in (values or {}).items()
    }


def _node_info(labels: Mapping[str, str]) -> dict[str, str]:
    """kubelet would say this; what it cannot know here says `simulated`."""
    return {
        "architecture": labels.get("kubernetes.io/arch", "amd64"),
        "operatingSystem": labels.get("kubernetes.io/os", "linux"),
        "kubeletVersion": "v1.37.2",
        "containerRuntimeVersion": "kwok://simulated",
        "osImage": "simulated",
        "kernelVersion": "simulated",
        "kubeProxyVersion": "",
        "machineID": "",
        "systemUUID": "",
        "bootID": "",
    }
