"""How pods are reached, and by whom."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from gemma_operator.backends.kubernetes import render_network as network
from gemma_operator.backends.kubernetes.render_parts import labels_of
from gemma_operator.settings import OperatorSettings
from snapshots import UID, a_spec

ROOT = Path(__file__).parents[4]


def policy(*, settings=None, **spec):
    made = network.network_policy(a_spec(**spec), uid=UID, port=8000, settings=settings or OperatorSettings())
    return made["spec"]


def namespaces(**changes):
    (rule,) = policy(**changes)["ingress"]
    (expression,) = rule["from"][0]["namespaceSelector"]["matchExpressions"]
    return expression["values"]


def ports_out(**changes):
    rules = policy(**changes)["egress"]
    return {(port["port"], port["protocol"]) for rule in rules for port in rule.get("ports", ())}


def namespaces_out(**changes):
    peers = [peer for rule in policy(**changes)["egress"] for peer in rule.get("to", ())]
    selectors = [peer["namespaceSelector"] for peer in peers if "namespaceSelector" in peer]
    return [name for selector in selectors for name in selector["matchExpressions"][0]["values"]]


def test_the_identity_has_no_token():
    assert network.service_account(a_spec(), uid=UID)["automountServiceAccountToken"] is False


def test_the_service_names_its_port_and_the_pods_port():
    spec = network.service(a_spec(), uid=UID, port=8000)["spec"]
    assert spec["ports"] == [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}]
    assert spec["selector"] == {"gemma-operator.io/deployment": "chat"}


def test_the_policy_is_about_our_pods_both_ways():
    ours = {"app.kubernetes.io/managed-by": "gemma-operator", "app.kubernetes.io/instance": "chat"}
    assert policy()["podSelector"] == {"matchLabels": ours}
    assert policy()["policyTypes"] == ["Ingress", "Egress"]


def test_only_the_served_port_is_open():
    (rule,) = policy()["ingress"]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]


def test_the_own_namespace_may_call():
    assert namespaces() == ["team-a"]


def test_of_the_operators_namespace_only_the_operator_may_call():
    (rule,) = policy(settings=OperatorSettings(namespace="ops"))["ingress"]
    (operator,) = [peer for peer in rule["from"] if "podSelector" in peer]
    assert operator["namespaceSelector"]["matchExpressions"][0]["values"] == ["ops"]
    labels = operator["podSelector"]["matchLabels"]
    manifests = yaml.safe_load_all((ROOT / "manifests/base/deployment.yaml").read_text())
    (deployment,) = [made for made in manifests if made["kind"] == "Deployment"]
    assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_engines_pods_do_not_pass_for_the_operator():
    (rule,) = policy()["ingress"]
    (operator,) = [peer for peer in rule["from"] if "podSelector" in peer]
    assert not operator["podSelector"]["matchLabels"].items() <= labels_of(a_spec()).items()


@pytest.mark.parametrize(
    ("changes", "namespace"),
    [
        ({"settings": OperatorSettings(prometheus_namespaces=("monitoring",))}, "monitoring"),
        ({"settings": OperatorSettings(gateway_namespaces=("ingress",))}, "ingress"),
        ({"access": {"allowedNamespaces": ["web"]}}, "web"),
        ({"access": {"gateway": {"parentRefs": [{"name": "g", "namespace": "gateways"}]}}}, "gateways"),
    ],
)
def test_who_else_may_call_is_named(changes, namespace):
    assert namespace in namespaces(**changes)
    assert namespace not in namespaces()


def test_namespaces_are_in_one_order():
    assert namespaces(access={"allowedNamespaces": ["web", "api"]}) == [
        "api",
        "team-a",
        "web",
    ]


def test_an_operator_outside_the_cluster_may_probe():
    (rule,) = policy(settings=OperatorSettings(operator_cidrs=("10.1.2.0/24",)))["ingress"]
    assert {"ipBlock": {"cidr": "10.1.2.0/24"}} in rule["from"]


def test_out_go_names_and_weights():
    assert ports_out() == {(53, "UDP"), (53, "TCP"), (443, "TCP")}


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        (OperatorSettings(hub_mirror="https://hub.internal:8443/x"), 8443),
        (OperatorSettings(hub_mirror="http://hub.internal"), 80),
        (OperatorSettings(proxy="http://proxy:3128"), 3128),
    ],
)
def test_mirror_and_proxy_can_be_reached(settings, port):
    assert (port, "TCP") in ports_out(settings=settings)


@pytest.mark.parametrize(
    ("settings", "namespace"),
    [
        (OperatorSettings(hub_mirror="http://hub.mirrors.svc"), "mirrors"),
        (OperatorSettings(hub_mirror="http://hub.mirrors.svc:8080/x"), "mirrors"),
        (OperatorSettings(hub_mirror="https://hub.mirrors.svc.cluster.local"), "mirrors"),
        (OperatorSettings(proxy="http://user:word@squid.egress.svc:3128"), "egress"),
    ],
)
def test_a_mirror_in_the_cluster_is_reached_whatever_its_pods_listen_on(settings, namespace):
    assert namespaces_out(settings=settings) == [namespace]
    assert ports_out(settings=settings) == ports_out()


@pytest.mark.parametrize(
    "host",
    ["svc", "hub.svc", "svc.example.com", "hub.example.com", "hub.example.svcs", "10.0.0.1", "[fd00::1]"],
)
def test_another_host_is_no_namespace(host):
    assert namespaces_out(settings=OperatorSettings(hub_mirror=f"http://{host}:81")) == []
    assert (81, "TCP") in ports_out(settings=OperatorSettings(hub_mirror=f"http://{host}:81"))


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.23", "fd00:ec2::254", "fe80::1"])
def test_a_clouds_credentials_are_out_of_reach(address):
    address = ip_address(address)
    settings = OperatorSettings(hub_mirror="http://hub.internal")
    weights = [rule for rule in policy(settings=settings)["egress"] if (53, "TCP") not in numbers(rule)]
    blocks = [peer["ipBlock"] for rule in weights for peer in rule["to"]]
    reached = [
        block
        for block in blocks
        if address in ip_network(block["cidr"])
        and not any(address in ip_network(spared) for spared in block["except"])
    ]
    assert (len(blocks), reached) == (2, [])


def numbers(rule):
    return {(port["port"], port["protocol"]) for port in rule.get("ports", ())}


def test_a_drain_takes_one_replica_at_a_time_and_never_waits_for_a_dead_one():
    spec = network.pod_disruption_budget(a_spec(), uid=UID)["spec"]
    assert spec == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"gemma-operator.io/deployment": "chat"}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
