"""The sandbox itself, with its real control plane."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from gemma_operator.cli import sandbox as command
from gemma_operator.errors import ApiError, NotFound, SandboxError
from gemma_operator.sandbox import fleet, plane, processes, session
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.session import Sandbox
from gemma_operator.sandbox.status import status
from gemma_operator.sandbox.visit import endpoints

pytestmark = pytest.mark.cluster

T = TypeVar("T")
PREFIX = "sandbox.gemma-operator.io/"
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
SMALL = {
    "pools": [{"name": "only", "count": 1, "capacity": {"cpu": 8, "memory": "32Gi", "nvidia.com/gpu": 1}}]
}


def until(look: Callable[[], T], *, what: str, within_seconds: float = 60) -> T:
    """The first true thing that `look` gives."""
    deadline = time.monotonic() + within_seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
        time.sleep(0.05)
    return seen


class Namespace:
    """A namespace of its own for a test, with what the tests look at."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name = client, name

    def deploy(self, *, replicas: int = 1, gpus: int = 1, annotations: dict[str, str] | None = None) -> None:
        """A Deployment as the operator makes them, and its Service."""
        container = {
            "name": "engine",
            "image": "vllm/vllm-openai:v0.32.0",
            "args": ["--model=google/gemma-4", "--served-model-name=chat", "--max-model-len=8192"],
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"limits": {"nvidia.com/gpu": gpus}},
            "startupProbe": {
                "periodSeconds": 1,
                "failureThreshold": 600,
                "exec": {"command": ["python3", "-c", "SCRIPT", "/v1/chat/completions", BODY]},
            },
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
        }
        labels = {"app": "chat"}
        told = {PREFIX + key: value for key, value in (annotations or {}).items()}
        spec = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "containers": [container]}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "chat"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels, "annotations": told}, "spec": spec},
            },
        }
        ports = [{"name": "http", "port": 8000, "targetPort": "http"}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "chat"},
            "spec": {"selector": labels, "ports": ports},
        }
        self.client.create(f"/apis/apps/v1/namespaces/{self.name}/deployments", deployment)
        self.client.create(f"/api/v1/namespaces/{self.name}/services", service)

    def pods(self) -> list[dict[str, Any]]:
        return self.client.items(f"/api/v1/namespaces/{self.name}/pods?labelSelector=app%3Dchat")

    def pod(self) -> dict[str, Any]:
        (pod,) = self.pods()
        return pod

    def ready(self) -> list[dict[str, Any]]:
        return [pod for pod in self.pods() if fleet.is_true(pod, "Ready")]

    def until_ready(self, count: int = 1) -> list[dict[str, Any]]:
        until(lambda: len(self.ready()) == count, what=f"{count} ready pods")
        return self.ready()

    def until_unready(self) -> None:
        until(lambda: not self.ready(), what="no ready pod")

    def tell(self, **orders: str | None) -> None:
        """Annotate the one pod."""
        annotations = {PREFIX + key.replace("_", "-"): value for key, value in orders.items()}
        path = f"/api/v1/namespaces/{self.name}/pods/{self.pod()['metadata']['name']}"
        self.client.merge(path, {"metadata": {"annotations": annotations}})

    def endpoints(self) -> set[str]:
        return {e.pod for e in endpoints(self.client, namespace=self.name, service="chat")}

    def container(self) -> dict[str, Any]:
        status: dict[str, Any] = self.pod()["status"]["containerStatuses"][0]
        return status


@pytest.fixture
def namespace(sandbox: Sandbox, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    name = f"t{abs(hash(request.node.nodeid)) % 10**8}-{time.monotonic_ns() % 10**6}"
    sandbox.client.create("/api/v1/namespaces", {"metadata": {"name": name}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: _exists(sandbox.client, account), what="the namespace's ServiceAccount")
    made = Namespace(sandbox.client, name)
    yield made
    # Give the GPUs back before the next test; the rest of the namespace goes when it likes.
    sandbox.client.delete(f"/apis/apps/v1/namespaces/{name}/deployments?propagationPolicy=Background")
    for pod in made.pods():
        path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}"
        with contextlib.suppress(NotFound):
            sandbox.client.delete(
                path, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
            )
    until(lambda: not made.pods(), what="the pods are gone")
    sandbox.client.delete(f"/api/v1/namespaces/{name}")


def _exists(client: Client, path: str) -> bool:
    with contextlib.suppress(ApiError):
        client.get(path)
        return True
    return False


def _address(pod: dict[str, Any]) -> str:
    return f"http://{pod['status']['podIP']}:8000"


def _chat(pod: dict[str, Any], *, timeout_seconds: float = 5) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return httpx.post(
        f"{_address(pod)}/v1/chat/completions", content=BODY, headers=headers, timeout=timeout_seconds
    )


def test_three_replicas_become_ready_endpoints_and_answer(sandbox, namespace):
    namespace.deploy(replicas=3)
    pods = namespace.until_ready(3)
    assert all(pod["status"]["containerStatuses"][0]["started"] for pod in pods)
    until(lambda: len(namespace.endpoints()) == 3, what="three ready endpoints")
    assert namespace.endpoints() == {pod["metadata"]["name"] for pod in pods}
    for pod in pods:
        assert pod["status"]["podIP"].startswith(f"127.{sandbox.block.number}.")
        assert _chat(pod).json()["usage"]["completion_tokens"] == 1


def test_a_deleted_pod_is_refused_and_leaves_the_service(namespace):
    namespace.deploy()
    (pod,) = namespace.until_ready()
    name = pod["metadata"]["name"]
    namespace.client.merge(
        f"/apis/apps/v1/namespaces/{namespace.name}/deployments/chat", {"spec": {"replicas": 0}}
    )
    until(lambda: name not in namespace.endpoints(), what="the endpoint is gone")
    until(lambda: not namespace.pods(), what="the pod is gone")
    until(lambda: _refused(pod), what="its address refuses")


def _refused(pod: dict[str, Any]) -> bool:
    try:
        httpx.get(f"{_address(pod)}/health", timeout=5)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False  # it was let in just as the door closed
    return False


def test_no_pod_is_ready_before_a_token_was_generated(namespace):
    namespace.deploy(annotations={"fault": "no-token", "startup-seconds": "0"})
    until(namespace.pods, what="a pod")
    until(lambda: namespace.pod()["status"].get("podIP"), what="an address")
    pod = namespace.pod()
    until(lambda: _answers(pod), what="the engine answers /health")
    assert _chat(pod).status_code == 200
    assert not namespace.ready()
    assert namespace.container()["started"] is False
    assert namespace.endpoints() == set()
    namespace.tell(fault=None)
    namespace.until_ready()
    assert namespace.container()["started"] is True


def test_a_start_up_can_be_told_to_end(namespace):
    namespace.deploy(annotations={"startup-seconds": "3600"})
    until(namespace.pods, what="a pod")
    until(lambda: namespace.pod()["status"].get("podIP"), what="an address")
    until(lambda: not _refused(namespace.pod()), what="the engine is starting")
    assert not namespace.ready()
    namespace.tell(startup_seconds="0")
    namespace.until_ready()


def _answers(pod: dict[str, Any]) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{_address(pod)}/health", timeout=2).status_code == 200
    return False


@pytest.mark.parametrize("fault", ["refused", "hanging", "unhealthy"])
def test_what_health_would_show_takes_ready_away_and_gives_it_back(namespace, fault):
    namespace.deploy()
    namespace.until_ready()
    namespace.tell(fault=fault)
    namespace.until_unready()
    until(lambda: not namespace.endpoints(), what="no ready endpoint")
    namespace.tell(fault=None)
    (pod,) = namespace.until_ready()
    assert _chat(pod).status_code == 200


def test_faults_that_health_does_not_show_leave_ready_alone(namespace):
    """These are what the operator's own probes are for."""
    namespace.deploy()
    (pod,) = namespace.until_ready()
    for fault, seen in (
        ("no-token", lambda answer: answer.json()["usage"]["completion_tokens"] == 0),
        ("wrong-model", lambda answer: answer.status_code == 404),
        ("error-500", lambda answer: answer.status_code == 500),
    ):
        namespace.tell(fault=fault)
        until(lambda seen=seen: seen(_chat(pod)), what=fault)
    namespace.tell(fault="wedged")
    until(lambda: _times_out(pod), what="no token comes")
    assert _answers(pod)
    assert namespace.ready()


def _times_out(pod: dict[str, Any]) -> bool:
    try:
        _chat(pod, timeout_seconds=0.5)
    except httpx.ReadTimeout:
        return True
    return False


def test_a_memory_refusal_is_a_crash_with_vllms_words_and_is_tried_again(namespace):
    figures = {"memory-needed-gib": "8.5", "memory-available-gib": "4.25"}
    namespace.deploy(annotations={"fault": "memory-refusal", "startup-seconds": "0", **figures})
    until(namespace.pods, what="a pod")
    until(lambda: "lastState" in _first_container(namespace.pod()), what="the engine crashed")
    container = until(lambda: _waiting(namespace), what="a wait after the crash")
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    ended = container["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert "max seq len (8192), (8.50 GiB KV cache is needed" in ended["message"]
    assert "available KV cache memory (4.25 GiB)" in ended["message"]
    assert _refused(namespace.pod())
    assert container["restartCount"] >= 1
    namespace.tell(fault=None)
    namespace.until_ready()


def _first_container(pod: dict[str, Any]) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return {key: value for key, value in statuses[0].items() if value}


def _waiting(namespace: Namespace) -> dict[str, Any] | None:
    container = _first_container(namespace.pod())
    return container if "waiting" in container.get("state", {}) else None


def test_the_real_scheduler_counts_simulated_gpus(namespace):
    namespace.deploy(replicas=3, gpus=8)
    pods = namespace.until_ready(2)
    assert {pod["spec"]["nodeName"] for pod in pods} == {"gke-h100-0", "gke-h100-1"}
    names = {pod["metadata"]["name"] for pod in pods}
    (left,) = {pod["metadata"]["name"] for pod in namespace.pods()} - names
    path = f"/api/v1/namespaces/{namespace.name}/pods/{left}"
    said = until(lambda: namespace.client.get(path)["status"].get("conditions"), what="why it waits")
    assert "Insufficient nvidia.com/gpu" in said[0]["message"]


def test_a_fleet_grows_and_shrinks(sandbox, namespace):
    pool = {"name": "late", "count": 1, "capacity": {"cpu": 8, "memory": "8Gi", "nvidia.com/gpu": 16}}
    namespace.deploy(gpus=16)
    until(lambda: [p for p in namespace.pods() if p["status"].get("conditions")], what="found unschedulable")
    sandbox.add_nodes([fleet.node(pool, 0)])
    (pod,) = namespace.until_ready()
    assert pod["spec"]["nodeName"] == "late-0"
    sandbox.add_nodes([fleet.node({**pool, "labels": {"new": "label"}}, 0)])
    assert sandbox.client.get("/api/v1/nodes/late-0")["metadata"]["labels"]["new"] == "label"
    sandbox.delete_node("late-0")
    assert not _exists(sandbox.client, "/api/v1/nodes/late-0")
    until(lambda: _refused(pod), what="what ran on a machine that is gone refuses")
    assert [p["metadata"]["uid"] for p in namespace.ready()] == [pod["metadata"]["uid"]], "nobody told yet"


def test_pods_of_a_lost_node_can_be_collected_at_once(sandbox, namespace):
    pool = {"name": "lost", "count": 1, "capacity": {"cpu": 8, "memory": "8Gi", "nvidia.com/gpu": 12}}
    sandbox.add_nodes([fleet.node(pool, 0)])
    namespace.deploy(gpus=12)
    (pod,) = namespace.until_ready()
    sandbox.delete_node("lost-0", collect_pods=True)
    until(lambda: pod["metadata"]["uid"] not in {p["metadata"]["uid"] for p in namespace.pods()}, what="gone")


def test_requests_are_counted_by_user(sandbox):
    # an operator that other tests started may renew its Lease meanwhile, as the same user
    def counted(since):
        return [request for request in sandbox.requests(since=since) if request.namespace == "audited"]

    mark = sandbox.audit_mark()
    sandbox.client.items("/api/v1/namespaces/audited/configmaps")  # the administrator's, so not counted
    with (
        Client(sandbox.url, token=sandbox.operator_token, ca_file=sandbox.ca_file) as operator,
        pytest.raises(ApiError, match="cannot create resource"),
    ):
        operator.create("/api/v1/namespaces/audited/configmaps", {"metadata": {"name": "c"}})
    (asked,) = counted(mark)
    assert (asked.verb, asked.resource, asked.namespace, asked.code) == (
        "create",
        "configmaps",
        "audited",
        403,
    )
    assert asked.is_write
    assert counted(sandbox.audit_mark()) == []


def test_what_matters_to_nobody_makes_the_daemon_write_nothing(sandbox, namespace):
    namespace.deploy(replicas=2)
    namespace.until_ready(2)
    until(lambda: len(namespace.endpoints()) == 2, what="two endpoints")
    mark = sandbox.audit_mark()
    service = f"/api/v1/namespaces/{namespace.name}/services/chat"
    namespace.client.merge(service, {"metadata": {"annotations": {"nothing": "new"}}})
    for pod in namespace.pods():
        path = f"/api/v1/namespaces/{namespace.name}/pods/{pod['metadata']['name']}"
        namespace.client.merge(path, {"metadata": {"annotations": {PREFIX + "token-seconds": "0.2"}}})
        until(lambda pod=pod: _chat(pod).elapsed.total_seconds() >= 0.2, what="the order was seen")
    made = sandbox.requests(user="sandbox:daemon", since=mark)
    assert [request for request in made if request.is_write and request.namespace == namespace.name] == []


# The life of sandboxes.


@pytest.fixture
def another() -> Iterator[str]:
    """The name of a sandbox that is gone after the test."""
    name = f"test-other-{os.getpid()}"
    yield name
    session.remove(name)


def test_two_sandboxes_run_side_by_side_and_one_goes_alone(sandbox, another):
    second = Sandbox.start(another, fleet=SMALL)
    assert second.block != sandbox.block
    assert [node["metadata"]["name"] for node in second.client.items("/api/v1/nodes")] == ["only-0"]
    assert len(sandbox.client.items("/api/v1/nodes")) > 1
    second.stop()
    assert status(sandbox.folder)["state"] == "up"


def test_down_leaves_no_process_and_no_file(another):
    started = Sandbox.start(another, fleet=SMALL)
    assert started.folder.path.stat().st_mode & 0o077 == 0, "tokens lie in there"
    assert sorted(started.stop()) == sorted(plane.COMPONENTS)
    assert processes.find(started.folder.path) == []
    assert [entry for entry in started.folder.path.parent.iterdir() if another in entry.name] == []


def test_up_replaces_a_sandbox_of_that_name(another):
    first = Sandbox.start(another, fleet=SMALL)
    pids = {process.pid for process in processes.find(first.folder.path)}
    first.close()
    second = Sandbox.start(another, fleet=SMALL)
    assert pids.isdisjoint(process.pid for process in processes.find(second.folder.path))
    second.stop()


@pytest.mark.parametrize("stage", ["etcd", "kube-apiserver", "kwok"])
@pytest.mark.parametrize("cure", ["up", "down"])
def test_a_killed_up_is_cleaned_up_by_what_comes_next(another, stage, cure):
    folder = StateFolder.named(another)
    code = "import sys; from gemma_operator.sandbox.session import Sandbox; Sandbox.start(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    starting = subprocess.Popen([sys.executable, "-c", code, another], env=environment)
    until(
        lambda: stage in {p.component for p in processes.find(folder.path)},
        what=f"{stage} was started",
        within_seconds=120,  # what `up` gives each stage
    )
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    left = {process.pid for process in processes.find(folder.path)}
    assert left
    with pytest.raises(SandboxError, match="does not run"):
        Sandbox.attach(another)
    if cure == "up":
        Sandbox.start(another, fleet=SMALL).stop()
    else:
        session.remove(another)
    assert processes.find(folder.path) == []
    assert not folder.path.exists()
    assert not folder.lock_file.exists()


def test_a_component_that_dies_is_named(another):
    started = Sandbox.start(another, fleet=SMALL)
    started.close()
    (scheduler,) = [p for p in processes.find(started.folder.path) if p.component == "kube-scheduler"]
    os.kill(scheduler.pid, signal.SIGKILL)
    os.waitpid(scheduler.pid, 0)
    with pytest.raises(SandboxError, match="is broken, kube-scheduler died"):
        Sandbox.attach(another)
    shown = status(started.folder)
    assert (shown["state"], shown["missing"]) == ("broken", ["kube-scheduler"])


def test_a_component_that_cannot_start_shows_its_log_and_leaves_nothing(another, tmp_path):
    assets = tmp_path / "assets"
    assets.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"):
        (assets / name).write_text(f"#!/bin/sh\necho {name} has no disk >&2\nexit 3\n")
        (assets / name).chmod(0o755)
    with pytest.raises(SandboxError, match=r"etcd ended as soon as it was started(?s:.*)etcd has no disk"):
        Sandbox.start(another, assets=str(assets))
    assert not StateFolder.named(another).path.exists()
    assert not StateFolder.named(another).lock_file.exists()


def test_up_of_what_is_up_changes_the_fleet_and_nothing_else(another, tmp_path, capfdbinary):
    started = Sandbox.start(another, fleet=SMALL)
    before = {process.pid for process in processes.find(started.folder.path)}
    bigger = tmp_path / "fleet.yaml"
    bigger.write_text("pools: [{name: other, count: 2, capacity: {cpu: 1, memory: 1Gi}}]")
    assert _run("up", "--name", another) == 0
    assert [node["metadata"]["name"] for node in started.client.items("/api/v1/nodes")] == ["only-0"]
    assert _run("up", "--name", another, "--fleet", str(bigger)) == 0
    assert b"is up already" in capfdbinary.readouterr().err
    names = [node["metadata"]["name"] for node in started.client.items("/api/v1/nodes")]
    assert names == ["other-0", "other-1"]
    assert {process.pid for process in processes.find(started.folder.path)} == before
    started.close()


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def test_the_command_line_shows_and_asks(sandbox, namespace, capfdbinary):
    namespace.deploy(replicas=2)
    namespace.until_ready(2)
    until(lambda: len(namespace.endpoints()) == 2, what="two endpoints")
    name = ["--name", sandbox.name]
    assert _run("status", *name, "-o", "json") == 0
    shown = json.loads(capfdbinary.readouterr().out)
    assert (shown["state"], shown["url"]) == ("up", sandbox.url)
    assert _run("kubeconfig", *name) == 0
    assert capfdbinary.readouterr().out.decode().strip() == str(sandbox.kubeconfig)
    asked = set()
    for _ in range(2):
        assert _run("curl", "chat", *name, "-n", namespace.name, "/v1/chat/completions", "-d", BODY) == 0
        answer = capfdbinary.readouterr()
        assert json.loads(answer.out)["system_fingerprint"] == "simulated"
        assert b"sandbox stands in for the Service" in answer.err
        asked.add(answer.err)
    assert len(asked) == 2, "round robin over the endpoints"
    assert _run("curl", "nothing", *name, "/v1/models") == 1
    assert b"has no Service 'nothing'" in capfdbinary.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["up", "--fleet", "/nowhere.yaml"], b"/nowhere.yaml cannot be read"),
        (["up", "--name", "No"], b"cannot name a sandbox"),
        (["up", "--assets", "/nowhere"], b"--assets names /nowhere, which is not a folder"),
        (["curl", "chat", "v1/models"], b"PATH must begin with '/'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words, complaint, capfdbinary):
    assert _run(*words) == 2
    error = capfdbinary.readouterr().err
    assert complaint in error
    assert error.count(b"\n") == 1


def test_asking_a_sandbox_that_is_not_there_names_the_remedy(capfdbinary):
    assert _run("curl", "chat", "/v1/models", "--name", "not-there") == 1
    assert b"sandbox up --name not-there" in capfdbinary.readouterr().err
    assert _run("down", "--name", "not-there") == 0
    assert b"nothing ran" in capfdbinary.readouterr().out
