"""Who may ask an endpoint: keys from the team's Secret, which the operator never reads."""

from __future__ import annotations

import base64
import json
from collections import Counter

import httpx
import pytest

from cluster.teams import a_deployment, condition, says
from cluster.waiting import until
from gemma_operator.apiserver.resources import SECRETS
from gemma_operator.controller.keyring import SEED_NAME

pytestmark = pytest.mark.cluster

ACCESS = {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
COMPLETION = {"model": "chat", "prompt": "hi", "max_tokens": 1}


@pytest.fixture
def guarded(team, operator):
    """A deployment that is Ready and asks for the key `sk-1`."""
    pool = team.pool("l4", nodes=2)
    put_secret(team, chat="sk-1\n")
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, access=ACCESS))
    team.ready("chat")
    return pool


def secret_path(team, name=""):
    return SECRETS.path(namespace=team.namespace, name=name)


def put_secret(team, **data):
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    team.client.create(secret_path(team), {"metadata": {"name": "keys"}, "data": encoded})


def asked(team, key=None, *, path="/v1/completions", pod=None):
    """The status of one request to the only pod, past the Service."""
    address = (pod or team.pods("chat")[0])["status"]["podIP"]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(
        f"http://{address}:8000{path}", json=COMPLETION, headers=headers, trust_env=False, timeout=30
    ).status_code


def test_a_guarded_endpoint_is_proved_by_the_operators_own_key(team, guarded):
    assert [asked(team, key) for key in ("sk-1", "sk-2", None)] == [200, 401, 401]
    assert asked(team, path="/invocations") == 401
    deployment = team.get("GemmaDeployment", "chat")
    assert condition(deployment, "Healthy")["status"] == "True"


def test_nothing_of_a_key_is_written_anywhere(team, guarded, operator):
    seed = team.client.get(SECRETS.path(namespace="gemma-system", name=SEED_NAME))["data"]["seed"]
    objects = [team.get(kind, "chat") for kind in ("GemmaDeployment", "Deployment", "Service")]
    text = json.dumps([*objects, *team.pods("chat"), *team.events("chat")]) + operator.log
    assert "sk-1" not in text
    assert base64.b64encode(b"sk-1\n").decode() not in text
    assert seed not in text


def test_a_rotated_key_counts_without_a_restart_and_the_endpoint_stays_ready(team, guarded):
    (before,) = team.pods("chat")
    since = team.told()
    encoded = base64.b64encode(b"sk-2").decode()
    team.client.merge(secret_path(team, "keys"), {"data": {"chat": encoded}})
    until(lambda: asked(team, "sk-2") == 200, what="the new key is taken")
    assert asked(team, "sk-1") == 401
    generated = _generated(team)
    until(lambda: _generated(team) > generated, what="the operator proves it again")
    assert says("Ready", "True")(team.get("GemmaDeployment", "chat"))
    (after,) = team.pods("chat")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    assert team.writes(since=since) == []


def _generated(team):
    """Tokens that the engine counts: while nobody else asks, those that the operator was given."""
    address = team.pods("chat")[0]["status"]["podIP"]
    text = httpx.get(f"http://{address}:8000/metrics", trust_env=False, timeout=30).text
    (line,) = [line for line in text.splitlines() if line.startswith("vllm:generation_tokens_total{")]
    return float(line.rpartition(" ")[2])


def test_a_restarted_operator_shows_the_same_key(team, guarded, operator):
    (before,) = team.pods("chat")
    since = team.told()
    operator.stop()
    generated = _generated(team)
    operator.ensure_running()
    until(lambda: _generated(team) > generated, what="the new process proves it")
    assert says("Ready", "True")(team.get("GemmaDeployment", "chat"))
    assert [pod["metadata"]["uid"] for pod in team.pods("chat")] == [before["metadata"]["uid"]]
    assert team.writes(since=since) == []


def test_a_missing_secret_shows_in_the_pod_and_nothing_serves_until_it_is_there(team, operator):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, access=ACCESS))

    def waits():
        statuses = [
            status for pod in team.pods("chat") for status in pod["status"].get("containerStatuses", ())
        ]
        waiting = [status.get("state", {}).get("waiting", {}) for status in statuses]
        return next((told for told in waiting if told.get("reason") == "CreateContainerConfigError"), None)

    assert until(waits, what="the pod says what it lacks")["message"] == 'secret "keys" not found'
    assert not says("Ready", "True")(team.get("GemmaDeployment", "chat"))
    put_secret(team, chat="sk-1")
    team.ready("chat")
    assert asked(team, "sk-1") == 200


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, 'secret "keys" not found'), ({"other": "sk-1"}, "couldn't find key chat in Secret")],
    ids=["no Secret", "no such key in it"],
)
def test_what_a_pod_lacks_is_said_of_the_deployment_with_the_remedy(team, operator, data, words):
    if data is not None:
        put_secret(team, **data)
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=1)]}, access=ACCESS))
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "SecretMissing"))
    for kind in ("Ready", "Stalled"):
        assert words in condition(said, kind)["message"]
        assert "make the Secret with the key that the spec names" in condition(said, kind)["message"]
    if data is None:
        put_secret(team, chat="sk-1")
    else:
        encoded = base64.b64encode(b"sk-1").decode()
        team.client.merge(secret_path(team, "keys"), {"data": {"chat": encoded}})
    team.ready("chat")


def put_value(team, value):
    """Into the key of a Secret that is there; None takes the key out of it."""
    encoded = value if value is None else base64.b64encode(value.encode()).decode()
    team.client.merge(secret_path(team, "keys"), {"data": {"chat": encoded}})


def test_a_key_without_a_value_is_named_while_the_first_start_still_runs_and_mended_by_a_value(
    team, operator
):
    put_secret(team, chat=" \n")
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=1)]}, access=ACCESS))
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "SecretMissing"))
    assert "not empty into key chat of Secret keys" in condition(said, "Ready")["message"]
    assert condition(said, "Stalled")["reason"] == "SecretMissing"
    (before,) = team.pods("chat")
    since = team.told()
    operator.restart()
    generated = _generated(team)
    until(lambda: _generated(team) > generated, what="the new process asks")
    assert condition(team.get("GemmaDeployment", "chat"), "Ready")["reason"] == "SecretMissing"
    assert team.writes(since=since) == []
    put_value(team, "sk-1")
    team.ready("chat")
    assert asked(team, "sk-1") == 200
    assert _same_life(team, before)


def _same_life(team, before):
    """The only pod is the one of before, and its engine was never started again."""
    (after,) = team.pods("chat")
    (container,) = after["status"]["containerStatuses"]
    return (after["metadata"]["uid"], container["restartCount"]) == (before["metadata"]["uid"], 0)


GOES = {
    "the value is emptied": lambda team: put_value(team, ""),
    "the key is deleted": lambda team: put_value(team, None),
    "the Secret is deleted": lambda team: team.client.delete(secret_path(team, "keys")),
}
COMES = {
    "the value is emptied": lambda team: put_value(team, "sk-2"),
    "the key is deleted": lambda team: put_value(team, "sk-2"),
    "the Secret is deleted": lambda team: put_secret(team, chat="sk-2"),
}


@pytest.mark.parametrize("how", GOES)
def test_keys_that_go_from_under_a_replica_that_serves_are_not_ready_and_nothing_is_restarted(
    team, guarded, operator, how
):
    (before,) = team.pods("chat")
    since = team.told()
    GOES[how](team)
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "SecretMissing"))
    assert "not empty into key chat of Secret keys" in condition(said, "Ready")["message"]
    assert condition(said, "Healthy")["status"] == "False"
    assert condition(said, "Stalled")["reason"] == "SecretMissing"
    assert asked(team, "sk-1") == 401
    assert _behind_the_service(team) == [before["metadata"]["uid"]]

    generated = _generated(team)
    operator.restart()
    until(lambda: _generated(team) > generated, what="a restarted operator asks, and is let in")
    assert condition(team.get("GemmaDeployment", "chat"), "Ready")["reason"] == "SecretMissing"

    COMES[how](team)
    team.ready("chat")
    assert asked(team, "sk-2") == 200
    assert _same_life(team, before)
    team.told()
    written = [str(write) for write in team.writes(since=since)]
    assert Counter(written) == {"apply status chat": 2, "create Event": 2}


def _behind_the_service(team):
    """Uids of the pods that are routed to."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{team.namespace}/endpointslices"
    return [
        endpoint["targetRef"]["uid"]
        for piece in team.client.get(path)["items"]
        for endpoint in piece["endpoints"]
        if endpoint["conditions"]["ready"]
    ]


def test_of_two_replicas_that_lose_their_keys_none_is_replaced_and_the_service_keeps_both(team, operator):
    put_secret(team, chat="sk-1")
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, access=ACCESS, replicas=2))
    team.ready("chat")
    pods = sorted(pod["metadata"]["uid"] for pod in team.pods("chat"))
    put_value(team, "")

    def both_are_named(deployment):
        said = condition(deployment, "Ready")
        return says("Ready", "False", "SecretMissing")(deployment) and "2 of 2 replicas" in said["message"]

    team.sees("GemmaDeployment", "chat", both_are_named)
    assert sorted(_behind_the_service(team)) == pods
    put_value(team, "sk-1")
    team.ready("chat")
    assert sorted(pod["metadata"]["uid"] for pod in team.pods("chat")) == pods


def test_a_key_that_goes_from_the_spec_opens_the_endpoint_by_a_rollout(team, guarded):
    team.change("chat", {"access": None})
    until(lambda: _all(team, asked_without=200), what="a replica without a guard")
    team.ready("chat")
    assert "access-guard" not in json.dumps(team.get("Deployment", "chat")["spec"])


def _all(team, *, asked_without):
    pods = [pod for pod in team.pods("chat") if pod["status"].get("podIP")]
    try:
        return pods and all(asked(team, pod=pod) == asked_without for pod in pods)
    except httpx.TransportError:
        return False


def test_only_named_namespaces_and_the_operator_reach_it(team, guarded):
    team.change("chat", {"access": {"allowedNamespaces": ["web"]}})
    policy = team.sees("NetworkPolicy", "chat", lambda policy: "web" in json.dumps(policy["spec"]))
    (rule,) = policy["spec"]["ingress"]
    named, operators = (peer["namespaceSelector"]["matchExpressions"][0]["values"] for peer in rule["from"])
    assert (named, operators) == (sorted([team.namespace, "web"]), ["gemma-system"])


@pytest.mark.parametrize(
    "verb", ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"]
)
def test_the_operator_may_do_nothing_with_a_teams_secrets(team, verb):
    assert not _may(team, verb, namespace=team.namespace)


def test_of_its_own_namespaces_secrets_it_may_read_the_seed_alone(team):
    verbs = ("get", "list", "watch", "update", "patch", "delete")
    allowed = [verb for verb in verbs if _may(team, verb, namespace="gemma-system", name=SEED_NAME)]
    others = [verb for verb in verbs if _may(team, verb, namespace="gemma-system", name="other")]
    assert (allowed, others) == (["get"], [])


def _may(team, verb, *, namespace, name="keys"):
    user = "system:serviceaccount:gemma-system:gemma-operator"
    attributes = {"verb": verb, "resource": "secrets", "namespace": namespace, "name": name}
    groups = ["system:serviceaccounts", "system:serviceaccounts:gemma-system", "system:authenticated"]
    review = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}
    return team.client.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"][
        "allowed"
    ]
