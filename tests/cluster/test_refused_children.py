"""Children that the API server does not take: not the pods of a Deployment, but the objects that the operator applies.

Each who refuses is the real one: an admission policy, a webhook that answers no, a ResourceQuota.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.teams import CHILDREN, Object, Team, a_deployment, condition, says
from cluster.test_failures import policy
from cluster.test_weights import CACHE, a_claim, deployment, volumes  # noqa: F401 - a fixture
from cluster.waiting import until
from gemma_operator.api import names
from gemma_operator.errors import ApiError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

_WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
#: The operator looks again ever later while it is refused.
_TRIED_AGAIN_WITHIN_SECONDS = 120


class No(http.server.BaseHTTPRequestHandler):
    """An administrator's webhook that lets nothing through."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {
            "uid": review["request"]["uid"],
            "allowed": False,
            "status": {"message": "teams need a budget"},
        }
        body = json.dumps({**review, "request": None, "response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def webhook(team: Team, tmp_path: Path) -> Iterator[str]:
    """One for the team's Deployments; its path."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    named = ["-days", "2", "-subj", "/CN=webhook", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*new, *named, "-keyout", key, "-out", made], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), No) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        name = f"budget-{team.namespace}"
        team.client.create(
            _WEBHOOKS,
            {
                "metadata": {"name": name},
                "webhooks": [_webhook(team, port=server.server_port, certificate=made)],
            },
        )
        yield f"{_WEBHOOKS}/{name}"
        if any(each["metadata"]["name"] == name for each in team.client.items(_WEBHOOKS)):
            team.client.delete(f"{_WEBHOOKS}/{name}")
        server.shutdown()
        thread.join()


def _webhook(team: Team, *, port: int, certificate: Path | None = None) -> Object:
    known = {"caBundle": base64.b64encode(certificate.read_bytes()).decode()} if certificate else {}
    about = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]}
    return {
        "name": "budget.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{port}/validate", **known},
        "rules": [about],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }


@pytest.fixture
def denied(team: Team) -> Iterator[list[Object]]:
    """A policy lets no Deployment of the team through, once it is in force; taken away at the end."""
    made = policy(f"deny-deployments-{team.namespace}", team.namespace)
    rule = made[0]["spec"]["matchConstraints"]["resourceRules"][0]
    rule |= {"apiGroups": ["apps"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
    yield made
    for each in made:
        with contextlib.suppress(AssertionError):
            team.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])


def refuses(team: Team, words: str) -> bool:
    """Whether a Deployment that is tried and not made is refused in these words."""
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    tried = {"metadata": {"name": "x"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    try:
        team.client.create(f"{team.path('Deployment')}?dryRun=All", tried)
    except ApiError as error:
        return words in str(error)
    return False


def test_a_deployment_that_a_webhook_denies_says_so_and_comes_when_it_lets_it(team: Team, webhook: str):
    until(lambda: refuses(team, "budget"), what="the webhook is asked")
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=1)]}))
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
    for kind in ("Ready", "Provisioned", "Stalled"):
        message = condition(said, kind)["message"]
        assert 'admission webhook "budget.example.com" denied the request: teams need a budget' in message
        assert "change what refuses it" in message
    assert [kind for kind in CHILDREN if team.find(kind, "chat")] == [
        "ServiceAccount",
        "Service",
        "NetworkPolicy",
    ]
    team.client.delete(webhook)
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)


def test_a_webhook_for_deployments_that_nobody_answers_is_named_and_waited_for(team: Team):
    dead = {
        **_webhook(team, port=1),  # nobody listens there
        "timeoutSeconds": 1,
    }
    path = f"{_WEBHOOKS}/budget-{team.namespace}"
    team.client.create(_WEBHOOKS, {"metadata": {"name": path.rpartition("/")[2]}, "webhooks": [dead]})
    try:
        until(lambda: refuses(team, "failed calling webhook"), what="the webhook is asked")
        team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=1)]}))
        said = team.sees("GemmaDeployment", "chat", says("Reconciling", "True", "AdmissionDenied"))
        assert 'failed calling webhook "budget.example.com"' in condition(said, "Ready")["message"]
        assert condition(said, "Stalled") == {}, "whoever runs the webhook mends it"
    finally:
        team.client.delete(path)
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)


def test_an_edit_that_a_policy_denies_leaves_the_old_generation_serving_and_says_why(team: Team, denied):
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=2)]}))
    team.ready()
    (before,) = team.pods("chat")
    for each in denied:
        team.kubectl("create", "-f", "-", text=json.dumps(each))
    until(lambda: refuses(team, "Friday"), what="the policy is in force")
    team.change("chat", {"serving": {"contextLength": 8192}})
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "AdmissionDenied"))
    assert "no pods on a Friday" in condition(said, "Ready")["message"]
    assert condition(said, "Stalled")["reason"] == "AdmissionDenied"
    assert says("Healthy", "True")(said)
    assert [pod["metadata"]["uid"] for pod in team.pods("chat")] == [before["metadata"]["uid"]]
    for each in denied:
        team.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)
    (after,) = team.pods("chat")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


def test_a_replan_whose_apply_a_policy_denies_counts_as_done_once_it_is_let_through(
    team: Team, denied: list[Object]
):
    """A request that counted before would be forgotten, and the plan before would be what is wanted."""
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=1)]}))
    before = team.ready()["status"]["plan"]["plannedAt"]
    for each in denied:
        team.kubectl("create", "-f", "-", text=json.dumps(each))
    until(lambda: refuses(team, "Friday"), what="the policy is in force")
    team.annotate("chat", {names.REPLAN_REQUESTED_AT: "monday"})
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
    assert "lastHandledReplanAt" not in said["status"]
    for each in denied:
        team.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])
    done = team.sees(
        "GemmaDeployment",
        "chat",
        lambda obj: obj["status"].get("lastHandledReplanAt") == "monday",
        within_seconds=_TRIED_AGAIN_WITHIN_SECONDS,
    )
    carried = json.loads(team.get("Deployment", "chat")["metadata"]["annotations"][names.PLAN])
    assert before < carried["plannedAt"] == done["status"]["plan"]["plannedAt"]


def test_a_job_that_a_quota_forbids_is_waited_for_in_the_quotas_own_words(team: Team, volumes):  # noqa: F811
    a_claim(team)
    quotas = f"/api/v1/namespaces/{team.namespace}/resourcequotas"
    team.client.create(quotas, {"metadata": {"name": "no-jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    until(lambda: team.client.get(f"{quotas}/no-jobs").get("status", {}).get("hard"), what="it is in force")
    team.apply(deployment(team, weights=CACHE))
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "QuotaExceeded"))
    assert "exceeded quota: no-jobs, requested: count/jobs.batch=1" in condition(said, "Ready")["message"]
    assert condition(said, "Reconciling")["reason"] == "QuotaExceeded"
    assert condition(said, "Stalled") == {}, "a quota is raised by others, and then it goes on by itself"
    assert team.find("Job", "chat-weights") is None
    team.client.delete(f"{quotas}/no-jobs")
    team.ready(within_seconds=_TRIED_AGAIN_WITHIN_SECONDS)
