"""What a placed deployment looks like: the whole set, and the Deployment."""

import json

import pytest
from kubernetes import client as models

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.ownership import manifest_hash
from gemma_operator.backends.kubernetes.render import (
    RENDERER_VERSION,
    pod_intent,
    render,
    startup_budget_seconds,
)
from gemma_operator.backends.kubernetes.rollout import FIRST, Rollout, Way, Why
from gemma_operator.settings import OperatorSettings
from plans import a_plan, some_settings
from snapshots import ENGINE, UID, a_spec

EVERYTHING = {
    "serving": {"engine": {"env": [{"name": "EMPTY", "value": ""}], "extraArgs": ["--seed", "7"]}},
    "hardware": {
        "tolerations": [{"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]
    },
    "pod": {
        "labels": {"team": "a"},
        "annotations": {"note": "hi"},
        "priorityClassName": "high",
        "queueName": "gpus",
        "runtimeClassName": "nvidia",
        "schedulerName": "other",
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"memory": "48Gi"},
    },
    "access": {"allowedNamespaces": ["web"]},
    "credentials": {"huggingFaceToken": {"secretKeyRef": {"name": "hf", "key": "token"}}},
}


def rendered(*, plan=None, replicas=1, name="chat", settings=None, rollout=FIRST, **spec):
    deployment = a_spec(**spec)
    deployment = deployment.model_copy(
        update={"metadata": deployment.metadata.model_copy(update={"name": name})}
    )
    return render(
        deployment,
        plan or a_plan(),
        uid=UID,
        replicas=replicas,
        settings=settings or OperatorSettings(),
        engine=ENGINE,
        rollout=rollout,
    )


def of_kind(kind, manifests):
    return next(manifest for manifest in manifests if manifest["kind"] == kind)


def the_deployment(**changes):
    return of_kind("Deployment", rendered(**changes))


def everywhere(value):
    """Every value below, with its path."""
    yield value
    for below in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everywhere(below)


def test_what_pods_need_comes_before_the_pods():
    kinds = [manifest["kind"] for manifest in rendered(replicas=2)]
    assert kinds == ["ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"]


@pytest.mark.parametrize("spec", [{}, EVERYTHING])
def test_every_manifest_is_valid(spec):
    for manifest in rendered(replicas=2, **spec):
        getattr(models, f"V1{manifest['kind']}").model_validate(manifest)


@pytest.mark.parametrize("spec", [{}, EVERYTHING])
def test_nothing_is_written_that_the_server_would_leave_out(spec):
    for manifest in rendered(replicas=2, **spec):
        assert [value for value in everywhere(manifest) if value in (None, {}, [])] == []


def test_the_same_input_gives_the_same_manifests():
    assert json.dumps(rendered(**EVERYTHING)) == json.dumps(rendered(**EVERYTHING))


def test_every_manifest_carries_its_own_hash():
    for manifest in rendered(replicas=2):
        assert manifest["metadata"]["annotations"][names.APPLIED_HASH] == manifest_hash(manifest)


def test_every_child_goes_with_its_owner():
    for manifest in rendered(replicas=2):
        assert manifest["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "gemma-operator.io/v1alpha1",
                "kind": "GemmaDeployment",
                "name": "chat",
                "uid": UID,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]


def test_every_child_stands_beside_its_owner():
    assert {manifest["metadata"]["namespace"] for manifest in rendered(replicas=2)} == {"team-a"}


def test_every_child_can_be_told_by_its_labels():
    for manifest in rendered(replicas=2):
        assert manifest["metadata"]["labels"] == {
            "app.kubernetes.io/name": "gemma",
            "app.kubernetes.io/instance": "chat",
            "app.kubernetes.io/component": "model-server",
            "app.kubernetes.io/part-of": "gemma-operator",
            "app.kubernetes.io/managed-by": "gemma-operator",
            "gemma-operator.io/deployment": "chat",
        }


def test_a_name_that_no_service_may_have_is_changed_for_all_children_alike():
    manifests = rendered(name="4.chat", replicas=2)
    assert {manifest["metadata"]["name"] for manifest in manifests} == {"gd-4-chat"}
    assert of_kind("Service", manifests)["spec"]["selector"] == {names.DEPLOYMENT_LABEL: "gd-4-chat"}


def test_the_intent_stands_on_the_deployment():
    annotations = the_deployment()["metadata"]["annotations"]
    assert annotations[names.INPUTS_HASH] == a_plan().inputs_hash
    assert annotations[names.RENDERER_VERSION] == RENDERER_VERSION
    assert json.loads(annotations[names.PLAN])["variant"] == "31B"


def test_a_rollout_never_needs_a_spare_gpu_unless_it_is_told_of_one():
    assert the_deployment()["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    surging = the_deployment(rollout=Rollout(Way.SURGE, Why.ROOM))
    assert surging["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_replicas_are_those_that_are_wanted():
    assert the_deployment(replicas=3)["spec"]["replicas"] == 3
    assert the_deployment(replicas=0)["spec"]["replicas"] == 0


def test_the_selector_holds_nothing_that_may_change():
    spec = the_deployment(**EVERYTHING)["spec"]
    assert spec["selector"] == {"matchLabels": {names.DEPLOYMENT_LABEL: "chat"}}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_a_queue_is_named_where_kueue_looks_for_it():
    assert the_deployment(**EVERYTHING)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert "kueue.x-k8s.io/queue-name" not in the_deployment()["metadata"]["labels"]


@pytest.mark.parametrize(
    ("weights_gb", "seconds"),
    [
        (0, 600),  # never less than ten minutes
        (6, 600),  # 2 * (60 + 240)
        (62, 1720),  # 2 * (620 + 240)
    ],
)
def test_the_start_up_budget_grows_with_the_weights(weights_gb, seconds):
    plan = a_plan(weights_on_disk_bytes=weights_gb * 10**9)
    assert startup_budget_seconds(a_spec(), plan) == seconds


def test_a_budget_that_the_user_gives_is_the_budget():
    assert startup_budget_seconds(a_spec(serving={"startupTimeoutSeconds": 90}), a_plan()) == 90


def test_a_deployment_gives_up_later_than_its_pods_may_take():
    deadline = the_deployment()["spec"]["progressDeadlineSeconds"]
    assert deadline > startup_budget_seconds(a_spec(), a_plan())


def test_pods_carry_the_intent_that_they_were_made_from():
    manifests = rendered()
    assert pod_intent(manifests) != ""
    assert pod_intent([]) == ""


def test_a_change_of_replicas_is_no_new_intent():
    assert pod_intent(rendered(replicas=1)) == pod_intent(rendered(replicas=3))


@pytest.mark.parametrize(
    "change",
    [
        {"plan": a_plan(settings=some_settings(max_sequences=8))},
        {"serving": {"modelName": "other"}},
        {"pod": {"labels": {"team": "a"}}},
        {"pod": {"annotations": {"note": "hi"}}},
    ],
)
def test_a_change_of_the_pods_is_a_new_intent(change):
    assert pod_intent(rendered(**change)) != pod_intent(rendered())
