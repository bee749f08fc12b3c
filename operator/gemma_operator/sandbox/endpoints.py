"""The EndpointSlices of every Service with a selector, in place of the controller that cannot write them.

The API server refuses loopback addresses in slices of type IPv4, so these are of type FQDN (deprecated,
accepted by 1.37): an address that nobody resolves, with the truth beside it: targetRef, port, conditions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gemma_operator.sandbox import fleet

MANAGED_BY = "sandbox.gemma-operator.io"
_MAX_ENDPOINTS = 1000  # the API server's limit for one slice
_DEBOUNCE_SECONDS = 0.02

_log = logging.getLogger(__name__)

Apply = Callable[[str, dict[str, Any]], Awaitable[None]]


def slice_for(service: Mapping[str, Any], pods: list[dict[str, Any]]) -> dict[str, Any]:
    """The one slice of a Service: its selected pods that have an address."""
    metadata = service["metadata"]
    always = bool(service["spec"].get("publishNotReadyAddresses"))
    chosen = sorted((pod for pod in pods if selects(service, pod) and _has_address(pod)), key=_order)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-sandbox",
            "namespace": metadata["namespace"],
            "labels": {
                "kubernetes.io/service-name": metadata["name"],
                "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "FQDN",
        "endpoints": [_endpoint(pod, always_ready=always) for pod in chosen[:_MAX_ENDPOINTS]],
        "ports": [_port(port, chosen) for port in service["spec"].get("ports") or []],
    }


def selects(service: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    """Whether the Service's selector matches; a Service without one selects nothing."""
    selector = service["spec"].get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    same_namespace = service["metadata"]["namespace"] == pod["metadata"]["namespace"]
    return bool(selector) and same_namespace and selector.items() <= labels.items()


class EndpointWriter:
    """Keeps one slice a Service, written only when it differs from what was written last."""

    def __init__(self, apply: Apply) -> None:
        self._apply = apply
        self._services: dict[str, dict[str, Any]] = {}
        self._pods: dict[str, dict[str, Any]] = {}
        self._written: dict[str, dict[str, Any]] = {}
        self._dirty: set[str] = set()
        self._wake = asyncio.Event()

    def service_changed(self, service: dict[str, Any]) -> None:
        """A Service was seen."""
        uid = service["metadata"]["uid"]
        self._services[uid] = service
        self._mark({uid})

    def service_gone(self, service: dict[str, Any]) -> None:
        """A Service was deleted; its slice follows by owner reference."""
        uid = service["metadata"]["uid"]
        self._services.pop(uid, None)
        self._written.pop(uid, None)

    def pod_changed(self, pod: dict[str, Any]) -> None:
        """A pod was seen: the Services that select it, or did, are looked at."""
        before = self._pods.get(pod["metadata"]["uid"])
        self._pods[pod["metadata"]["uid"]] = pod
        self._mark(self._selecting(pod) | (self._selecting(before) if before else set()))

    def pod_gone(self, pod: dict[str, Any]) -> None:
        """A pod was deleted."""
        self._pods.pop(pod["metadata"]["uid"], None)
        self._mark(self._selecting(pod))

    async def run(self) -> None:
        """Write what is dirty, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_DEBOUNCE_SECONDS)
            self._wake.clear()
            dirty, self._dirty = self._dirty, set()
            for uid in dirty:
                service = self._services.get(uid)
                if service is not None and service["spec"].get("selector"):
                    await self._write(uid, service)

    async def _write(self, uid: str, service: dict[str, Any]) -> None:
        wanted = slice_for(service, list(self._pods.values()))
        if self._written.get(uid) == wanted:
            return
        metadata = wanted["metadata"]
        path = (
            f"/apis/discovery.k8s.io/v1/namespaces/{metadata['namespace']}/endpointslices/{metadata['name']}"
        )
        try:
            await self._apply(path, wanted)
        except OSError as error:
            _log.warning("endpoint slice %s/%s: %s", metadata["namespace"], metadata["name"], error)
            self._mark({uid})
            return
        self._written[uid] = wanted

    def _selecting(self, pod: Mapping[str, Any]) -> set[str]:
        return {uid for uid, service in self._services.items() if selects(service, pod)}

    def _mark(self, uids: set[str]) -> None:
        if uids:
            self._dirty |= uids
            self._wake.set()


def _has_address(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def _order(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


def _endpoint(pod: Mapping[str, Any], *, always_ready: bool) -> dict[str, Any]:
    metadata = pod["metadata"]
    serving = always_ready or fleet.is_true(pod, "Ready")
    terminating = bool(metadata.get("deletionTimestamp"))
    return {
        "addresses": [f"{pod['status']['podIP'].replace('.', '-')}.pod.sandbox"],
        "conditions": {
            "ready": serving and (always_ready or not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"].get("nodeName"),
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }


def _port(port: Mapping[str, Any], pods: list[dict[str, Any]]) -> dict[str, Any]:
    target = port.get("targetPort", port["port"])
    number = target if isinstance(target, int) else _named_port(str(target), pods)
    entry = {"name": port.get("name") or "", "protocol": port.get("protocol") or "TCP"}
    return {**entry, "port": number} if number is not None else entry


def _named_port(name: str, pods: list[dict[str, Any]]) -> int | None:
    declared = (port for pod in pods for c in pod["spec"]["containers"] for port in c.get("ports") or [])
    return next((int(port["containerPort"]) for port in declared if port.get("name") == name), None)
