"""The pod: restricted, complete, counted only once it has generated."""

import pytest

from gemma_operator.backends.kubernetes.render import startup_budget_seconds
from gemma_operator.backends.kubernetes.render_container import Farewell
from gemma_operator.backends.kubernetes.render_pod import pod_template
from gemma_operator.backends.kubernetes.render_volumes import CACHE_PATH
from gemma_operator.engines import farewell_middleware
from gemma_operator.hardware.records import Toleration
from gemma_operator.settings import OperatorSettings
from plans import GIB, a_demand, a_plan, some_settings
from snapshots import ENGINE, a_spec


def template(*, plan=None, settings=None, budget_seconds=1720, **spec):
    return pod_template(
        a_spec(**spec),
        plan or a_plan(),
        settings=settings or OperatorSettings(),
        engine=ENGINE,
        budget_seconds=budget_seconds,
    )


def pod(**changes):
    return template(**changes)["spec"]


def engine(**changes):
    (container,) = pod(**changes)["containers"]
    return container


def environment(**changes):
    return {variable["name"]: variable.get("value") for variable in engine(**changes)["env"]}


def test_the_pod_is_restricted():
    assert pod()["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 2000,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert engine()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def test_no_token_of_the_cluster_is_in_the_pod():
    assert (pod()["serviceAccountName"], pod()["automountServiceAccountToken"]) == ("chat", False)


def test_other_services_are_no_environment():
    assert pod()["enableServiceLinks"] is False


def test_command_and_arguments_are_said_whatever_the_images_entry_point():
    assert engine()["command"] == list(ENGINE.command)
    assert engine()["args"][0].startswith("/cache/weights/google--gemma-4-31B-it/")


def test_the_image_is_the_plans():
    assert engine()["image"] == "vllm/vllm-openai:v0.32.0"


@pytest.mark.parametrize(
    ("image", "mirrored"),
    [
        ("vllm/vllm-openai:v0.32.0", "registry.internal/hub/vllm/vllm-openai:v0.32.0"),
        ("quay.io/team/vllm:1", "registry.internal/hub/team/vllm:1"),
        ("localhost/vllm:1", "registry.internal/hub/vllm:1"),
        ("vllm:1", "registry.internal/hub/vllm:1"),
    ],
)
def test_images_come_from_the_mirror_where_there_is_one(image, mirrored):
    settings = OperatorSettings(image_mirror="registry.internal/hub/")
    assert engine(plan=a_plan(image=image), settings=settings)["image"] == mirrored


def test_an_image_of_the_users_own_is_taken_as_written():
    own = engine(
        plan=a_plan(image="quay.io/me/vllm:1"),
        settings=OperatorSettings(image_mirror="registry.internal"),
        serving={"engine": {"image": "quay.io/me/vllm:1", "version": "0.32"}},
    )
    assert own["image"] == "quay.io/me/vllm:1"


def test_the_service_finds_the_port_by_its_name():
    assert engine()["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}]


def test_what_the_user_wants_of_the_server_reaches_it():
    args = engine(
        serving={"modelName": "team/chat", "thinking": "Default", "engine": {"extraArgs": ["--seed=7"]}}
    )["args"]
    assert args[args.index("--served-model-name") + 1] == "team/chat"
    assert '{"enable_thinking":true}' in args
    assert args[-1] == "--seed=7"


def test_clients_ask_for_the_objects_name_unless_another_is_given():
    args = engine()["args"]
    assert args[args.index("--served-model-name") + 1] == "chat"


def test_a_base_model_is_served_without_tools():
    assert "--tool-call-parser" in engine()["args"]
    assert "--tool-call-parser" not in engine(model={"tuning": "Base"})["args"]
    assert "--tool-call-parser" not in engine(serving={"toolCalling": "Disabled"})["args"]


def test_start_up_asks_for_a_token_for_as_long_as_the_budget():
    probe = engine(budget_seconds=1718)["startupProbe"]
    assert probe["exec"]["command"][:2] == ["python3", "-c"]
    assert probe["exec"]["command"][-1].startswith('{"model":"chat"')
    assert probe["periodSeconds"] == 5
    assert probe["failureThreshold"] == 344


def test_the_engine_waits_for_itself_as_long_as_kubernetes_does():
    budget = startup_budget_seconds(a_spec(), a_plan())
    assert environment(budget_seconds=budget)["VLLM_ENGINE_READY_TIMEOUT_S"] == str(budget)


def test_a_running_engine_leaves_the_service_long_before_it_is_killed():
    ready, live = engine()["readinessProbe"], engine()["livenessProbe"]
    assert ready["httpGet"] == live["httpGet"] == {"path": "/health", "port": "http"}
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 15
    assert live["periodSeconds"] * live["failureThreshold"] >= 100
    assert min(ready["timeoutSeconds"], live["timeoutSeconds"]) >= 5  # a busy event loop answers late


def test_a_replica_that_goes_finishes_what_it_has():
    container, args = engine(), engine()["args"]
    hook = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (hook[:2], hook[3:]) == (["python3", "-c"], [str(farewell_middleware.FILE), "8000", "15"])
    assert args[args.index("--shutdown-timeout") + 1] == "60"
    assert pod()["terminationGracePeriodSeconds"] == 90


@pytest.mark.parametrize("drain_seconds", [0, 60, 3600])
def test_the_grace_period_holds_all_of_the_farewell(drain_seconds):
    farewell = Farewell(drain_seconds=drain_seconds)
    assert farewell.grace_seconds >= farewell.unrouting_seconds + drain_seconds + 10


def test_the_users_drain_time_moves_flag_and_grace_period_together():
    args = engine(rollout={"drainSeconds": 300})["args"]
    assert args[args.index("--shutdown-timeout") + 1] == "300"
    assert pod(rollout={"drainSeconds": 300})["terminationGracePeriodSeconds"] == 330


def test_last_words_are_kept_for_whoever_asks_why():
    assert engine()["terminationMessagePolicy"] == "FallbackToLogsOnError"


@pytest.mark.parametrize(("tensor_parallel", "size"), [(1, "1Gi"), (2, "2Gi")])
def test_workers_share_memory(tensor_parallel, size):
    changed = pod(plan=a_plan(settings=some_settings(tensor_parallel=tensor_parallel)))
    shm = next(volume for volume in changed["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": size}
    assert {"name": "shm", "mountPath": "/dev/shm"} in engine()["volumeMounts"]


def test_caches_have_a_place_and_a_limit():
    cache = next(volume for volume in pod()["volumes"] if volume["name"] == "cache")
    assert cache["emptyDir"] == {"sizeLimit": "100Gi"}
    assert {"name": "cache", "mountPath": CACHE_PATH} in engine()["volumeMounts"]
    assert environment()["HF_HOME"].startswith(CACHE_PATH)


def test_a_pod_asks_for_exactly_what_the_planner_reckoned_with():
    assert engine()["resources"]["requests"] == {
        "cpu": "8500m",
        "memory": "48Gi",
        "ephemeral-storage": "100Gi",
        "nvidia.com/gpu": "2",
    }


def test_only_gpus_are_limited_unasked():
    assert engine()["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_memory_that_the_user_gives_is_also_the_limit():
    limits = engine(pod={"resources": {"memory": "48Gi"}})["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "2", "memory": "48Gi"}


def test_a_slice_is_asked_for_by_its_own_name():
    plan = a_plan(demand=a_demand(resource_name="nvidia.com/mig-3g.40gb", accelerators=1, memory_bytes=GIB))
    assert engine(plan=plan)["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": "1"}


def test_the_pod_lands_on_the_pool_of_the_plan():
    selector = pod(hardware={"nodeSelector": {"zone": "a"}})["nodeSelector"]
    assert selector == {"zone": "a", "cloud.google.com/gke-nodepool": "h100", "kubernetes.io/os": "linux"}


def keys_tolerated(**changes):
    return [toleration.get("key") for toleration in pod(**changes)["tolerations"]]


def test_taints_of_gpu_nodes_are_tolerated_and_no_others():
    assert set(keys_tolerated()) == {"nvidia.com/gpu", "amd.com/gpu", "sku"}


@pytest.mark.parametrize(("spot", "tolerated"), [("Forbidden", False), ("Allowed", True), ("Required", True)])
def test_taints_of_spot_nodes_are_tolerated_only_where_spot_is_wanted(spot, tolerated):
    assert ("cloud.google.com/gke-spot" in keys_tolerated(hardware={"spot": spot})) is tolerated


def test_tolerations_of_the_pool_come_with_it():
    plan = a_plan(pool_tolerations=(Toleration("reserved", "Equal", "ml", "NoSchedule"),))
    expected = {"key": "reserved", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}
    assert expected in pod(plan=plan)["tolerations"]


@pytest.mark.parametrize(
    "users",
    [
        {"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        {"key": "team", "operator": "Equal", "value": "a", "effect": "NoSchedule"},
    ],
)
def test_tolerations_of_the_user_are_kept_whole(users):
    assert users in pod(hardware={"tolerations": [users]})["tolerations"]


def test_replicas_spread_over_nodes_where_they_can():
    (spread,) = pod()["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
        "kubernetes.io/hostname",
        "ScheduleAnyway",
    )
    assert spread["labelSelector"]["matchLabels"].items() <= template()["metadata"]["labels"].items()


def test_what_the_user_says_about_pods_reaches_them():
    said = {
        "labels": {"team": "a"},
        "annotations": {"note": "hi"},
        "priorityClassName": "high",
        "runtimeClassName": "nvidia",
        "schedulerName": "other",
        "imagePullSecrets": [{"name": "pull"}],
    }
    made = template(pod=said)
    assert made["metadata"]["labels"]["team"] == "a"
    assert made["metadata"]["annotations"]["note"] == "hi"
    for field in ("priorityClassName", "runtimeClassName", "schedulerName", "imagePullSecrets"):
        assert made["spec"][field] == said[field]


def test_a_variable_of_the_users_own_wins_over_the_operators_proxy():
    own = {"engine": {"env": [{"name": "HTTPS_PROXY", "value": "http://mine:1"}]}}
    names = [
        each["name"] for each in engine(serving=own, settings=OperatorSettings(proxy="http://p:1"))["env"]
    ]
    assert (
        environment(serving=own, settings=OperatorSettings(proxy="http://p:1"))["HTTPS_PROXY"]
        == "http://mine:1"
    )
    assert len(names) == len(set(names))
