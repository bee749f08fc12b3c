"""Pods that the API server does not take, of a Deployment and of the Job that brings weights: who refuses them and why.

Each who refuses is the real one: a LimitRange, a webhook that nobody answers, an admission policy. When it has gone the
pods come without an edit, as late as their controller tries again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.teams import Object, Team, a_deployment, condition, says
from cluster.test_failures import denies, policy
from cluster.test_weights import CACHE, a_claim, deployment, volumes  # noqa: F401 - a fixture
from cluster.waiting import throughout, until
from gemma_operator.errors import ApiError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
#: Their controllers back off while they are refused.
_TRIED_AGAIN_WITHIN_SECONDS = 120


def limit(team: Team, **item: object) -> str:
    """A LimitRange; its path."""
    path = f"/api/v1/namespaces/{team.namespace}/limitranges"
    team.client.create(
        path, {"metadata": {"name": "few"}, "spec": {"limits": [{"type": "Container", **item}]}}
    )
    until(lambda: refuses_a_pod(team, "memory"), what="the LimitRange is in force")
    return f"{path}/few"


def refuses_a_pod(team: Team, words: str) -> bool:
    """Whether a pod of 2 GiB that is tried and not made is refused in these words."""
    memory = {"memory": "2Gi"}
    container = {"name": "x", "image": "x", "resources": {"requests": memory, "limits": memory}}
    tried = {"metadata": {"name": "x"}, "spec": {"containers": [container]}}
    try:
        team.client.create(f"{team.path('Pod')}?dryRun=All", tried)
    except ApiError as error:
        return words in str(error)
    return False


def told(team: Team, figure: Callable[[str], None], what: str, kind: str, reason: str) -> str:
    """Waits until the condition says so; its message."""
    began = time.monotonic()
    said = team.sees("GemmaDeployment", "chat", says(kind, "False", reason))
    figure(f"{what}: {reason} said {time.monotonic() - began:.1f} s after it could be")
    return str(condition(said, kind)["message"])


def test_a_job_that_a_limit_range_forbids_a_pod_says_so(team, volumes, figure):  # noqa: F811
    a_claim(team)
    path = limit(team, min={"memory": "4Gi"})
    team.apply(deployment(team, weights=CACHE))
    message = told(team, figure, "Job and LimitRange", "WeightsReady", "QuotaExceeded")
    assert "a pod of Job chat-weights is not made: minimum memory usage per Container is 4Gi" in message
    assert "raise the quota or limit" in message
    assert condition(team.get("GemmaDeployment", "chat"), "Reconciling")["reason"] == "QuotaExceeded"
    assert team.find("Deployment", "chat") is None
    team.client.delete(path)
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)


def test_a_job_whose_pods_a_policy_denies_says_so(team, volumes, figure):  # noqa: F811
    a_claim(team)
    made = policy(f"deny-{team.namespace}", team.namespace)
    for each in made:
        team.kubectl("create", "-f", "-", text=json.dumps(each))
    try:
        until(lambda: denies(team), what="the policy is in force")
        team.apply(deployment(team, weights=CACHE))
        message = told(team, figure, "Job and policy", "WeightsReady", "AdmissionDenied")
        assert "no pods on a Friday" in message
        stalled = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
        assert condition(stalled, "Ready")["reason"] == "AdmissionDenied"
        assert [str(write) for write in team.writes()].count("apply Job chat-weights") == 1
    finally:
        for each in made:
            team.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)


def test_a_limit_range_that_came_later_is_told_in_its_own_words(team, figure):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment(hardware={"pools": [pool]}))
    team.ready()
    path = limit(team, max={"memory": "1Gi"})
    team.delete("Pod", team.pods("chat")[0]["metadata"]["name"])
    message = told(team, figure, "Deployment and LimitRange", "Ready", "QuotaExceeded")
    assert "must be less than or equal to memory limit of 1Gi" in message, (
        "its most is a limit for who has none"
    )
    since = team.told()
    throughout(lambda: not team.writes(since=since), what="each try has another pod's name", seconds=5)
    team.apply(a_deployment("second", hardware={"pools": [pool]}))
    barred = team.sees("GemmaDeployment", "second", says("Planned", "False", "QuotaExceeded"))
    assert "LimitRange few" in condition(barred, "Planned")["message"]
    assert team.pods("second") == []
    team.client.delete(path)
    team.ready("second")
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)


@pytest.fixture
def unanswered(team: Team) -> Iterator[str]:
    """A webhook for the team's pods at a port of this machine where nobody listens; its path."""
    webhook: Object = {
        "name": "images.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "rules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    name = f"images-{team.namespace}"
    team.client.create(_WEBHOOKS, {"metadata": {"name": name}, "webhooks": [webhook]})
    until(lambda: refuses_a_pod(team, "failed calling webhook"), what="the webhook is asked")
    yield f"{_WEBHOOKS}/{name}"
    if any(each["metadata"]["name"] == name for each in team.client.items(_WEBHOOKS)):
        team.client.delete(f"{_WEBHOOKS}/{name}")


def test_a_webhook_that_nobody_answers_is_named_and_waited_for(team, unanswered, figure):
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=1)]}))
    message = told(team, figure, "Deployment and webhook", "Ready", "AdmissionDenied")
    assert 'failed calling webhook "images.example.com"' in message
    seen = team.get("GemmaDeployment", "chat")
    assert condition(seen, "Reconciling")["reason"] == "AdmissionDenied", "whoever runs the webhook mends it"
    assert condition(seen, "Stalled") == {}
    team.client.delete(unanswered)
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)
