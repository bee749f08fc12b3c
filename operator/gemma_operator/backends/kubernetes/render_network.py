"""How the pods are reached, by whom, as whom they run, and what an eviction may take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes.render_parts import PORT_NAME, Json, child, ours_of, selector_of
from gemma_operator.settings import OperatorSettings

_NAMESPACE_LABEL: Final = "kubernetes.io/metadata.name"
_DNS: Final = 53
_HTTPS: Final = 443
_PORTS_OF_SCHEMES: Final = {"https": _HTTPS, "http": 80}
#: Everything but the addresses at which clouds hand out a node's credentials: an engine fetches images by URL.
_ANYWHERE: Final = (
    {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]},
    {"cidr": "::/0", "except": ["fd00:ec2::/32", "fe80::/10"]},
)


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
    """Who reaches the pods at all, whatever key they have: `/metrics` needs none (see `render_access`).

    In come named namespaces and the operator, on one port; out go DNS, HTTPS and what the operator's settings point at.
    """
    operator = {names.NAME_LABEL: names.MANAGED_BY}
    sources = [
        _namespaces(_callers(deployment, settings)),
        {**_namespaces([settings.namespace]), "podSelector": {"matchLabels": operator}},
        *({"ipBlock": {"cidr": cidr}} for cidr in settings.operator_cidrs),
    ]
    spec: Json = {
        "podSelector": {"matchLabels": ours_of(deployment)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": sources, "ports": [_port(port)]}],
        "egress": [
            {"ports": [_port(_DNS, protocol="UDP"), _port(_DNS)]},
            *_to_weights(settings),
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
    """Namespaces all of whose pods may call: the own one, those of settings and of `access`."""
    access = deployment.spec.access
    gateway = access.gateway if access else None
    return {
        deployment.namespace,
        *settings.prometheus_namespaces,
        *settings.gateway_namespaces,
        *(access.allowed_namespaces if access else ()),
        *(parent.namespace for parent in (gateway.parent_refs if gateway else ()) if parent.namespace),
    }


def _namespaces(allowed: Iterable[str]) -> Json:
    expression = {"key": _NAMESPACE_LABEL, "operator": "In", "values": sorted(allowed)}
    return {"namespaceSelector": {"matchExpressions": [expression]}}


def _port(number: int, *, protocol: str = "TCP") -> Json:
    return {"port": number, "protocol": protocol}


def _to_weights(settings: OperatorSettings) -> list[Json]:
    """HTTPS, and the hub mirror and the proxy wherever they are.

    A Service in the cluster is named by its namespace: policies see the port of its pods, not the Service's own, and
    some networks match no pod by an address block.
    """
    ports, namespaces = {_HTTPS}, set()
    for address in (urlsplit(url) for url in (settings.hub_mirror, settings.proxy) if url):
        if namespace := _namespace_of(address.hostname or ""):
            namespaces.add(namespace)
        else:
            ports.add(address.port or _PORTS_OF_SCHEMES.get(address.scheme, _HTTPS))
    outside = {
        "to": [{"ipBlock": block} for block in _ANYWHERE],
        "ports": [_port(number) for number in sorted(ports)],
    }
    return [outside, *([{"to": [_namespaces(namespaces)]}] if namespaces else [])]


def _namespace_of(host: str) -> str:
    """The namespace in `NAME.NAMESPACE.svc`, with or without the cluster's domain; empty for other hosts."""
    _, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    return namespace if domain == "svc" or domain.startswith("svc.") else ""
