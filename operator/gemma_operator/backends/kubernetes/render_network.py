"""How the pods are reached, by whom, as whom they run, and what an eviction may take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes.render_parts import PORT_NAME, Json, child, selector_of
from gemma_operator.settings import OperatorSettings

_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
_DNS: Final = 53
_PORTS_OF_SCHEMES: Final = {"https": 443, "http": 80}


def service_account(deployment: GemmaDeployment, *, uid: str) -> Json:
    """An identity of its own, without a token: the engine never speaks to the API server."""
    return child(
        deployment,
        uid=uid,
        kind="ServiceAccount",
        api_version="v1",
        body={"automountServiceAccountToken": False},
    )


def service(deployment: GemmaDeployment, *, uid: str, port: int) -> Json:
    """The stable address."""
    ports = [{"name": PORT_NAME, "port": port, "targetPort": PORT_NAME, "protocol": "TCP"}]
    return child(
        deployment,
        uid=uid,
        kind="Service",
        api_version="v1",
        body={"spec": {"selector": selector_of(deployment), "ports": ports}},
    )


def network_policy(deployment: GemmaDeployment, *, uid: str, port: int, settings: OperatorSettings) -> Json:
    """The real guard: vLLM's API key leaves `/invocations` and `/metrics` open (`vllm serve --help=all`).

    In come only named namespaces, on one port; out go DNS, HTTPS and what the operator's settings point at.
    """
    sources = [_namespaces(_callers(deployment, settings)), *map(_block, settings.operator_cidrs)]
    spec: Json = {
        "podSelector": {"matchLabels": selector_of(deployment)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": sources, "ports": [_port(port)]}],
        "egress": [
            {"ports": [_port(_DNS, protocol="UDP"), _port(_DNS)]},
            {"ports": [_port(number) for number in sorted({443, *_ports_of(settings)})]},
        ],
    }
    return child(
        deployment, uid=uid, kind="NetworkPolicy", api_version="networking.k8s.io/v1", body={"spec": spec}
    )


def pod_disruption_budget(deployment: GemmaDeployment, *, uid: str) -> Json:
    """A drain takes one replica at a time; a replica that does not serve never holds a drain up."""
    spec = {
        "maxUnavailable": 1,
        "selector": {"matchLabels": selector_of(deployment)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(
        deployment, uid=uid, kind="PodDisruptionBudget", api_version="policy/v1", body={"spec": spec}
    )


def _callers(deployment: GemmaDeployment, settings: OperatorSettings) -> set[str]:
    """Namespaces whose pods may call: the own one, the operator's, those of settings and `access`."""
    access = deployment.spec.access
    gateway = access.gateway if access else None
    return {
        deployment.namespace,
        settings.namespace,
        *settings.prometheus_namespaces,
        *settings.gateway_namespaces,
        *(access.allowed_namespaces if access else ()),
        *(parent.namespace for parent in (gateway.parent_refs if gateway else ()) if parent.namespace),
    }


def _namespaces(allowed: Iterable[str]) -> Json:
    expression = {"key": _NAMESPACE_LABEL, "operator": "In", "values": sorted(allowed)}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def _block(cidr: str) -> Json:
    return {"ipBlock": {"cidr": cidr}}


def _port(number: int, *, protocol: str = "TCP") -> Json:
    return {"port": number, "protocol": protocol}


def _ports_of(settings: OperatorSettings) -> set[int]:
    """Ports of a hub mirror and of a proxy: weights come through them."""
    addresses = [urlsplit(url) for url in (settings.hub_mirror, settings.proxy) if url]
    return {address.port or _PORTS_OF_SCHEMES.get(address.scheme, 443) for address in addresses}
