"""How pods are reached, and by whom."""

import pytest

from gemma_operator.backends.kubernetes import render_network as network
from gemma_operator.settings import OperatorSettings
from snapshots import UID, a_spec


def policy(*, settings=None, **spec):
    made = network.network_policy(a_spec(**spec), uid=UID, port=8000, settings=settings or OperatorSettings())
    return made["spec"]


def namespaces(**changes):
    (rule,) = policy(**changes)["ingress"]
    (expression,) = rule["from"][0]["namespaceSelector"]["matchExpressions"]
    return expression["values"]


def ports_out(**changes):
    return {
        (port["port"], port["protocol"]) for rule in policy(**changes)["egress"] for port in rule["ports"]
    }


def test_the_identity_has_no_token():
    assert network.service_account(a_spec(), uid=UID)["automountServiceAccountToken"] is False


def test_the_service_names_its_port_and_the_pods_port():
    spec = network.service(a_spec(), uid=UID, port=8000)["spec"]
    assert spec["ports"] == [{"name": "http", "port": 8000, "targetPort": "http", "protocol": "TCP"}]
    assert spec["selector"] == {"gemma-operator.io/deployment": "chat"}


def test_the_policy_is_about_our_pods_both_ways():
    assert policy()["podSelector"] == {"matchLabels": {"gemma-operator.io/deployment": "chat"}}
    assert policy()["policyTypes"] == ["Ingress", "Egress"]


def test_only_the_served_port_is_open():
    (rule,) = policy()["ingress"]
    assert rule["ports"] == [{"port": 8000, "protocol": "TCP"}]


def test_the_own_namespace_and_the_operators_may_call():
    assert namespaces() == ["gemma-system", "team-a"]


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
        "gemma-system",
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


def test_a_drain_takes_one_replica_at_a_time_and_never_waits_for_a_dead_one():
    spec = network.pod_disruption_budget(a_spec(), uid=UID)["spec"]
    assert spec == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": {"gemma-operator.io/deployment": "chat"}},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
