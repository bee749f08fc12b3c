"""The real cluster itself: pods on both nodes, names, Services, enforced policies, admission.

That it leaves nothing behind is checked by the fixture, at the very end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.waiting import until
from engine.nodes.cluster import RealCluster
from engine.nodes.images import PYTHON

_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_SERVE = "from http.server import *; HTTPServer(('', 8000), SimpleHTTPRequestHandler).serve_forever()"
#: Prints the status of an answer, or why there was none.
_ASK = (
    "import sys, urllib.request\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=5).status)\n"
    "except OSError as error: print(error)\n"
)


def a_pod(name: str, node: str, *words: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": PYTHON,
        "imagePullPolicy": "Never",
        "args": list(words),
        "workingDir": "/etc",
        "securityContext": _RESTRICTED,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name.partition("-")[0]}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def team(cluster: RealCluster) -> Iterator[str]:
    """A restricted namespace with two servers, one a node, behind one Service, and a client beside them."""
    namespace = "plain"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "server"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8000}]},
        },
        a_pod("server-a", "node-a", "-c", _SERVE),
        a_pod("server-b", "node-b", "-c", _SERVE),
        a_pod("client", "node-a", "-c", "import time; time.sleep(10**6)"),
    ]
    for each in objects:
        cluster.kubectl("-n", namespace, "apply", "-f", "-", text=json.dumps(each))
    words = ("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
    cluster.kubectl("-n", namespace, *words)
    yield namespace
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def ask(cluster: RealCluster, namespace: str, url: str) -> str:
    words = ("exec", "client", "--", "python3", "-c", _ASK, url)
    return cluster.kubectl("-n", namespace, *words).strip()


def address(cluster: RealCluster, namespace: str, pod: str) -> str:
    return cluster.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def test_pods_reach_each_other_by_address_name_and_service(cluster: RealCluster, team: str) -> None:
    for pod in ("server-a", "server-b"):
        assert ask(cluster, team, f"http://{address(cluster, team, pod)}:8000/hosts") == "200"
    until(lambda: ask(cluster, team, "http://server/hosts") == "200", what="the Service answers by its name")
    assert ask(cluster, team, f"http://server.{team}.svc.cluster.local/hosts") == "200"


def test_a_policy_is_enforced_on_the_same_node_across_nodes_and_through_the_service(
    cluster: RealCluster, team: str
) -> None:
    urls = [f"http://{address(cluster, team, pod)}:8000/hosts" for pod in ("server-a", "server-b")]
    urls.append("http://server/hosts")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]},
    }
    cluster.kubectl("-n", team, "apply", "-f", "-", text=json.dumps(policy))
    for url in urls:
        until(lambda url=url: "refused" in ask(cluster, team, url), what=f"{url} is refused")
    allowed = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}]
    policy["spec"] = {**policy["spec"], "ingress": allowed}
    cluster.kubectl("-n", team, "apply", "-f", "-", text=json.dumps(policy))
    for url in urls:
        until(lambda url=url: ask(cluster, team, url) == "200", what=f"{url} is let through")


def test_restricted_refuses_what_reaches_the_node_and_admits_a_claim(cluster: RealCluster, team: str) -> None:
    folder = {"volumes": [{"name": "v", "hostPath": {"path": "/tmp"}}]}
    with pytest.raises(AssertionError, match="restricted volume types"):
        cluster.kubectl(
            "-n", team, "create", "-f", "-", text=json.dumps(a_pod("bad", "node-a", "-c", "0", **folder))
        )
    claim = {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "any"}}]}
    cluster.kubectl(
        "-n", team, "create", "-f", "-", text=json.dumps(a_pod("good", "node-a", "-c", "0", **claim))
    )
    cluster.kubectl("-n", team, "delete", "pod", "good", "--wait=false")
