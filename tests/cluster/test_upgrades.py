"""Another version of the operator takes over: what runs is left as it is, and what is said of it stays true."""

from __future__ import annotations

import json

import pytest

from cluster.teams import CHILDREN, a_deployment, condition, says
from cluster.test_failures import policy
from cluster.waiting import until
from gemma_operator.api import names
from gemma_operator.backends.kubernetes.render import RENDERER_VERSION
from gemma_operator.errors import ApiError
from gemma_operator.sandbox.simulator.instructions import PREFIX

pytestmark = pytest.mark.cluster

OLDER = "of-an-older-version"
#: The operator looks again ever later while it is refused.
_TRIED_AGAIN_SECONDS = 120


@pytest.fixture
def upgraded(team, operator):
    """A deployment that was Ready under an older version, whose template had another line in it."""
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=3)]}))
    team.ready("chat")
    operator.stop()
    (first,) = team.pods("chat")
    of_older = {"annotations": {names.INTENT: OLDER}}
    team.client.merge(
        team.path("Deployment", "chat"),
        {
            "metadata": {"annotations": {names.RENDERER_VERSION: "0"}},
            "spec": {"template": {"metadata": of_older}},
        },
    )

    def followed():
        pods = team.pods("chat")
        return (
            len(pods) == 1 and pods[0]["metadata"]["uid"] != first["metadata"]["uid"] and _is_ready(pods[0])
        )

    until(followed, what="the replica of the older version serves")
    since = team.audit.position
    operator.ensure_running()
    return since


def _is_ready(pod):
    return any(
        said["type"] == "Ready" and said["status"] == "True" for said in pod["status"].get("conditions", ())
    )


def _stands(team):
    """The one pod, and what the Deployment says of who rendered it."""
    (pod,) = team.pods("chat")
    said = team.get("Deployment", "chat")["metadata"]["annotations"][names.RENDERER_VERSION]
    return pod["metadata"]["uid"], said


def _written(team, since):
    """Writes beside the status and its Events."""
    written = [str(write) for write in team.writes(since=since)]
    return [each for each in written if each not in ("apply status chat", "create Event")]


@pytest.fixture
def told(team, upgraded):
    """The new version has asked the replica and said how it is."""
    team.sees("GemmaDeployment", "chat", says("Planned", "True", "UpdateAvailable"))
    return team.audit.position


def test_an_upgrade_restarts_no_engine_and_what_was_ready_is_ready(team, upgraded):
    before = _stands(team)
    said = team.sees("GemmaDeployment", "chat", says("Planned", "True", "UpdateAvailable"))
    assert (condition(said, "Ready")["status"], condition(said, "Ready")["reason"]) == ("True", "Serving")
    assert not condition(said, "Reconciling")
    assert (_stands(team), before[1]) == (before, "0")
    assert _written(team, upgraded) == []


def test_also_where_the_status_was_lost(team, told, operator):
    operator.stop()
    before, since = _stands(team), team.audit.position
    path = f"{team.path('GemmaDeployment', 'chat')}/status"
    team.client.merge(path, {"status": dict.fromkeys(team.get("GemmaDeployment", "chat")["status"])})
    assert "conditions" not in team.get("GemmaDeployment", "chat").get("status", {})
    operator.ensure_running()
    said = team.ready("chat")
    assert condition(said, "Planned")["reason"] == "UpdateAvailable"
    assert said["status"]["endpoint"]["url"].startswith("http://chat.")
    assert (_stands(team), _written(team, since)) == (before, [])


@pytest.mark.parametrize(
    "spec",
    [
        {"serving": {"engine": {"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}}},
        {"pod": {"labels": {"cost-centre": "42"}}},
        {"replicas": 2, "pod": {"labels": {"cost-centre": "42"}}},
    ],
    ids=["env", "pod", "pod and replicas"],
)
def test_a_change_after_it_is_taken_up_in_the_new_form(team, told, spec):
    """The planner reads none of these."""
    (first, _) = _stands(team)
    team.change("chat", spec)
    team.ready("chat")
    pods = team.pods("chat")
    assert len(pods) == spec.get("replicas", 1)
    assert first not in [pod["metadata"]["uid"] for pod in pods]
    for pod in pods:
        assert pod["metadata"]["annotations"][names.INTENT] != OLDER
        (engine,) = (each for each in pod["spec"]["containers"] if each["name"] == "engine")
        for variable in spec.get("serving", {}).get("engine", {}).get("env", ()):
            assert variable in engine["env"]
        assert spec.get("pod", {}).get("labels", {}).items() <= pod["metadata"]["labels"].items()
    assert _by(team) == RENDERER_VERSION


def _by(team):
    return team.get("Deployment", "chat")["metadata"]["annotations"][names.RENDERER_VERSION]


def test_a_scale_after_it_touches_no_replica_that_runs(team, told):
    (first, _) = _stands(team)
    team.kubectl("scale", "gemmadeployment/chat", "--replicas=2")
    said = team.ready("chat")
    assert (condition(said, "Planned")["reason"], said["status"]["readyReplicas"]) == ("UpdateAvailable", 2)
    pods = team.pods("chat")
    assert {pod["metadata"]["annotations"][names.INTENT] for pod in pods} == {OLDER}
    assert first in [pod["metadata"]["uid"] for pod in pods]
    assert _written(team, told) == ["apply PodDisruptionBudget chat", "apply Deployment chat"]
    since = team.audit.position
    team.kubectl("scale", "gemmadeployment/chat", "--replicas=1")
    team.gone("PodDisruptionBudget", "chat")
    until(lambda: len(team.pods("chat")) == 1, what="one replica is left")
    team.ready("chat")
    assert _by(team) == "0"
    assert _written(team, since) == ["apply Deployment chat", "delete PodDisruptionBudget chat"]


def test_orphans_of_an_older_version_are_adopted_as_they_are(team, told, operator):
    operator.stop()
    before, manifest = _stands(team), team.get("GemmaDeployment", "chat")
    team.kubectl("delete", "gd", "chat", "--cascade=orphan")
    until(
        lambda: not any(team.get(kind, "chat")["metadata"].get("ownerReferences") for kind in CHILDREN),
        what="orphans",
    )
    team.apply(a_deployment("chat", **manifest["spec"]))
    operator.ensure_running()
    owner = team.ready("chat")["metadata"]["uid"]
    for kind in CHILDREN:
        owners = team.get(kind, "chat")["metadata"]["ownerReferences"]
        assert [each["uid"] for each in owners] == [owner]
    assert _stands(team) == before


def test_a_refresh_after_a_scale_takes_everything_back_into_one_hand(team, told, operator):
    """What was merged is applied again: nothing is left that would differ for ever."""
    team.kubectl("scale", "gemmadeployment/chat", "--replicas=2")
    team.ready("chat")
    team.annotate("chat", {names.REFRESH_REQUESTED_AT: "now"})
    team.sees("Deployment", "chat", lambda seen: _is_of(seen, RENDERER_VERSION))
    team.ready("chat")
    assert OLDER not in {pod["metadata"]["annotations"][names.INTENT] for pod in team.pods("chat")}
    team.kubectl("scale", "gemmadeployment/chat", "--replicas=1")
    team.gone("PodDisruptionBudget", "chat")
    team.sees("GemmaDeployment", "chat", lambda seen: seen["status"]["replicas"] == 1)
    assert team.get("Deployment", "chat")["spec"]["replicas"] == 1
    since = team.told()
    operator.restart()
    until(lambda: _is_proved(team, operator), what="the new process has a proof of its own")
    assert [str(write) for write in team.writes(since=since)] == []


def _is_of(deployment, renderer):
    return deployment["metadata"]["annotations"][names.RENDERER_VERSION] == renderer


def _is_proved(team, operator):
    series = f'gemma_deployment_replicas{{name="chat",namespace="{team.namespace}",state="proved"}} 1.0'
    return series in operator.metrics().splitlines()


def test_a_broken_generation_is_edited_back_to_health_after_it(team, operator):
    """The rollout that the older version began stands still; what heals it is a change like any other."""
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=2)]}))
    team.ready("chat")
    team.change("chat", {"pod": {"annotations": {f"{PREFIX}fault": "no-token"}}})
    until(
        lambda: len(team.pods("chat")) == 2, what="the broken replica is started beside the one that serves"
    )
    operator.stop()
    team.annotate("chat", {names.RENDERER_VERSION: "0"}, kind="Deployment")
    operator.ensure_running()
    said = team.sees("GemmaDeployment", "chat", says("Planned", "True", "UpdateAvailable"))
    assert (condition(said, "Ready")["status"], condition(said, "Healthy")["status"]) == ("False", "True")
    team.change("chat", {"pod": {"annotations": {f"{PREFIX}fault": None}}})
    team.ready("chat")
    assert _by(team) == RENDERER_VERSION
    until(lambda: len(team.pods("chat")) == 1, what="the broken replica goes")


def test_a_change_that_is_refused_at_first_is_taken_up_when_it_is_let_through(team, told):
    """What was said of that generation meanwhile does not make it taken up."""
    made = policy(f"deny-changes-{team.namespace}", team.namespace)
    made[0]["spec"]["matchConstraints"]["resourceRules"][0] |= {
        "apiGroups": ["apps"],
        "operations": ["UPDATE"],
        "resources": ["deployments"],
    }
    for each in made:
        team.kubectl("create", "-f", "-", text=json.dumps(each))
    try:
        until(lambda: _is_denied(team), what="the policy is in force")
        team.change("chat", {"pod": {"labels": {"cost-centre": "42"}}})
        seen = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
        assert condition(seen, "Healthy")["status"] == "True"
        assert condition(seen, "Ready")["status"] == "False"
        assert _by(team) == "0"
    finally:
        for each in made:
            team.kubectl("delete", each["kind"], each["metadata"]["name"])
    team.sees(
        "Deployment", "chat", lambda seen: _is_of(seen, RENDERER_VERSION), within_seconds=_TRIED_AGAIN_SECONDS
    )
    team.ready("chat")
    (pod,) = team.pods("chat")
    assert pod["metadata"]["labels"]["cost-centre"] == "42"


def _is_denied(team):
    tried = {"metadata": {"annotations": {"example.com/tried": "yes"}}}
    try:
        team.client.merge(f"{team.path('Deployment', 'chat')}?dryRun=All", tried)
    except ApiError:
        return True
    return False
