"""Kinds that a cluster may have beside its nodes, what namespaces allow, and nodes that refuse pods."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster import scraping
from cluster.conftest import _KUBECTL
from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until
from gemma_operator.errors import ApiError, NotFound

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]
CRDS = Path(__file__).parents[1] / "data" / "crds"
NODEPOOLS, NODECLAIMS = "/apis/karpenter.sh/v1/nodepools", "/apis/karpenter.sh/v1/nodeclaims"
CLASSES = "/apis/cloud.google.com/v1/computeclasses"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="module", autouse=True)
def kinds(installed):
    """Karpenter's kinds and GKE's, installed while the operator runs."""
    for path in sorted(CRDS.glob("*.yaml")):
        command = [
            str(_KUBECTL),
            "--kubeconfig",
            str(installed.kubeconfig),
            "apply",
            "--server-side",
            "-f",
            str(path),
        ]
        subprocess.run(command, check=True, capture_output=True)
    for path in (NODEPOOLS, NODECLAIMS, CLASSES):
        until(lambda path=path: is_served(installed, path), what=f"{path} is served")


def is_served(sandbox, path):
    """Established is said a moment before the handler answers: 404, then 429 while its storage is made."""
    try:
        sandbox.client.get(path)
    except ApiError:
        return False
    return True


@pytest.fixture
def made(team):
    """Creates cluster-scoped objects that are given back."""
    paths = []

    def create(collection, obj, status=None):
        team.client.create(collection, obj)
        path = f"{collection}/{obj['metadata']['name']}"
        paths.append(path)
        if status is not None:
            team.client.merge(f"{path}/status", {"status": status})
        return path

    yield create
    for path in paths:
        with contextlib.suppress(NotFound):
            team.client.delete(path)


def a_nodepool(name, *machines, limits=None):
    reference = {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"}
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": list(machines)}
    spec = {"template": {"spec": {"nodeClassRef": reference, "requirements": [requirement]}}}
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": name},
        "spec": {**spec, **({"limits": limits} if limits else {})},
    }


def a_nodeclaim(nodepool):
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodeClaim",
        "metadata": {"name": f"{nodepool}-x1", "labels": {"karpenter.sh/nodepool": nodepool}},
        "spec": {
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
            "requirements": [{"key": "karpenter.sh/nodepool", "operator": "In", "values": [nodepool]}],
        },
    }


def launch_failed(message):
    failed = {
        "type": "Launched",
        "status": "False",
        "reason": "LaunchFailed",
        "message": message,
        "lastTransitionTime": "2026-11-25T09:00:00Z",
        "observedGeneration": 1,
    }
    return {"conditions": [failed]}


def plan_of(obj):
    return obj.get("status", {}).get("plan") or {}


def on(source, name):
    return lambda obj: (
        (plan_of(obj).get("pool", {}).get("source"), plan_of(obj).get("pool", {}).get("name"))
        == (source, name)
    )


def mentions(kind, *words):
    return lambda obj: all(word in condition(obj, kind).get("message", "") for word in words)


def test_a_nodepool_without_a_node_is_planned_and_its_failing_claim_is_told(team, made):  # FR-13
    name = f"{team.namespace}-gpu"
    team.apply(a_deployment(hardware={"pools": [name]}))
    team.sees("GemmaDeployment", "chat", says("Planned", "False"))
    made(NODEPOOLS, a_nodepool(name, "g6.4xlarge"))
    planned = team.sees("GemmaDeployment", "chat", on("karpenter-nodepool", name))
    assert plan_of(planned)["accelerator"] == "nvidia-l4"
    (pod,) = until(lambda: team.pods("chat"), what="its pod waits")
    assert pod["spec"]["nodeSelector"]["karpenter.sh/nodepool"] == name
    team.sees("GemmaDeployment", "chat", says("Ready", "False", "Unschedulable"))
    claim = made(NODECLAIMS, a_nodeclaim(name), launch_failed("VcpuLimitExceeded: over your vCPU quota"))
    told = team.sees("GemmaDeployment", "chat", mentions("Ready", "LaunchFailed", "vCPU quota"))
    assert condition(told, "Reconciling")
    team.client.delete(claim)
    team.sees("GemmaDeployment", "chat", lambda obj: not mentions("Ready", "LaunchFailed")(obj))


def test_a_nodepool_at_its_limit_is_waited_for(team, made):
    name = f"{team.namespace}-full"
    path = made(NODEPOOLS, a_nodepool(name, "g6.4xlarge", limits={GPU: "1"}), {"resources": {GPU: "1"}})
    team.apply(a_deployment(hardware={"pools": [name]}))
    team.sees("GemmaDeployment", "chat", says("Planned", "False", "WaitingForCapacity"))
    assert not team.pods("chat")
    team.client.merge(path, {"spec": {"limits": {GPU: "2"}}})
    team.sees("GemmaDeployment", "chat", on("karpenter-nodepool", name))


def test_a_compute_class_that_creates_node_pools_is_planned(team, made):
    name = f"{team.namespace}-class"
    spec = {
        "nodePoolAutoCreation": {"enabled": True},
        "priorities": [{"gpu": {"type": "nvidia-l4", "count": 1}}],
    }
    made(
        CLASSES,
        {
            "apiVersion": "cloud.google.com/v1",
            "kind": "ComputeClass",
            "metadata": {"name": name},
            "spec": spec,
        },
    )
    team.apply(a_deployment(hardware={"pools": [f"compute-class/{name}"]}))
    team.sees("GemmaDeployment", "chat", on("compute-class", name))
    (pod,) = until(lambda: team.pods("chat"), what="its pod waits")
    assert pod["spec"]["nodeSelector"]["cloud.google.com/compute-class"] == name
    tolerated = {each.get("key") for each in pod["spec"]["tolerations"]}
    assert {"cloud.google.com/compute-class", GPU} <= tolerated


def test_devices_of_dra_are_shown_and_refused_with_the_reason(team, made):
    pool = team.pool("l4", nodes=1, suffix="-dra")
    (node,) = [
        node["metadata"]["name"]
        for node in team.client.items("/api/v1/nodes")
        if node["metadata"]["labels"].get("cloud.google.com/gke-nodepool") == pool
    ]
    attributes = {
        "type": {"string": "gpu"},
        "uuid": {"string": "GPU-1"},
        "productName": {"string": "NVIDIA H200"},
    }
    device = {"name": "gpu-0", "attributes": attributes, "capacity": {"memory": {"value": "143771Mi"}}}
    spec = {
        "driver": "gpu.nvidia.com",
        "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
    }
    made(SLICES, {"metadata": {"name": f"{team.namespace}-s"}, "spec": {**spec, "devices": [device]}})
    team.apply(a_deployment(hardware={"accelerators": ["nvidia-h200"], "pools": [pool]}))
    shown = team.sees("GemmaDeployment", "chat", says("Planned", "False", "NothingFits"))
    refused = [other for other in shown["status"]["alternatives"] if other["code"] == "PoolRefused"]
    assert "ResourceClaim" in refused[0]["message"]
    assert refused[0]["accelerator"] == "nvidia-h200"


def a_quota(team, gpus):
    return {"metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": str(gpus)}}}


def test_a_quota_that_came_later_is_told_and_a_new_object_is_told_so_first(team):  # FR-18
    quotas = f"/api/v1/namespaces/{team.namespace}/resourcequotas"
    pool = team.pool("l4", nodes=4)
    team.apply(a_deployment(replicas=2, hardware={"pools": [pool]}))
    team.ready()
    team.client.create(quotas, a_quota(team, 1))
    until(
        lambda: team.client.get(f"{quotas}/gpus").get("status", {}).get("used"), what="the quota is reckoned"
    )
    team.delete("Pod", team.pods("chat")[0]["metadata"]["name"])
    one_short = team.sees("GemmaDeployment", "chat", mentions("Ready", "1 of 2", "exceeded quota: gpus"))
    assert says("Ready", "True", "ReplicasMissing")(one_short)
    team.apply(a_deployment("second", hardware={"pools": [pool]}))
    barred = team.sees("GemmaDeployment", "second", says("Planned", "False", "QuotaExceeded"))
    assert "ResourceQuota gpus allows 1" in condition(barred, "Planned")["message"]
    assert condition(barred, "Reconciling")
    throughout(lambda: not team.pods("second"), what="no pod is tried", seconds=1)
    team.client.merge(f"{quotas}/gpus", {"spec": {"hard": {f"requests.{GPU}": "4"}}})
    team.ready("second")
    team.ready("chat", within_seconds=90)  # the ReplicaSet controller backs off


POLICIES = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolic"


def a_gate_on_every_pod(namespace):
    """What Kueue's webhook does to the pods of its queues, by a policy of the API server itself."""
    gate = '[Object.spec.schedulingGates{name: "test/gate"}]'
    added = f'[JSONPatch{{op: "add", path: "/spec/schedulingGates", value: {gate}}}]'
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"namespaceSelector": here, "resourceRules": [rule]},
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": added}}],
    }
    return {"metadata": {"name": namespace}, "spec": spec}


def test_pods_behind_a_gate_claim_nothing_until_it_opens(team, made):
    pool = team.pool("l4", nodes=1)
    made(f"{POLICIES}ies", a_gate_on_every_pod(team.namespace))
    made(
        f"{POLICIES}ybindings", {"metadata": {"name": team.namespace}, "spec": {"policyName": team.namespace}}
    )
    probe = {"metadata": {"name": "probe"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    until(
        lambda: team.client.create(f"{team.path('Pod')}?dryRun=All", probe)["spec"].get("schedulingGates"),
        what="the policy holds",
    )
    team.apply(a_deployment("queued", hardware={"pools": [pool]}))
    queued = team.sees("GemmaDeployment", "queued", says("Ready", "False", "SchedulingGated"))
    assert condition(queued, "Planned")["status"] == "True"
    team.apply(a_deployment("other", hardware={"pools": [pool]}))
    team.sees("GemmaDeployment", "other", says("Planned", "True"))
    (pod,) = until(lambda: team.pods("queued"), what="the gated pod")
    team.client.merge(team.path("Pod", pod["metadata"]["name"]), {"spec": {"schedulingGates": []}})
    team.ready("queued")


class Broken:
    """A node whose GPUs died, and its kubelet: it takes every pod and refuses it. kwok knows nothing of it."""

    def __init__(self, team, like):
        self._team, self.refused = team, 0
        self.node = f"{like['metadata']['name']}-broken"
        labels = {**like["metadata"]["labels"], "kubernetes.io/hostname": self.node}
        team.client.create("/api/v1/nodes", {"metadata": {"name": self.node, "labels": labels}})
        kept = {key: like["status"][key] for key in ("allocatable", "capacity")}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
        status = {**kept, "conditions": [{**ready, "lastTransitionTime": _now()}]}
        team.client.merge(f"/api/v1/nodes/{self.node}/status", {"status": status})

    def play(self):
        for pod in self._team.pods("chat"):
            if pod["spec"].get("nodeName") == self.node and pod["status"]["phase"] == "Pending":
                status = {
                    "phase": "Failed",
                    "reason": "UnexpectedAdmissionError",
                    "message": "no healthy devices",
                }
                self._team.client.merge(
                    f"{self._team.path('Pod', pod['metadata']['name'])}/status", {"status": status}
                )
                self.refused += 1


def _now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_node_that_refuses_two_pods_has_no_room_and_the_next_goes_elsewhere(team, operator):  # FR-14
    pool = team.pool("l4", nodes=1)
    (well,) = [
        node
        for node in team.client.items("/api/v1/nodes")
        if node["metadata"]["labels"].get("cloud.google.com/gke-nodepool") == pool
    ]
    second = well["metadata"]["name"]
    # the scheduler has no other choice until two pods were refused
    team.client.merge(f"/api/v1/nodes/{second}", {"spec": {"unschedulable": True}})
    broken = Broken(team, well)
    team.apply(a_deployment(hardware={"pools": [pool]}))

    def refused_twice():
        broken.play()
        return broken.refused >= 2

    until(refused_twice, what="two pods are refused")
    team.client.merge(f"/api/v1/nodes/{second}", {"spec": {"unschedulable": None}})

    def served():
        broken.play()
        obj = team.find("GemmaDeployment", "chat")
        return obj if says("Ready", "True")(obj) else None

    until(served, what="it is served elsewhere")
    serving = [pod["spec"]["nodeName"] for pod in team.pods("chat") if pod["status"]["phase"] == "Running"]
    assert serving == [second]
    assert broken.refused <= 20
    until(
        lambda: (
            scraping.value(
                operator, "gemma_pool_accelerators", pool=pool, state="quarantined", source="gke-nodepool"
            )
            == 1
        ),
        what="the metric says so",
    )
    until(
        lambda: len([pod for pod in team.pods("chat") if pod["status"]["phase"] == "Failed"]) <= 3,
        what="refused pods are cleared",
    )
    team.client.delete(f"/api/v1/nodes/{broken.node}")
