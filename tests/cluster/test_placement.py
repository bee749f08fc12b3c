"""Many at once: what is claimed is claimed once, and nobody gets a pod that no node can hold."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from cluster.teams import a_deployment, condition, says
from cluster.waiting import until

pytestmark = pytest.mark.cluster

_NAMES = [f"e4b-{number:02}" for number in range(20)]


def _burst(team):
    """Twenty deployments in one kubectl apply, on sixteen L4 and one node of eight H100 that nobody else uses."""
    pools = [team.pool("l4", nodes=16), team.pool("h100", nodes=1)]
    items = [a_deployment(name, hardware={"pools": pools}) for name in _NAMES]
    burst = {"apiVersion": "v1", "kind": "List", "items": items}
    team.kubectl("apply", "--server-side", "-f", "-", text=json.dumps(burst))
    return pools


def _all_are_ready(team):
    found = team.all("GemmaDeployment")
    return len(found) == len(_NAMES) and all(says("Ready", "True")(each) for each in found)


def _check_spread(team, pools):
    l4, h100 = pools
    found = team.all("GemmaDeployment")
    assert Counter(each["status"]["plan"]["pool"]["name"] for each in found) == {l4: 16, h100: 4}
    pods = team.pods()
    assert len(pods) == len(_NAMES)
    assert Counter(pod["spec"]["nodeName"].rpartition("-")[0] for pod in pods) == {l4: 16, h100: 4}
    for each in found:
        assert condition(each, "Reconciling") == condition(each, "Stalled") == {}


def test_twenty_at_once_take_sixteen_l4_and_four_h100_and_none_is_pending(team, operator):
    pools = _burst(team)
    until(lambda: _all_are_ready(team), what="all twenty are Ready", within_seconds=120)
    _check_spread(team, pools)


def test_an_operator_that_dies_in_the_middle_of_a_burst_is_followed_by_one_that_ends_it(
    team, operator, figure
):
    pools = _burst(team)
    until(lambda: team.all("Deployment"), what="the first was made")
    operator.kill()
    figure(f"the operator was killed after {len(team.all('Deployment'))} of {len(_NAMES)} Deployments")
    operator.ensure_running()
    until(lambda: _all_are_ready(team), what="all twenty are Ready", within_seconds=120)
    _check_spread(team, pools)
    # what was in flight when it was killed was done, and its answer was never sent: the log holds no 201 of it
    created = Counter((write.kind, write.name) for write in team.writes() if write.created)
    assert max(created.values()) == 1, "nothing was made twice"


def test_replicas_that_the_disk_of_a_node_has_no_room_for_are_told_in_the_plan(team, operator):
    """Weights lie on the node's disk where no volume is named: a node never gets more of them than it holds."""
    machine = {"node.kubernetes.io/instance-type": "g2-standard-48"}
    four = {"cpu": "47", "memory": "180Gi", "nvidia.com/gpu": "4", "ephemeral-storage": "40Gi"}
    wanted = a_deployment(
        model={"variants": ["E4B"], "precisions": ["bf16"]},
        hardware={"pools": [team.pool("l4", nodes=1, labels=machine, offers=four)]},
        replicas=4,
    )
    team.apply(wanted)
    said = team.sees("GemmaDeployment", "chat", _two_serve_and_others_find_no_node)
    assert said["status"]["plan"]["reason"].endswith(
        "has room, for 2 of 4 replicas: its nodes are short of ephemeral storage"
    )
    assert "Insufficient ephemeral-storage" in condition(said, "Ready")["message"]
    until(
        lambda: Counter("nodeName" in pod["spec"] for pod in team.pods("chat")) == {True: 2, False: 2},
        what="two of four pods are bound",
    )
    pods = team.pods("chat")
    (brings,), (engine,) = pods[0]["spec"]["initContainers"], pods[0]["spec"]["containers"]
    disk = engine["resources"]["requests"]["ephemeral-storage"]
    assert brings["resources"]["requests"]["ephemeral-storage"] == disk
    volumes = {volume["name"]: volume for volume in pods[0]["spec"]["volumes"]}
    (cache,) = [mount["name"] for mount in engine["volumeMounts"] if mount["mountPath"] == "/cache"]
    assert volumes[cache]["emptyDir"] == {"sizeLimit": disk}
    homes = {variable["name"]: variable.get("value", "") for variable in engine["env"]}
    for home in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR"):
        assert homes[home].startswith("/cache")


def _two_serve_and_others_find_no_node(obj):
    serving = says("Healthy", "True")(obj) and obj["status"]["readyReplicas"] == 2
    return serving and says("Ready", "False", "Unschedulable")(obj)
