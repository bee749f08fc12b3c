"""Ways in which an endpoint can look well and not be: what only the address, or only time, gives away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from cluster.teams import Team, a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture
def chat(team: Team):
    """One replica, Ready."""
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    return team.ready("chat")


@pytest.fixture
def misdirected(team: Team) -> Iterator[None]:
    """Somebody's admission policy sends the team's Services to a port where nothing listens, at each write."""
    name = f"misdirect-{team.namespace}"
    matched = {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": matched,
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["services"],
                    }
                ],
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {
                        "expression": '[JSONPatch{op: "replace", path: "/spec/ports/0/targetPort", value: 9999}]'
                    },
                }
            ],
        },
    }
    team.client.create(f"{_ADMISSION}/mutatingadmissionpolicies", policy)
    team.client.create(
        f"{_ADMISSION}/mutatingadmissionpolicybindings",
        {"metadata": {"name": name}, "spec": {"policyName": name}},
    )
    yield
    for kind in ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies"):
        team.client.delete(f"{_ADMISSION}/{kind}/{name}")


def test_pods_answer_and_the_address_does_not(team: Team, chat, misdirected):
    """vllm-project/router#158: every worker was healthy, every request over the published path failed."""
    assert says("Ready", "True")(chat)
    service = team.path("Service", "chat")
    until(lambda: _misdirected(team, service), what="the policy is in force")
    since = team.audit.position
    gone = team.sees("GemmaDeployment", "chat", says("Ready", "False", "NoEndpoints"))
    assert chat["status"]["endpoint"]["url"] in condition(gone, "Ready")["message"]
    assert says("Healthy", "False")(gone)
    throughout(
        lambda: says("Ready", "False")(team.get("GemmaDeployment", "chat")),
        what="Ready stays False",
        seconds=3,
    )
    tried = [write for write in team.writes(since=since) if write.kind == "Service"]
    assert len(tried) <= 5, "a field that another writer changes back is not fought over"


def _misdirected(team: Team, service: str) -> bool:
    touched = team.client.merge(service, {"metadata": {"annotations": {"touched": str(time.monotonic_ns())}}})
    return touched["spec"]["ports"][0]["targetPort"] == 9999
