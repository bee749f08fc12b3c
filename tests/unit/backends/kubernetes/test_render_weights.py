"""How weights reach the engine: in the pod, on a claim, on the node, from a claim of the user's own."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kubernetes import client as models

from gemma_operator.api import names
from gemma_operator.backends.kubernetes import weights
from gemma_operator.backends.kubernetes.render_parts import labels_of, selector_of
from gemma_operator.backends.kubernetes.render_pod import pod_template
from gemma_operator.backends.kubernetes.render_weights import delivery, weights_key
from gemma_operator.backends.kubernetes.weights_script import SCRIPT
from gemma_operator.planner.values import Drafting
from gemma_operator.settings import OperatorSettings
from plans import a_plan, some_settings
from snapshots import ENGINE, a_snapshot, a_spec, manifests_for

COMMIT = "68abe48000000000000000000000000000000000"
FOLDER = f"google--gemma-4-31B-it/{COMMIT}"
CACHE = {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}}
NODE = {"weights": {"cache": {"type": "Node"}}}
ONE = {"variants": ["31B"], "precisions": ["bf16"]}
CLAIM = {"model": {**ONE, "source": {"persistentVolumeClaim": {"claimName": "models", "path": "a/tuned"}}}}
OWN = {"model": {**ONE, "source": {"huggingFace": {"repo": "acme/tuned", "revision": "1" * 40}}}}
TOKEN = {"credentials": {"huggingFaceToken": {"secretKeyRef": {"name": "hf", "key": "token"}}}}
SHAPE = (("queryHeads", 32), ("slidingLayers", 50))


def a_shaped_plan(**changes):
    return a_plan(shape=SHAPE, **changes)


def pod(*, plan=None, settings=None, **spec):
    made = pod_template(
        a_spec(**spec),
        plan or a_shaped_plan(),
        settings=settings or OperatorSettings(),
        engine=ENGINE,
        budget_seconds=1720,
    )
    models.V1PodTemplateSpec.model_validate(made)
    return made["spec"]


def fetcher(**spec):
    *_, container = pod(**spec)["initContainers"]
    return container


def job(*, plan=None, claims=None, settings=None, **spec):
    snapshot = a_snapshot(spec=spec, claims=claims or {}, settings=settings or OperatorSettings())
    made = weights.weights_of(snapshot, plan or a_shaped_plan()).make
    if made is not None:
        models.V1Job.model_validate(made)
    return made


def job_pod(**spec):
    return job(**spec)["spec"]["template"]["spec"]


def task_of(container):
    *head, script, task = container["command"]
    assert (head, script) == (["python3", "-c"], SCRIPT)
    return json.loads(task)


def variables(container):
    return {each["name"]: each.get("value") for each in container["env"]}


def engine_of(made):
    return made["containers"][0]


# nothing is kept


def test_by_default_an_init_container_brings_the_pinned_commit():
    task = task_of(fetcher())
    assert (task["task"], task["repo"], task["revision"]) == ("fetch", "google/gemma-4-31B-it", COMMIT)
    assert (task["root"], task["folder"]) == ("/cache/weights", FOLDER)
    assert task["shape"] == dict(SHAPE)
    assert "quantised" not in task
    assert task["budgetSeconds"] == 1240
    assert job() is None


def test_the_engine_finds_a_path_asks_no_hub_and_gets_no_token():
    made = pod(**TOKEN)
    assert engine_of(made)["args"][0] == f"/cache/weights/{FOLDER}"
    assert "--revision" not in engine_of(made)["args"]
    assert variables(engine_of(made))["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in variables(engine_of(made))


def test_who_brings_them_gets_the_token_from_the_users_secret():
    (token,) = [each for each in fetcher(**TOKEN)["env"] if each["name"] == "HF_TOKEN"]
    assert token["valueFrom"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert "HF_TOKEN" not in variables(fetcher())


def test_they_come_through_the_operators_mirror_and_proxy():
    found = variables(
        fetcher(settings=OperatorSettings(hub_mirror="https://hub.internal", proxy="http://proxy:3128"))
    )
    assert (found["HF_ENDPOINT"], found["HTTPS_PROXY"]) == ("https://hub.internal", "http://proxy:3128")
    assert "127.0.0.1" in found["NO_PROXY"]
    assert not {"HTTPS_PROXY", "HF_ENDPOINT"} & set(variables(fetcher()))


def test_the_operators_certificates_reach_whoever_asks_the_hub_and_nobody_else():
    trusting = OperatorSettings(ca_bundle="-----BEGIN")
    assert variables(fetcher(settings=trusting))["GEMMA_CA_BUNDLE"] == "-----BEGIN"
    assert "GEMMA_CA_BUNDLE" not in variables(engine_of(pod(settings=trusting)))
    for spec, plan in ((CACHE, None), (OWN, a_shaped_plan(repo="acme/tuned", revision="1" * 40))):
        (asks,) = job_pod(plan=plan, settings=trusting, **spec)["containers"]
        assert variables(asks)["GEMMA_CA_BUNDLE"] == "-----BEGIN"
    (looks,) = job_pod(**CLAIM, settings=trusting)["containers"]
    assert "GEMMA_CA_BUNDLE" not in variables(looks)


def test_who_sets_no_certificates_gets_the_pod_that_was_without_the_setting():
    for container in (fetcher(), *job_pod(**CACHE)["containers"], engine_of(pod())):
        assert "GEMMA_CA_BUNDLE" not in variables(container)


def test_other_certificates_bring_nothing_anew():
    def of(text):
        return job(settings=OperatorSettings(ca_bundle=text), **CACHE)["metadata"]["annotations"]

    assert of("a")[names.WEIGHTS_KEY] == of("b")[names.WEIGHTS_KEY]


def test_everything_that_the_client_writes_stays_in_the_cache():
    assert {variables(fetcher())[name] for name in ("HOME", "HF_HOME")} <= {"/cache", "/cache/huggingface"}
    assert fetcher()["volumeMounts"] == [{"name": "cache", "mountPath": "/cache"}]


def test_bringing_takes_no_gpu_and_no_more_of_a_quota_than_the_engine():
    engine, brings = engine_of(pod())["resources"], fetcher()["resources"]
    assert brings["requests"] == {k: v for k, v in engine["requests"].items() if k != "nvidia.com/gpu"}
    assert "limits" not in brings
    limited = {"pod": {"resources": {"memory": "64Gi"}}}
    assert fetcher(**limited)["resources"]["limits"] == {"memory": "48Gi"}


def test_bringing_is_as_restricted_as_serving():
    assert fetcher()["securityContext"] == engine_of(pod())["securityContext"]


def test_without_a_known_commit_the_hubs_main_branch_is_brought():
    task = task_of(fetcher(plan=a_shaped_plan(revision=None)))
    assert "revision" not in task
    assert task["folder"] == "google--gemma-4-31B-it/main"


def test_a_drafter_is_brought_beside_the_model_and_found_there():
    drafted = a_shaped_plan(settings=some_settings(drafting=Drafting("google/draft", 4)))
    assert task_of(fetcher(plan=drafted))["also"] == [
        {"repo": "google/draft", "folder": "google--draft/main"}
    ]
    arguments = engine_of(pod(plan=drafted))["args"]
    config = json.loads(arguments[arguments.index("--speculative-config") + 1])
    assert config["model"] == "/cache/weights/google--draft/main"


# a claim keeps them


def test_a_job_brings_them_into_a_claim():
    made = job_pod(**CACHE)
    (container,) = made["containers"]
    assert (task_of(container)["task"], task_of(container)["root"]) == ("fetch", "/mnt/weights")
    assert {"name": "weights", "persistentVolumeClaim": {"claimName": "w"}} in made["volumes"]
    assert {"name": "weights", "mountPath": "/mnt/weights"} in container["volumeMounts"]
    assert "nvidia.com/gpu" not in json.dumps(made)
    assert made["securityContext"]["fsGroup"] == 2000


def test_pods_mount_that_claim_to_read_and_bring_nothing():
    made = pod(**CACHE)
    assert "initContainers" not in made
    mount = {"name": "weights", "mountPath": "/mnt/weights", "readOnly": True}
    assert mount in engine_of(made)["volumeMounts"]
    assert engine_of(made)["args"][0] == f"/mnt/weights/{FOLDER}"


def test_the_jobs_pods_are_none_of_the_engines():
    made = job(**CACHE)
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert not selector_of(a_spec()).items() <= labels.items()
    assert labels[names.WEIGHTS_LABEL] == "chat"
    assert made["metadata"]["labels"] == labels_of(a_spec())
    assert made["metadata"]["name"] == "chat-weights"


def test_the_job_ends_at_once_where_no_other_try_will_do_and_keeps_its_pods():
    spec = job(**CACHE)["spec"]
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [42])
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert "ttlSecondsAfterFinished" not in spec


def test_the_job_is_as_restricted_as_the_engine():
    made = job_pod(**CACHE)
    assert made["securityContext"].items() >= pod()["securityContext"].items()
    assert made["containers"][0]["securityContext"] == engine_of(pod())["securityContext"]
    assert made["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    "change",
    [
        {"credentials": TOKEN["credentials"]},
        {"serving": {"engine": {"version": "0.32", "image": "team/vllm:1"}}},
        {"serving": {"contextLength": 8192}},
        {"replicas": 3},
    ],
)
def test_what_changes_no_weights_brings_nothing_anew(change):
    assert key_of({**CACHE, **change}) == key_of(CACHE)


@pytest.mark.parametrize("plan", [a_shaped_plan(repo="google/other"), a_shaped_plan(revision="2" * 40)])
def test_other_weights_are_another_job(plan):
    assert key_of(CACHE, plan) != key_of(CACHE)


def key_of(spec, plan=None):
    deployment, plan = a_spec(**spec), plan or a_shaped_plan()
    return weights_key(deployment.spec, plan, delivery(deployment.spec, plan))


# the node keeps them


def test_a_folder_of_the_node_is_written_by_the_init_container_alone():
    made = pod(**NODE)
    (volume,) = [each for each in made["volumes"] if each["name"] == "weights"]
    assert volume["hostPath"] == {
        "path": "/var/lib/gemma-operator/weights",
        "type": "DirectoryOrCreate",
    }
    assert {"name": "weights", "mountPath": "/mnt/weights"} in fetcher(**NODE)["volumeMounts"]
    assert {"name": "weights", "mountPath": "/mnt/weights", "readOnly": True} in engine_of(made)[
        "volumeMounts"
    ]
    assert job(**NODE) is None


def test_root_opens_the_nodes_folder_and_does_nothing_else():
    opens, brings = pod(**NODE, **TOKEN)["initContainers"]
    assert (opens["securityContext"]["runAsUser"], opens["securityContext"]["runAsNonRoot"]) == (0, False)
    assert opens["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert opens["securityContext"]["allowPrivilegeEscalation"] is False
    assert "env" not in opens, "no token"
    assert opens["volumeMounts"] == [{"name": "weights", "mountPath": "/mnt/weights"}]
    for other in (brings, engine_of(pod(**NODE))):
        assert not {"runAsUser", "runAsNonRoot"} & set(other["securityContext"])
    assert [each["name"] for each in pod()["initContainers"]] == ["weights"]


@pytest.mark.parametrize(("before", "after"), [(0o755, 0o775), (0o775, 0o775), (0o700, 0o770)])
def test_the_folder_is_opened_to_the_group_and_to_nobody_else(tmp_path, before, after):
    opens, _ = pod(**NODE)["initContainers"]
    *command, _root = opens["command"]
    tmp_path.chmod(before)
    subprocess.run([sys.executable, *command[1:], tmp_path], check=True)
    assert tmp_path.stat().st_mode & 0o777 == after


def test_a_folder_that_somebody_else_made_is_left_as_it_is(tmp_path):
    opens, _ = pod(**NODE)["initContainers"]
    *command, _root = opens["command"]
    foreign = Path("/")
    if os.getuid() == 0:
        foreign = tmp_path
        os.chown(foreign, 1, 1)
    before = foreign.stat().st_mode
    subprocess.run([sys.executable, *command[1:], foreign], check=True)
    assert foreign.stat().st_mode == before


# the user's own


def test_a_claim_of_the_users_own_is_looked_at_and_never_written():
    made = job_pod(**CLAIM)
    (container,) = made["containers"]
    task = task_of(container)
    assert (task["task"], task["root"], task["folder"]) == ("look", "/mnt/model", "a/tuned")
    assert task["shown"] == "a/tuned of claim models"
    assert task["quantised"] is False
    source = {"claimName": "models", "readOnly": True}
    assert {"name": "weights", "persistentVolumeClaim": source} in made["volumes"]
    assert {"name": "weights", "mountPath": "/mnt/model", "readOnly": True} in container["volumeMounts"]
    assert "fsGroup" not in made["securityContext"]


def test_a_claim_of_the_users_own_is_served_from_its_folder():
    made = pod(**CLAIM)
    assert "initContainers" not in made
    assert engine_of(made)["args"][0] == "/mnt/model/a/tuned"
    assert {"name": "weights", "mountPath": "/mnt/model", "readOnly": True} in engine_of(made)["volumeMounts"]


def test_the_root_of_a_claim_is_a_folder_too():
    root = {"model": {**ONE, "source": {"persistentVolumeClaim": {"claimName": "models"}}}}
    assert engine_of(pod(**root))["args"][0] == "/mnt/model"
    assert task_of(job_pod(**root)["containers"][0])["shown"] == "the root of claim models"


def test_looking_at_a_claim_needs_no_token():
    assert "HF_TOKEN" not in variables(job_pod(**CLAIM, **TOKEN)["containers"][0])


def test_a_repository_of_the_users_own_is_asked_for_before_each_pod_brings_it():
    own = a_shaped_plan(repo="acme/tuned", revision="1" * 40)
    (container,) = job_pod(plan=own, **OWN)["containers"]
    assert (task_of(container)["task"], task_of(container)["root"]) == ("ask", "/cache/weights")
    assert task_of(fetcher(plan=own, **OWN))["task"] == "fetch"
    assert task_of(container)["quantised"] is False


def test_with_a_cache_one_job_asks_and_brings():
    (container,) = job_pod(plan=a_shaped_plan(repo="acme/tuned"), **OWN, **CACHE)["containers"]
    assert task_of(container)["task"] == "fetch"


def test_a_quantised_plan_wants_quantised_weights_of_ones_own():
    own = replace(a_shaped_plan(repo="acme/tuned"), precision="fp8")
    assert task_of(job_pod(plan=own, **OWN)["containers"][0])["quantised"] is True


def test_bringing_them_counts_before_a_rollout_is_given_up():
    def deadline(spec):
        made = manifests_for(spec=spec, plan=a_shaped_plan())
        return next(each for each in made if each["kind"] == "Deployment")["spec"]["progressDeadlineSeconds"]

    assert deadline({}) - deadline(CACHE) == task_of(fetcher())["budgetSeconds"]
