"""What becomes of a GemmaDeployment, from its first apply to its end, on a real API server."""

from __future__ import annotations

import time

import pytest

from cluster.teams import ALL_CHILDREN, CHILDREN, Team, a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


@pytest.fixture
def chat(team: Team):
    """A small deployment, Ready on a node of its own with room for more."""
    pool = team.pool("l4", nodes=3)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    return team.ready("chat")


def test_a_31b_becomes_ready_on_an_h100(team, figure):
    pool = team.pool("h100", nodes=1)
    began = time.monotonic()
    made = team.apply(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat"},
            "spec": {"model": {"variants": ["31B"]}, "hardware": {"pools": [pool]}},
        }
    )
    chat = team.ready("chat")
    figure(f"apply → Ready {time.monotonic() - began:.1f} s, of it 1 s the simulated engine's own start")
    plan = chat["status"]["plan"]
    assert (plan["variant"], plan["accelerator"]) == ("31B", "nvidia-h100-80gb")
    assert (plan["pool"]["source"], plan["pool"]["name"]) == ("gke-nodepool", pool)
    (pod,) = team.pods("chat")
    node = team.node(pod["spec"]["nodeName"])
    assert node["metadata"]["labels"]["cloud.google.com/gke-nodepool"] == pool
    assert chat["status"]["endpoint"] == {
        "url": f"http://chat.{team.namespace}.svc:8000/v1",
        "model": "chat",
        "api": "OpenAI",
    }
    assert (chat["status"]["replicas"], chat["status"]["readyReplicas"]) == (1, 1)
    for kind in CHILDREN:
        (owner,) = team.get(kind, "chat")["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    assert team.find("PodDisruptionBudget", "chat") is None


def test_an_edit_of_what_the_plan_depends_on_plans_anew(team, chat):
    assert chat["status"]["plan"]["contextLength"] == 32768
    (old,) = team.pods("chat")
    team.change("chat", {"serving": {"contextLength": 8192}})
    after = team.ready("chat")
    assert after["status"]["plan"]["contextLength"] == 8192
    assert after["status"]["plan"]["inputsHash"] != chat["status"]["plan"]["inputsHash"]
    (new,) = team.pods("chat")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert "--max-model-len 8192" in " ".join(new["spec"]["containers"][0]["args"])


def test_an_edit_of_anything_else_rolls_one_replica_at_a_time_and_keeps_the_plan(team, chat):
    team.change("chat", {"replicas": 2})
    before = team.ready("chat")
    team.change("chat", {"pod": {"labels": {"team": "blue"}}})

    def rolled():
        pods = team.pods("chat")
        assert len(pods) <= 3, "maxSurge is 1"
        assert sum(_is_ready(pod) for pod in pods) >= 2, "maxUnavailable is 0"
        return says("Ready", "True")(team.get("GemmaDeployment", "chat"))

    until(rolled, what="the new label is rolled out")
    assert [pod["metadata"]["labels"].get("team") for pod in team.pods("chat")] == ["blue", "blue"]
    strategy = team.get("Deployment", "chat")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert team.get("GemmaDeployment", "chat")["status"]["plan"] == before["status"]["plan"]


def _is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def test_kubectl_scale_up_and_down_moves_replicas_budget_and_claim(team, chat):
    pool = chat["status"]["plan"]["pool"]["name"]
    (first,) = team.pods("chat")
    team.kubectl("scale", "gd", "chat", "--replicas=3")
    assert team.ready("chat")["status"]["readyReplicas"] == 3
    assert team.find("PodDisruptionBudget", "chat")
    assert first["metadata"]["uid"] in {pod["metadata"]["uid"] for pod in team.pods("chat")}
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    team.sees("GemmaDeployment", "late", says("Planned", "False", "WaitingForCapacity"))
    assert team.pods("late") == [], "nothing is made that could not be scheduled"
    team.kubectl("scale", "gd", "chat", "--replicas=1")
    team.gone("PodDisruptionBudget", "chat")
    team.ready("late")
    until(lambda: team.ready("chat")["status"]["replicas"] == 1, what="one replica is left")
    team.kubectl("scale", "gd", "chat", "--replicas=0")
    team.sees("GemmaDeployment", "chat", says("Ready", "True", "IdleAtZero"))


def test_suspend_removes_everything_and_keeps_the_plan_and_resume_brings_it_back(team, chat):
    pool = chat["status"]["plan"]["pool"]["name"]
    team.change("chat", {"replicas": 3})
    plan = team.ready("chat")["status"]["plan"]
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    team.sees("GemmaDeployment", "late", says("Planned", "False", "WaitingForCapacity"))
    team.change("chat", {"suspend": True})
    for kind in ALL_CHILDREN:
        team.gone(kind, "chat")
    until(lambda: not team.pods("chat"), what="the pods are gone")
    suspended = team.sees("GemmaDeployment", "chat", says("Suspended", "True"))
    assert suspended["status"]["plan"] == plan
    assert condition(suspended, "Ready") == {}
    team.ready("late")  # the claim was given up with the pods
    team.change("chat", {"suspend": False, "replicas": 2})
    resumed = team.ready("chat")
    assert condition(resumed, "Suspended") == {}
    assert resumed["status"]["plan"]["pool"] == plan["pool"]


def test_a_deleted_deployment_leaves_nothing_behind(team, chat, operator):
    ours = f'namespace="{team.namespace}"'
    until(lambda: ours in operator.metrics(), what="its series")
    team.delete("GemmaDeployment", "chat")
    for kind in CHILDREN:
        team.gone(kind, "chat")  # the collector learns of a new CRD every 30 s
    until(lambda: not team.pods("chat"), what="the pods are gone")
    until(lambda: ours not in operator.metrics(), what="its series are gone")


def test_what_was_edited_by_hand_is_put_back(team, chat):
    edits = {
        "Service": {"spec": {"ports": [{"name": "http", "port": 9000, "targetPort": 9000}]}},
        "Deployment": {"spec": {"template": {"spec": {"containers": [_container(team, env=[])]}}}},
        "NetworkPolicy": {"spec": {"ingress": [{}]}},
        "ServiceAccount": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}},
    }
    before = {kind: team.get(kind, "chat") for kind in edits}
    for kind, patch in edits.items():
        team.client.merge(team.path(kind, "chat"), patch)
        was = before[kind]
        team.sees(kind, "chat", lambda obj, was=was: _substance(obj) == _substance(was))
    team.ready("chat")


def _container(team, **changes):
    (container,) = team.get("Deployment", "chat")["spec"]["template"]["spec"]["containers"]
    return {**container, **changes}


def _substance(obj):
    return obj.get("spec"), obj["metadata"].get("labels")


def test_what_was_deleted_by_hand_comes_back(team, chat):
    team.change("chat", {"replicas": 2})
    team.ready("chat")
    for kind in ALL_CHILDREN:
        uid = team.get(kind, "chat")["metadata"]["uid"]
        team.delete(kind, "chat")
        team.sees(kind, "chat", lambda obj, uid=uid: obj["metadata"]["uid"] != uid)
    assert team.ready("chat")["status"]["plan"] == chat["status"]["plan"]


def test_orphans_are_adopted_with_their_pods_and_their_plan(team, chat):
    pods = {pod["metadata"]["uid"] for pod in team.pods("chat")}
    team.kubectl("delete", "gd", "chat", "--cascade=orphan")
    team.gone("GemmaDeployment", "chat")
    until(
        lambda: not any("ownerReferences" in team.get(k, "chat")["metadata"] for k in CHILDREN),
        what="orphans",
    )
    since = team.audit.position
    again = team.apply(a_deployment("chat", hardware={"pools": [chat["status"]["plan"]["pool"]["name"]]}))
    after = team.ready("chat")
    assert {pod["metadata"]["uid"] for pod in team.pods("chat")} == pods
    assert [write for write in team.writes(since=since) if write.created] == []
    assert after["status"]["plan"] == chat["status"]["plan"]
    for kind in CHILDREN:
        (owner,) = team.get(kind, "chat")["metadata"]["ownerReferences"]
        assert owner["uid"] == again["metadata"]["uid"]


def test_a_namespace_that_is_deleted_goes_quietly(team, chat, operator):
    team.delete_namespace()
    until(lambda: team.find_namespace() is None, what="the namespace is gone")
    lines = [line for line in operator.log.splitlines() if team.namespace in line and "WARNING" in line]
    assert lines == []


def test_reconcile_disabled_leaves_the_object_and_its_children_alone(team, chat):
    team.annotate("chat", {"gemma-operator.io/reconcile": "Disabled"})
    said = team.sees("GemmaDeployment", "chat", says("Ready", "True", "HandsOff"))
    assert "remove it to go on" in condition(said, "Ready")["message"]
    since = team.audit.position
    team.delete("Service", "chat")
    team.change("chat", {"replicas": 2})
    team.sees("GemmaDeployment", "chat", says("Ready", "Unknown", "HandsOff"))
    throughout(lambda: team.find("Service", "chat") is None, what="hands off", seconds=2)
    assert {write.kind for write in team.writes(since=since)} <= {"status", "Event"}
    team.annotate("chat", {"gemma-operator.io/reconcile": None})
    team.sees("Service", "chat")
    assert team.ready("chat")["status"]["readyReplicas"] == 2


def test_a_replan_that_was_asked_for_is_done_once(team, chat):
    team.annotate("chat", {"gemma-operator.io/replan-requested-at": "monday"})
    handled = team.sees(
        "GemmaDeployment", "chat", lambda obj: obj["status"].get("lastHandledReplanAt") == "monday"
    )
    after = team.ready("chat")
    assert after["status"]["plan"]["plannedAt"] == handled["status"]["plan"]["plannedAt"]
    since = team.told()
    throughout(lambda: team.writes(since=since) == [], what="once is enough", seconds=2)
