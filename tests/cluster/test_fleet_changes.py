"""What becomes of plans and pods when machines go, stop answering, come, or are only promised."""

from __future__ import annotations

import pytest

from cluster import scraping
from cluster.teams import a_deployment, condition, says
from cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


def test_a_pod_of_a_lost_node_is_replaced_in_the_same_pool(team):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    before = team.ready("chat")
    (pod,) = team.pods("chat")
    team.lose(pod["spec"]["nodeName"])
    (other,) = {f"{pool}-0", f"{pool}-1"} - {pod["spec"]["nodeName"]}
    until(lambda: [p["spec"].get("nodeName") for p in team.pods("chat")] == [other], what="a pod elsewhere")
    after = team.ready("chat")
    assert after["status"]["plan"] == before["status"]["plan"]


def test_a_plan_moves_when_its_pool_is_gone(team, operator):
    first, second = team.pool("l4", nodes=1), team.pool("l4", nodes=1, suffix="-b")
    team.apply(a_deployment("chat", hardware={"pools": [first, second]}))
    before = team.ready("chat")["status"]["plan"]["pool"]["name"]
    (pod,) = team.pods("chat")
    team.lose(pod["spec"]["nodeName"])
    (other,) = {first, second} - {before}
    team.sees("GemmaDeployment", "chat", lambda obj: obj["status"]["plan"]["pool"]["name"] == other)
    team.ready("chat")
    (new,) = team.pods("chat")
    assert new["spec"]["nodeName"] == f"{other}-0"
    series = {"name": "chat", "namespace": team.namespace}  # FR-10: of an old plan none is left
    told = until(
        lambda: scraping.value(operator, "gemma_deployment_info", pool=f"gke-nodepool/{other}", **series),
        what="the series of the new plan",
    )
    assert told == scraping.value(operator, "gemma_deployment_info", **series) == 1.0


def test_a_node_that_does_not_answer_any_more_is_named(team):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    team.ready("chat")
    team.stop_kubelet(f"{pool}-0")
    team.tell("chat", fault="refused")
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "NodeLost"))
    assert f"{pool}-0" in condition(said, "Ready")["message"]
    assert condition(said, "Reconciling")["reason"] == "NodeLost"
    team.start_kubelet(f"{pool}-0")
    team.tell("chat", fault=None)
    team.ready("chat")


def test_who_waits_for_capacity_is_placed_when_the_fleet_grows(team):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("first", hardware={"pools": [pool]}))
    team.ready("first")
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    waiting = team.sees("GemmaDeployment", "late", says("Planned", "False", "WaitingForCapacity"))
    assert condition(waiting, "Reconciling")["reason"] == "WaitingForCapacity"
    assert condition(waiting, "Stalled") == {}
    assert team.find("Deployment", "late") is None
    team.pool("l4", nodes=1, first=1)
    team.ready("late")


def test_what_fits_nowhere_is_stalled_until_a_shape_comes_that_holds_it(team):
    small = team.pool("l4", nodes=1)
    wanted = {"model": {"variants": ["31B"], "precisions": ["bf16"]}}
    team.apply(a_deployment("big", **wanted, hardware={"pools": [small, f"{team.namespace}-h100"]}))
    stalled = team.sees("GemmaDeployment", "big", says("Stalled", "True", "NothingFits"))
    assert "GiB" in condition(stalled, "Stalled")["message"]
    assert stalled["status"]["alternatives"]
    team.pool("h100", nodes=1)
    assert team.ready("big")["status"]["plan"]["accelerator"] == "nvidia-h100-80gb"


def test_a_declared_pool_is_planned_on_before_its_first_node_comes(team):
    pool = f"{team.namespace}-declared"
    labels = {"cloud.google.com/gke-nodepool": f"{team.namespace}-l4"}
    team.apply(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "AcceleratorPool",
            "metadata": {"name": pool},
            "spec": {
                "accelerator": "nvidia-l4",
                "acceleratorsPerNode": 1,
                "nodeSelector": labels,
                "maxNodes": 2,
                "cpuPerNode": 15,
                "memoryPerNode": "58Gi",
                "ephemeralStoragePerNode": "100Gi",
            },
        }
    )
    team.apply(a_deployment("chat", hardware={"pools": [f"accelerator-pool/{pool}"]}))
    planned = team.sees("GemmaDeployment", "chat", says("Planned", "True"))
    assert planned["status"]["plan"]["pool"]["source"] == "accelerator-pool"
    waiting = team.sees("GemmaDeployment", "chat", says("Provisioned", "False", "Unschedulable"))
    assert condition(waiting, "Ready")["reason"] == "Unschedulable"
    assert condition(waiting, "Stalled") == {}
    team.pool("l4", nodes=1)
    ready = team.ready("chat")
    assert ready["status"]["plan"] == planned["status"]["plan"], "a new node moves no plan"
    until(lambda: team.pods("chat")[0]["spec"].get("nodeName"), what="the pod's node")
