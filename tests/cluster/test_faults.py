"""A Ready that cannot lie: each way in which an engine can go wrong is seen, said with its reason, and unsaid."""

from __future__ import annotations

import contextlib
import uuid

import pytest

from cluster import scraping
from cluster.teams import Team, a_deployment, condition, says
from cluster.waiting import throughout, until
from gemma_operator.errors import NotFound

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

FAULT = "sandbox.gemma-operator.io/fault"
AT_ONCE = {"sandbox.gemma-operator.io/startup-seconds": "0.1"}
#: Fault, and what is said of it: reason and a part of the message.
FAULTS = {
    "no-token": ("ProbeFailed", "answered 200 without a token"),
    "wrong-model": ("WrongModel", "serves another model"),
    "error-500": ("ProbeFailed", "answered with an error: HTTP 500"),
    "refused": ("ProbeFailed", "refused the connection"),
    "hanging": ("ProbeFailed", "did not answer in time"),
    "wedged": ("ProbeFailed", "did not answer in time"),
    "unhealthy": ("NoEndpoints", "/health"),
}


#: A new pod may cure these, so the second probe that fails gets the pod replaced: see test_wedged.
CURED = frozenset({"no-token", "error-500", "hanging", "wedged"})


@pytest.fixture(scope="module")
def one_team(installed):
    """Whose deployments outlive a test: each test leaves them as it found them."""
    joined = Team(installed, f"t{uuid.uuid4().hex[:8]}")
    yield joined
    joined.leave()


@pytest.fixture(scope="module")
def deployed(one_team, one_operator):
    """`solo` of one replica and `pair` of two."""
    one_operator.ensure_running()
    pool = one_team.pool("l4", nodes=3)
    for name, replicas in (("solo", 1), ("pair", 2)):
        one_team.apply(a_deployment(name, hardware={"pools": [pool]}, replicas=replicas))
    for name in ("solo", "pair"):
        one_team.ready(name)
    return one_team


def tell(team, pod, fault):
    """Sets or takes away the fault of one running pod."""
    team.annotate(pod["metadata"]["name"], {FAULT: fault}, kind="Pod")


def heal(team, pod):
    """Takes the fault away, if the pod was not replaced meanwhile."""
    with contextlib.suppress(NotFound):
        tell(team, pod, None)


def seen(operator, name, family, **labels):
    """The value of a deployment's one series."""
    return scraping.value(operator, family, name=name, **labels)


@pytest.mark.parametrize("fault", FAULTS)
def test_ready_goes_with_its_only_replica_and_comes_back_with_it(deployed, fault):
    reason, words = FAULTS[fault]
    (pod,) = deployed.pods("solo")
    tell(deployed, pod, fault)
    gone = deployed.sees("GemmaDeployment", "solo", says("Ready", "False", reason))
    assert words in condition(gone, "Ready")["message"]
    assert pod["metadata"]["name"] in condition(gone, "Ready")["message"]
    assert says("Healthy", "False", reason)(gone)
    assert says("Reconciling", "True", reason)(gone)
    assert gone["status"]["readyReplicas"] == 0
    heal(deployed, pod)
    back = deployed.ready("solo")
    assert says("Healthy", "True")(back)
    if fault not in CURED:
        assert [each["metadata"]["name"] for each in deployed.pods("solo")] == [pod["metadata"]["name"]]


@pytest.mark.parametrize("fault", ["wrong-model", "refused"])
def test_one_of_two_at_fault_is_missing_and_the_rest_is_ready(deployed, operator, fault):
    pod = deployed.pods("pair")[0]
    tell(deployed, pod, fault)
    words = f"served by 1 of 2 replicas: pod {pod['metadata']['name']} {FAULTS[fault][1]}"
    short = deployed.sees(
        "GemmaDeployment", "pair", lambda obj: words in condition(obj, "Ready").get("message", "")
    )
    assert says("Ready", "True", "ReplicasMissing")(short)
    assert says("Healthy", "True")(short)
    assert short["status"]["readyReplicas"] == 1
    until(
        lambda: seen(operator, "pair", "gemma_deployment_replicas", state="missing") == 1,
        what="the metric counts one missing",
    )
    assert seen(operator, "pair", "gemma_deployment_replicas", state="proved") == 1
    assert seen(operator, "pair", "gemma_deployment_replicas", state="wanted") == 2
    assert seen(operator, "pair", "gemma_deployment_condition", type="Ready", status="True") == 1
    tell(deployed, pod, None)
    deployed.sees("GemmaDeployment", "pair", says("Ready", "True", "Serving"))
    until(
        lambda: seen(operator, "pair", "gemma_deployment_replicas", state="missing") == 0,
        what="the metric counts none missing",
    )


def test_probes_that_fail_are_counted(deployed, operator):
    before = seen(operator, "solo", "gemma_deployment_probe_failures_total")
    (pod,) = deployed.pods("solo")
    tell(deployed, pod, "no-token")
    until(
        lambda: seen(operator, "solo", "gemma_deployment_probe_failures_total") >= before + 2,
        what="two failures are counted",
    )
    heal(deployed, pod)
    deployed.ready("solo")


def test_an_engine_that_finds_too_little_memory_is_stalled_with_its_figures(team):
    told = {
        **AT_ONCE,
        FAULT: "memory-refusal",
        "sandbox.gemma-operator.io/memory-needed-gib": "7.25",
        "sandbox.gemma-operator.io/memory-available-gib": "3.5",
    }
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, pod={"annotations": told}))
    refused = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "KvCacheTooSmall"))
    assert says("Ready", "False", "KvCacheTooSmall")(refused)
    assert says("Healthy", "False", "KvCacheTooSmall")(refused)
    assert condition(refused, "Reconciling") == {}
    message = condition(refused, "Ready")["message"]
    assert "7.25 GiB KV cache is needed" in message
    assert "3.50 GiB" in message
    assert "lower serving.contextLength or serving.concurrency" in message
    team.change("chat", {"pod": {"annotations": {FAULT: ""}}})
    team.ready("chat")


def test_a_generation_that_never_generates_leaves_the_old_one_serving(team, operator):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, replicas=2))
    team.ready("chat")
    old = {pod["metadata"]["name"] for pod in team.pods("chat")}
    team.change("chat", {"pod": {"annotations": {FAULT: "no-token"}}})
    new = until(lambda: _runs(team, old), what="a pod of the new generation runs")
    rolling = team.sees("GemmaDeployment", "chat", says("Ready", "False", "RollingOut"))
    assert says("Healthy", "True")(rolling)
    assert says("Reconciling", "True", "RollingOut")(rolling)

    def still_served():
        obj = team.get("GemmaDeployment", "chat")
        pods = {pod["metadata"]["name"]: pod for pod in team.pods("chat")}
        return (
            says("Ready", "False")(obj)
            and says("Healthy", "True")(obj)
            and len(old & pods.keys()) == 1
            and not _started(pods[new])
        )

    throughout(still_served, what="one old replica serves, the new one is not Ready", seconds=4)
    assert seen(operator, "chat", "gemma_deployment_replicas", state="missing") == 1
    team.change("chat", {"pod": {"annotations": {FAULT: ""}}})
    team.ready("chat")
    assert not old & {pod["metadata"]["name"] for pod in team.pods("chat")}


def _runs(team, old):
    """A new pod whose engine answers, though without a token."""
    for pod in team.pods("chat"):
        if pod["metadata"]["name"] not in old and pod["status"].get("phase") == "Running":
            return pod["metadata"]["name"]
    return None


def _started(pod):
    return any(status.get("started") for status in pod["status"].get("containerStatuses", ()))


def test_series_go_when_the_object_goes(team, operator):
    pool = team.pool("l4", nodes=1)
    name = f"gone-{team.namespace}"
    team.apply(a_deployment(name, hardware={"pools": [pool]}))
    team.ready(name)
    assert seen(operator, name, "gemma_deployment_info") == 1
    team.delete("GemmaDeployment", name)
    until(
        lambda: not any(f'"{name}"' in line for line in scraping.lines(operator)),
        what="no series of it is left",
    )
    # counted a moment after the change that asks for it
    until(
        lambda: scraping.value(operator, "gemma_pool_accelerators", pool=pool, state="total") == 1,
        what="its pool's series stay",
    )
