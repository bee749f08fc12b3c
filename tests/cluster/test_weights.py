"""How weights come, on the simulated fleet: claims are read first, Jobs come before pods, each failure has its name.

The simulated pods bring nothing; how long it takes and how it fails is told by annotations. The script itself is tested
alone and on the real engine.
"""

from __future__ import annotations

import pytest

from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until
from gemma_operator.sandbox.simulator.instructions import PREFIX

pytestmark = pytest.mark.cluster

CACHE = {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}


def told(**orders):
    return {"annotations": {f"{PREFIX}{key.replace('_', '-')}": str(value) for key, value in orders.items()}}


def a_claim(team, *, mode="ReadWriteMany", name="w", size="100Gi"):
    """A claim that waits for its volume, as one does whose class binds it to its first pod."""
    team.client.create(
        f"/api/v1/namespaces/{team.namespace}/persistentvolumeclaims",
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {
                "accessModes": [mode],
                "storageClassName": "",
                "volumeName": f"{team.namespace}-{name}",
                "resources": {"requests": {"storage": size}},
            },
        },
    )
    team.client.create(
        "/api/v1/persistentvolumes",
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{team.namespace}-{name}"},
            "spec": {
                "accessModes": [mode],
                "capacity": {"storage": size},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": team.namespace, "name": name},
                "csi": {"driver": "simulated.example.com", "volumeHandle": f"{team.namespace}-{name}"},
            },
        },
    )
    path = f"/api/v1/namespaces/{team.namespace}/persistentvolumeclaims/{name}"
    until(lambda: team.client.get(path)["status"].get("phase") == "Bound", what="the claim is bound")


@pytest.fixture
def volumes(team):
    """Gives back the volumes that tests made: they are the cluster's, not the namespace's."""
    yield
    for volume in team.client.items("/api/v1/persistentvolumes"):
        name = volume["metadata"]["name"]
        if name.startswith(team.namespace):
            merge = {"metadata": {"finalizers": None}}
            team.client.merge(f"/api/v1/persistentvolumes/{name}", merge)
            team.client.delete(f"/api/v1/persistentvolumes/{name}")


def deployment(team, **spec):
    return a_deployment(
        hardware={"pools": [team.pool("l4", nodes=2)]}, **{"pod": told(startup_seconds=0.1), **spec}
    )


def test_by_default_each_pod_brings_its_own(operator, team):
    team.apply(deployment(team, pod=told(startup_seconds=0.1, weights_seconds=1)))
    team.ready()
    (pod,) = team.pods("chat")
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["weights"]
    assert team.all("Job") == []
    assert condition(team.get("GemmaDeployment", "chat"), "WeightsReady") == {}


def test_a_job_fills_a_claim_once_before_any_pod_exists(operator, team, volumes):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE, pod=told(startup_seconds=0.1, weights_seconds=3)))
    waiting = team.sees("GemmaDeployment", "chat", says("WeightsReady", "False", "Downloading"))
    assert "kubectl logs job/chat-weights" in condition(waiting, "WeightsReady")["message"]
    assert team.find("Deployment", "chat") is None
    ready = team.ready()
    assert condition(ready, "WeightsReady")["reason"] == "WeightsPresent"
    (pod,) = team.pods("chat")
    assert "initContainers" not in pod["spec"]
    written = [str(write) for write in team.writes()]
    assert written.count("apply Job chat-weights") == 1
    assert written.count("apply Deployment chat") == 1


def test_an_edit_of_other_things_brings_nothing_again(operator, team, volumes):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE))
    team.ready()
    since = team.audit.position
    team.change("chat", {"serving": {"contextLength": 8192}})
    until(
        lambda: team.get("GemmaDeployment", "chat")["status"]["plan"]["contextLength"] == 8192,
        what="re-planned",
    )
    team.ready()
    assert "Job" not in {write.kind for write in team.writes(since=since)}


def test_other_weights_are_brought_while_the_old_ones_serve(operator, team, volumes):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE, pod=told(startup_seconds=0.1, weights_seconds=2)))
    team.ready()
    (old,) = team.pods("chat")
    team.change("chat", {"model": {"variants": ["E2B"]}})
    team.sees("GemmaDeployment", "chat", says("WeightsReady", "False", "Downloading"))
    assert [pod["metadata"]["uid"] for pod in team.pods("chat")] == [old["metadata"]["uid"]]
    assert condition(team.get("GemmaDeployment", "chat"), "Healthy")["status"] == "True"
    until(
        lambda: (
            team.get("GemmaDeployment", "chat")["status"]["plan"]["variant"] == "E2B"
            and condition(team.get("GemmaDeployment", "chat"), "WeightsReady").get("status") == "True"
        ),
        what="the new weights are there",
    )
    team.ready()
    (new,) = team.pods("chat")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]


@pytest.mark.parametrize("fault", ["WeightsGated", "HubRateLimited"])
def test_why_weights_do_not_come_is_said_while_the_job_tries_again(operator, team, volumes, fault):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE, pod=told(startup_seconds=0.1, weights_fault=fault)))
    said = team.sees("GemmaDeployment", "chat", says("WeightsReady", "False", fault))
    assert condition(said, "Reconciling")["reason"] == fault
    assert condition(said, "Stalled") == {}
    assert team.find("Deployment", "chat") is None


def test_what_is_not_the_planned_model_stalls_until_the_user_changes_something(operator, team, volumes):
    a_claim(team)
    spec = {
        "model": {
            "variants": ["E4B"],
            "precisions": ["bf16"],
            "source": {"persistentVolumeClaim": {"claimName": "w", "path": "tuned"}},
        }
    }
    made = deployment(team, pod=told(startup_seconds=0.1, weights_fault="WeightsMismatch"))
    made["spec"] |= spec
    team.apply(made)
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "WeightsMismatch"))
    assert team.find("Deployment", "chat") is None
    assert said["status"]["plan"]["checkpoint"] == {"repo": "w/tuned"}
    team.change("chat", {"pod": told(weights_fault="")})
    ready = team.ready()
    assert condition(ready, "WeightsReady")["status"] == "True"
    assert ready["status"]["plan"]["unverified"] is True
    (pod,) = team.pods("chat")
    assert pod["spec"]["containers"][0]["args"][0] == "/mnt/model/tuned"


def test_a_missing_claim_is_named_and_its_coming_is_noticed(operator, team, volumes):
    team.apply(deployment(team, weights=CACHE))
    said = team.sees("GemmaDeployment", "chat", says("Planned", "False", "ClaimMissing"))
    assert condition(said, "Reconciling")["reason"] == "ClaimMissing"
    assert "PersistentVolumeClaim w" in condition(said, "Planned")["message"]
    assert team.find("Job", "chat-weights") is None
    a_claim(team)
    team.ready()


def test_a_missing_claim_of_own_weights_is_named_and_its_coming_is_noticed(operator, team, volumes):
    own = {"persistentVolumeClaim": {"claimName": "w", "path": "tuned"}}
    model = {"variants": ["E4B"], "precisions": ["bf16"], "source": own}
    made = deployment(team)
    made["spec"] |= {"model": model}
    team.apply(made)
    said = team.sees("GemmaDeployment", "chat", says("Planned", "False", "ClaimMissing"))
    assert "model.source" in condition(said, "Planned")["message"]
    a_claim(team)
    assert condition(team.ready(), "WeightsReady")["status"] == "True"


def test_a_token_whose_secret_comes_later_is_named_by_the_pod_that_waits_for_it(operator, team):
    token = {"huggingFaceToken": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    team.apply(deployment(team, credentials=token))
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "SecretMissing"))
    assert 'secret "hub" not found' in condition(said, "Ready")["message"]
    made = {"metadata": {"name": "hub"}, "stringData": {"token": "hf_x"}}
    team.client.create(f"/api/v1/namespaces/{team.namespace}/secrets", made)
    team.ready()


def test_a_volume_for_one_pod_holds_no_second_replica(operator, team, volumes):
    a_claim(team, mode="ReadWriteOncePod")
    team.apply(deployment(team, weights=CACHE, replicas=2))
    said = team.sees("GemmaDeployment", "chat", says("Planned", "False", "ClaimUnsuitable"))
    assert "claim w is ReadWriteOncePod" in condition(said, "Planned")["message"]
    assert condition(said, "Stalled")["reason"] == "ClaimUnsuitable"
    assert team.pods() == []
    team.change("chat", {"replicas": 1})
    team.ready()
    team.change("chat", {"serving": {"contextLength": 8192}})
    until(
        lambda: team.get("GemmaDeployment", "chat")["status"]["plan"]["contextLength"] == 8192,
        what="re-planned",
    )
    team.ready()
    strategy = team.get("Deployment", "chat")["spec"]["strategy"]["rollingUpdate"]
    assert (strategy["maxSurge"], strategy["maxUnavailable"]) == (0, 1)
    assert len(team.pods("chat")) == 1


def test_other_weights_on_a_volume_for_one_pod_come_after_what_served_went(operator, team, volumes):
    a_claim(team, mode="ReadWriteOncePod")
    team.apply(deployment(team, weights=CACHE))
    team.ready()
    team.change("chat", {"model": {"variants": ["E2B"]}})
    until(
        lambda: team.get("GemmaDeployment", "chat")["status"]["plan"]["variant"] == "E2B", what="re-planned"
    )
    team.ready()
    assert len(team.pods("chat")) == 1


def test_an_operator_that_dies_meanwhile_brings_nothing_twice(operator, team, volumes):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE, pod=told(startup_seconds=0.1, weights_seconds=4)))
    team.sees("Job", "chat-weights")
    planned = team.sees("GemmaDeployment", "chat", says("WeightsReady", "False", "Downloading"))
    operator.restart()
    ready = team.ready()
    assert ready["status"]["plan"]["plannedAt"] == planned["status"]["plan"]["plannedAt"]
    assert [str(write) for write in team.writes()].count("apply Job chat-weights") == 1


def test_a_folder_of_the_node_is_refused_before_a_pod_exists_and_the_field_is_named(operator, team):
    enforced = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    team.client.merge(f"/api/v1/namespaces/{team.namespace}", enforced)
    team.apply(deployment(team, weights={"cache": {"type": "Node"}}))
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
    assert "weights.cache type Node" in condition(said, "Ready")["message"]
    assert "hostPath" in condition(said, "Ready")["message"]
    assert team.pods() == []
    team.change("chat", {"weights": None})
    team.ready()


def test_in_a_privileged_namespace_the_first_pod_of_a_node_fills_its_folder(operator, team):
    team.apply(
        deployment(
            team, weights={"cache": {"type": "Node"}}, pod=told(startup_seconds=0.1, weights_seconds=1)
        )
    )
    team.ready()
    (pod,) = team.pods("chat")
    assert [container["name"] for container in pod["spec"]["initContainers"]] == ["folder", "weights"]


def test_a_job_that_a_clean_up_took_is_not_missed_by_pods_that_do_well(operator, team, volumes):
    """The Job's own time to live, as admission sets it in many clusters."""
    a_claim(team)
    team.apply(deployment(team, weights=CACHE))
    team.ready()
    since = team.told()
    team.change("chat-weights", {"ttlSecondsAfterFinished": 0}, kind="Job")
    team.gone("Job", "chat-weights")
    operator.restart()
    throughout(lambda: team.writes(since=since) == [], what="it is not made again", seconds=5)
    ready = team.ready()
    assert condition(ready, "WeightsReady")["status"] == "True"


def test_at_rest_a_kept_cache_costs_nothing(operator, team, volumes):
    a_claim(team)
    team.apply(deployment(team, weights=CACHE))
    team.ready()
    since = team.told()
    operator.restart()
    throughout(lambda: team.writes(since=since) == [], what="a write at rest", seconds=5)
