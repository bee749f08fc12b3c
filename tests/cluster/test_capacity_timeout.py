"""A pool that brings no node in time is left for the next candidate, and nothing of it is left behind."""

from __future__ import annotations

import pytest

from cluster import scraping
from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

#: Long enough that a slow machine sees what was before it is over.
WAIT_SECONDS = 6


def a_pool_that_may_grow(team, *, name="never", accelerator="nvidia-h100-80gb"):
    """An AcceleratorPool whose nodes nobody brings."""
    pool = f"{team.namespace}-{name}"
    team.apply(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "AcceleratorPool",
            "metadata": {"name": pool},
            "spec": {
                "accelerator": accelerator,
                "acceleratorsPerNode": 1,
                "nodeSelector": {"cloud.google.com/gke-nodepool": pool},
                "maxNodes": 2,
                "cpuPerNode": 30,
                "memoryPerNode": "200Gi",
                "ephemeralStoragePerNode": "400Gi",
            },
        }
    )
    return pool


def wants(*pools, seconds, **spec):
    """12B where there is room for it, else E4B: in BF16 the first does not fit on an L4."""
    return a_deployment(
        model={"variants": ["12B", "E4B"], "precisions": ["bf16"]},
        hardware={"pools": list(pools)},
        placement={"capacityTimeoutSeconds": seconds},
        **spec,
    )


def plan_of(obj):
    return obj.get("status", {}).get("plan") or {}


def on(pool):
    return lambda obj: plan_of(obj).get("pool", {}).get("name") == pool


def test_the_next_candidate_is_taken_and_nothing_stays_of_the_first(team, operator):
    grows = a_pool_that_may_grow(team)
    has_room = team.pool("l4", nodes=1)
    team.apply(wants(grows, has_room, seconds=WAIT_SECONDS))
    first = team.sees("GemmaDeployment", "chat", on(grows))
    assert plan_of(first)["variant"] == "12B"
    ready = team.ready("chat")
    assert (plan_of(ready)["variant"], plan_of(ready)["pool"]["name"]) == ("E4B", has_room)
    told = f"accelerator-pool/{grows} brought no node within {WAIT_SECONDS} s and was left"
    assert told in condition(ready, "Planned")["message"]
    assert told in plan_of(ready)["reason"]
    codes = {(other["pool"], other["code"]) for other in ready["status"]["alternatives"]}
    assert (f"accelerator-pool/{grows}", "CapacityTimeout") in codes
    changes = [event for event in team.events("chat") if event["reason"] == "CapacityTimeout"]
    assert [told in event["note"] for event in changes] == [True]
    until(lambda: len(team.pods("chat")) == 1, what="the pod that waited is gone")
    assert team.pods("chat")[0]["spec"]["nodeName"].startswith(has_room)
    until(
        lambda: (
            scraping.value(
                operator, "gemma_pool_accelerators", pool=grows, state="claimed", source="accelerator-pool"
            )
            == 0
        ),
        what="nothing is claimed there",
    )
    since = team.told()
    operator.restart()
    throughout(lambda: not team.writes(since=since), what="a restart tries nothing again", seconds=2)
    assert plan_of(team.get("GemmaDeployment", "chat")) == plan_of(ready)


def test_a_wait_that_ends_while_the_operator_is_down_is_over_when_it_comes_back(team, operator):
    grows, has_room = a_pool_that_may_grow(team), team.pool("l4", nodes=1)
    team.apply(wants(grows, has_room, seconds=WAIT_SECONDS))
    team.sees("GemmaDeployment", "chat", says("Ready", "False", "Unschedulable"))
    operator.kill()
    throughout(lambda: len(team.pods("chat")) == 1, what="nobody moves it", seconds=WAIT_SECONDS)
    operator.ensure_running()
    team.sees("GemmaDeployment", "chat", on(has_room))
    team.ready("chat")


def test_where_nothing_else_has_room_the_pods_wait_on_and_room_that_comes_is_taken(team):
    grows = a_pool_that_may_grow(team)
    second = f"{team.namespace}-l4"
    team.apply(wants(grows, second, seconds=2))
    waits = team.sees(
        "GemmaDeployment",
        "chat",
        lambda obj: "capacityTimeoutSeconds is over" in condition(obj, "Ready").get("message", ""),
    )
    assert condition(waits, "Reconciling")["reason"] == "Unschedulable"
    assert condition(waits, "Stalled") == {}
    assert plan_of(waits)["pool"]["name"] == grows
    planned, since = plan_of(waits)["plannedAt"], team.told()
    throughout(lambda: not team.writes(since=since), what="it waits without a word", seconds=3)
    assert plan_of(team.get("GemmaDeployment", "chat"))["plannedAt"] == planned
    assert team.pool("l4", nodes=1) == second
    assert plan_of(team.ready("chat"))["pool"]["name"] == second


def test_without_a_timeout_it_waits_for_ever(team):
    grows, has_room = a_pool_that_may_grow(team), team.pool("l4", nodes=1)
    team.apply(wants(grows, has_room, seconds=0))
    team.sees("GemmaDeployment", "chat", says("Ready", "False", "Unschedulable"))
    throughout(lambda: on(grows)(team.get("GemmaDeployment", "chat")), what="it stays", seconds=4)
