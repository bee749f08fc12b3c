"""What every pod of a model server needs, walked over the pods of all shipped samples and of each way to run them.

The list: what the makers of vLLM, KServe, KubeAI and Google's samples learned to set (probes, ending, shared memory,
caches, last words, what must not be in the environment), and Pod Security's `restricted`, check by check.
"""

import json
from copy import deepcopy
from functools import cache

import pytest
from kubernetes.client import ApiClient

from gemma_operator.api.parse import parse_deployment
from gemma_operator.backends.kubernetes.render import render, startup_budget_seconds
from gemma_operator.backends.kubernetes.render_fetch import weights_job
from gemma_operator.backends.kubernetes.render_weights import delivery
from gemma_operator.catalog import loader
from gemma_operator.engines.registry import engine_named
from gemma_operator.hardware.declared import declared_pool
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import filtered, pools
from gemma_operator.planner.choice import rank
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.plan import from_fit
from gemma_operator.planner.request import from_spec
from gemma_operator.sandbox import fleet
from gemma_operator.settings import OperatorSettings
from manifest_tables import merge_patch, samples
from unit.backends.kubernetes.restricted import CHECKS, broken

ENGINE = engine_named("VLLM")
MANIFESTS = {case.name: case.manifest for case in samples() if case.manifest["kind"] == "GemmaDeployment"}
SECRET = {"secretKeyRef": {"name": "keys", "key": "key"}}
#: Ways to run the sample `chat` that no sample shows; each changes what its pod is made of.
WAYS = {
    "chat, with a key": {"access": {"apiKey": SECRET}},
    "chat, with a token of the hub": {"credentials": {"huggingFaceToken": SECRET}},
    "chat, weights on a claim": {
        "weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "weights"}}
    },
    "chat, own weights on a claim": {
        "model": {
            "variants": ["E4B"],
            "precisions": ["bf16"],
            "source": {"persistentVolumeClaim": {"claimName": "models", "path": "tuned"}},
        }
    },
    "chat, own repository": {
        "model": {
            "variants": ["E4B"],
            "precisions": ["bf16"],
            "source": {"huggingFace": {"repo": "acme/tuned", "revision": "1" * 40}},
        }
    },
    "chat, spot allowed": {
        "hardware": {"spot": "Allowed", "tolerations": [{"key": "team", "operator": "Exists"}]}
    },
    "chat, own resources": {
        "pod": {"resources": {"cpu": "4", "memory": "32Gi"}, "runtimeClassName": "nvidia"}
    },
    "chat, own image": {
        "serving": {"engine": {"version": "0.32", "image": f"registry.internal/vllm@sha256:{'a' * 64}"}}
    },
}
ON_THE_NODE = {"weights": {"cache": {"type": "Node"}}}
#: The one sample that no pool can hold.
UNPLANNED = "does-not-fit"
RENDERED = (*(name for name in MANIFESTS if name != UNPLANNED), *WAYS)


@cache
def known_pools():
    nodes = [node_record(node) for node in fleet.nodes(fleet.default())]
    declared = [
        declared_pool(case.manifest) for case in samples() if case.manifest["kind"] == "AcceleratorPool"
    ]
    return pools([node for node in nodes if node is not None], declared, loader.packaged())


def made_from(manifest):
    deployment = parse_deployment(merge_patch(manifest, {"metadata": {"namespace": "team", "uid": "uid"}}))
    request = from_spec("team", deployment.spec)
    shapes = [pool.shape for pool in filtered(known_pools(), request.node_selector)]
    catalog = loader.packaged()
    ranking = rank(feasible(request, shapes, catalog), request=request, catalog=catalog)
    best = ranking.groups[0].members[0].fit
    plan = from_fit(best, request, catalog=catalog, inputs_hash="0" * 16, planned_at="2026-11-25T09:00:00Z")
    children = render(
        deployment,
        plan,
        uid="uid",
        replicas=deployment.spec.replicas,
        settings=OperatorSettings(),
        engine=ENGINE,
        probe_key="the operator's own",
    )
    return deployment, plan, children


@cache
def made(name):
    manifest = MANIFESTS.get(name) or merge_patch(MANIFESTS["chat"], {"spec": WAYS[name]})
    return made_from(manifest)


def workload(name):
    return next(child for child in made(name)[2] if child["kind"] == "Deployment")["spec"]


def pod(name):
    return workload(name)["template"]["spec"]


def engine_of(name):
    (container,) = pod(name)["containers"]
    return container


def containers(name):
    return [*pod(name).get("initContainers", ()), *pod(name)["containers"]]


def environment(container):
    return {variable["name"]: variable.get("value") for variable in container["env"]}


every_pod = pytest.mark.parametrize("name", RENDERED)


def test_every_sample_but_the_one_that_says_so_has_a_pod():
    assert UNPLANNED in MANIFESTS
    assert len(RENDERED) == len(MANIFESTS) - 1 + len(WAYS)


@every_pod
def test_pod_security_restricted_refuses_nothing(name):
    assert broken(pod(name)) == []


def test_weights_in_a_folder_of_the_node_are_refused_for_the_folder_and_who_may_write_it():
    _, _, children = made_from(merge_patch(MANIFESTS["chat"], {"spec": ON_THE_NODE}))
    template = next(child for child in children if child["kind"] == "Deployment")["spec"]["template"]
    spec = template["spec"]
    assert broken(spec) == ["restrictedVolumes", "runAsNonRoot", "runAsUser"]
    engine_alone = {**spec, "initContainers": [], "volumes": []}
    assert broken(engine_alone) == []


#: The ways in which a Job comes before the pods.
WITH_A_JOB = ("chat, weights on a claim", "chat, own weights on a claim", "chat, own repository")
with_a_job = pytest.mark.parametrize("name", WITH_A_JOB)


def job_pod(name):
    deployment, plan, _ = made(name)
    job = weights_job(
        deployment,
        plan,
        uid="uid",
        settings=OperatorSettings(),
        brought=delivery(deployment.spec, plan),
        attempt="1/",
        near_the_pool=False,
        tolerations=(),
    )
    assert through_the_client(job) == json.loads(json.dumps(job))
    return job["spec"]["template"]["spec"]


@with_a_job
def test_what_comes_before_the_pods_is_as_restricted_and_holds_no_device(name):
    spec = job_pod(name)
    assert broken(spec) == []
    assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
    (container,) = spec["containers"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert made(name)[1].demand.resource_name not in json.dumps(container["resources"])


@pytest.mark.parametrize("name", RENDERED)
def test_who_reads_a_claim_is_of_the_group_that_it_was_filled_for_and_nobody_else_is(name):
    filled_for = job_pod(name)["securityContext"].get("fsGroup") if name in WITH_A_JOB else None
    groups = pod(name)["securityContext"].get("supplementalGroups", [])
    assert groups == ([filled_for] if filled_for else [])


HTTP_ELSEWHERE = {"httpGet": {"host": "169.254.169.254", "port": 80}}
#: What breaks each check: (where, what).
BAD = {
    "allowPrivilegeEscalation": ("container", {"securityContext": {"allowPrivilegeEscalation": None}}),
    "appArmorProfile": ("pod", {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
    "capabilities_restricted": ("container", {"securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}}),
    "hostNamespaces": ("pod", {"hostIPC": True}),
    "hostPorts": ("container", {"ports": [{"containerPort": 8000, "hostPort": 8000}]}),
    "hostProbesAndHostLifecycle": ("container", {"livenessProbe": HTTP_ELSEWHERE}),
    "privileged": ("container", {"securityContext": {"privileged": True}}),
    "procMount_restricted": ("container", {"securityContext": {"procMount": "Unmasked"}}),
    "restrictedVolumes": ("pod", {"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
    "runAsNonRoot": ("container", {"securityContext": {"runAsNonRoot": False}}),
    "runAsUser": ("pod", {"securityContext": {"runAsUser": 0}}),
    "seLinuxOptions": ("pod", {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}),
    "seccompProfile_restricted": ("pod", {"securityContext": {"seccompProfile": None}}),
    "sysctls": ("pod", {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
    "windowsHostProcess": ("pod", {"securityContext": {"windowsOptions": {"hostProcess": True}}}),
}


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_can_refuse(check):
    where, patch = BAD[check]
    spec = deepcopy(pod("chat"))
    if where == "pod":
        spec = merge_patch(spec, patch)
    else:
        spec["containers"] = [merge_patch(container, patch) for container in spec["containers"]]
    assert broken(spec) == [check]


def through_the_client(child):
    """Read by the client's models, which check what is required, and written again."""
    client = ApiClient()
    read = client.deserialize(json.dumps(child), f"V1{child['kind']}", "application/json")
    return client.sanitize_for_serialization(read)


@every_pod
def test_the_clients_models_know_every_field(name):
    for child in made(name)[2]:
        assert through_the_client(child) == json.loads(json.dumps(child))


def test_a_field_that_no_model_knows_does_not_come_back():
    deployment = next(child for child in made("chat")[2] if child["kind"] == "Deployment")
    misspelt = merge_patch(deployment, {"spec": {"template": {"spec": {"enableServiceLink": False}}}})
    assert "enableServiceLink" not in through_the_client(misspelt)["spec"]["template"]["spec"]


@every_pod
def test_nothing_of_the_cluster_is_in_the_pod_that_it_does_not_need(name):
    assert pod(name)["enableServiceLinks"] is False
    assert pod(name)["automountServiceAccountToken"] is False


@every_pod
def test_last_words_reach_the_status(name):
    assert {each["terminationMessagePolicy"] for each in containers(name)} == {"FallbackToLogsOnError"}


@every_pod
def test_shared_memory_is_there_in_memory_and_larger_between_gpus(name):
    spec, (mount,) = pod(name), [m for m in engine_of(name)["volumeMounts"] if m["mountPath"] == "/dev/shm"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    assert volume["emptyDir"]["medium"] == "Memory"
    gpus = made(name)[1].settings.tensor_parallel
    assert volume["emptyDir"]["sizeLimit"] == ("2Gi" if gpus > 1 else "1Gi")


@every_pod
def test_every_cache_lies_on_a_mount_that_can_be_written(name):
    container = engine_of(name)
    written = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
    places = (
        *("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "VLLM_CONFIG_ROOT", "TRITON_CACHE_DIR"),
        *("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
    )
    for place in places:
        path = environment(container)[place]
        assert any(f"{path}/".startswith(f"{root}/") for root in written), place


@every_pod
def test_a_user_id_without_a_name_is_given_one_and_group_0(name):
    context = pod(name)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (2000, 0)
    assert all(environment(container)["USER"] for container in containers(name))


@every_pod
def test_nothing_is_reported_to_anybody(name):
    given = environment(engine_of(name))
    assert (given["VLLM_NO_USAGE_STATS"], given["DO_NOT_TRACK"]) == ("1", "1")


@every_pod
def test_a_server_that_is_given_its_weights_asks_no_hub(name):
    container = engine_of(name)
    if container["args"][0].startswith("/"):
        assert environment(container)["HF_HUB_OFFLINE"] == "1"
        assert "--revision" not in container["args"]
        assert "HF_TOKEN" not in environment(container)
    else:
        assert "HF_HUB_OFFLINE" not in environment(container)


@every_pod
def test_no_switch_that_opens_the_engine_is_set(name):
    given = environment(engine_of(name))
    assert not {"VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_API_KEY"} & set(given)
    assert "--api-key" not in engine_of(name)["args"]


@every_pod
def test_the_start_is_given_the_budget_and_the_rollout_more(name):
    deployment, plan, _ = made(name)
    budget = startup_budget_seconds(deployment, plan)
    probe = engine_of(name)["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= budget
    assert environment(engine_of(name))["VLLM_ENGINE_READY_TIMEOUT_S"] == str(budget)
    assert budget < workload(name)["progressDeadlineSeconds"]


@every_pod
def test_it_counts_only_once_it_has_generated(name):
    probe = engine_of(name)["startupProbe"]
    assert probe["exec"]["command"][:2] == ["python3", "-c"]
    assert json.loads(probe["exec"]["command"][4])["max_tokens"] == 1
    assert probe["timeoutSeconds"] > 25, "the script itself gives up after 25 s and says why"


@every_pod
def test_it_ends_in_this_order_drained_from_the_service_then_by_itself_then_by_force(name):
    container, grace = engine_of(name), pod(name)["terminationGracePeriodSeconds"]
    sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    drain = int(container["args"][container["args"].index("--shutdown-timeout") + 1])
    assert sleep >= 15
    assert drain > 0, "0 aborts what runs"
    assert grace >= sleep + drain + 10


@every_pod
def test_liveness_is_slower_to_kill_than_readiness_is_to_stop_routing(name):
    def patience(kind):
        probe = engine_of(name)[kind]
        return probe["periodSeconds"] * probe["failureThreshold"]

    assert patience("livenessProbe") >= 3 * patience("readinessProbe")


@every_pod
def test_devices_are_asked_for_once_and_for_the_engine_alone(name):
    plan = made(name)[1]
    resource, count = plan.demand.resource_name, str(plan.demand.accelerators)
    asked = [container["resources"].get("limits", {}).get(resource) for container in containers(name)]
    assert [amount for amount in asked if amount] == [count]
    resources = engine_of(name)["resources"]
    assert resources["requests"][resource] == resources["limits"][resource]
    assert "cpu" not in resources["limits"]


UNASKED = ["nvidia.com/gpu", "amd.com/gpu", "sku"]
SPOT = ["cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"]


@every_pod
def test_it_tolerates_what_gpu_nodes_and_the_spot_that_it_may_use_are_tainted_with(name):
    """api.md, hardware.tolerations: the unasked keys, spot's unless it is Forbidden, the pool's own, the user's."""
    deployment, plan, _ = made(name)
    hardware = deployment.spec.hardware
    keys = [toleration["key"] for toleration in pod(name)["tolerations"]]
    assert keys[:3] == UNASKED
    assert ([key for key in keys if key in SPOT] == SPOT) is (hardware.spot.value != "Forbidden")
    others = {toleration.key for toleration in (*plan.pool_tolerations, *hardware.tolerations)}
    assert set(keys) - {*UNASKED, *SPOT} == others - {*UNASKED, *SPOT}
    assert "" not in keys, "a blanket Exists is never set"


def test_an_image_by_digest_is_taken_as_it_is_written():
    for container in containers("chat, own image"):
        assert container["image"] == f"registry.internal/vllm@sha256:{'a' * 64}"


def test_a_runtime_class_is_named_only_where_the_user_names_one():
    assert pod("chat, own resources")["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod("chat")


def test_memory_is_limited_only_where_the_user_said_how_much():
    assert engine_of("chat, own resources")["resources"]["limits"]["memory"] == "32Gi"
    assert "memory" not in engine_of("chat")["resources"]["limits"]


@pytest.mark.parametrize("name", [name for name in RENDERED if made(name)[0].spec.replicas > 1])
def test_several_replicas_spread_and_are_not_drained_together(name):
    (spread,) = pod(name)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    (budget,) = [child for child in made(name)[2] if child["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@every_pod
def test_a_rollout_says_both_of_its_figures(name):
    strategy = workload(name)["strategy"]
    assert strategy["type"] == "RollingUpdate"
    assert set(strategy["rollingUpdate"]) == {"maxSurge", "maxUnavailable"}


@every_pod
def test_windows_nodes_are_left_out(name):
    assert pod(name)["nodeSelector"]["kubernetes.io/os"] == "linux"
