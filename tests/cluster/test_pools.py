"""AcceleratorPools on a real API server: their status, and what Prometheus is told of every pool."""

from __future__ import annotations

import pytest

from cluster import scraping
from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]
NODEPOOL = "cloud.google.com/gke-nodepool"


def an_accelerator_pool(name, *, nodes_of, **spec):
    """An AcceleratorPool over nodes of a GKE pool."""
    return {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "AcceleratorPool",
        "metadata": {"name": name},
        "spec": {
            "accelerator": "nvidia-l4",
            "acceleratorsPerNode": 1,
            "nodeSelector": {NODEPOOL: nodes_of},
            **spec,
        },
    }


def has_nodes(count):
    return lambda pool: pool.get("status", {}).get("nodes") == count and says("Ready", "True")(pool)


def accelerators(operator, pool, state, source="accelerator-pool"):
    return scraping.value(operator, "gemma_pool_accelerators", source=source, pool=pool, state=state)


def status_writes(team, name, *, since):
    return [write for write in team.audit.writes(since=since) if write.name == name]


def test_a_pool_is_accepted_counts_its_nodes_and_is_written_only_when_they_change(team, operator):
    name = f"{team.namespace}-a"
    nodes_of = team.pool("l4", nodes=2)
    began = team.audit.position
    team.apply(an_accelerator_pool(name, nodes_of=nodes_of))
    pool = team.sees("AcceleratorPool", name, has_nodes(2))
    assert says("Ready", "True", "Accepted")(pool)
    assert condition(pool, "Overlapping") == condition(pool, "Stalled") == {}
    assert pool["status"]["observedGeneration"] == pool["metadata"]["generation"]
    team.pool("l4", nodes=1, first=2)
    team.sees("AcceleratorPool", name, has_nodes(3))
    # the second node may have become known a moment after the first, never more than once each
    assert 2 <= len(status_writes(team, name, since=began)) <= 4
    at_rest = team.audit.position
    operator.restart()
    # its first look is over when it tells what that look counts
    until(lambda: accelerators(operator, name, "total") == 3, what="the new process knows the pool")
    throughout(lambda: not status_writes(team, name, since=at_rest), what="nothing is written", seconds=2)
    team.client.merge(f"{team.path('AcceleratorPool', name)}/status", {"status": {"nodes": 99}})
    team.sees("AcceleratorPool", name, has_nodes(3))


def test_an_unknown_accelerator_is_told_with_the_nearest_names_until_it_is_mended(team):
    name = f"{team.namespace}-b"
    nodes_of = team.pool("l4", nodes=1)
    team.apply(an_accelerator_pool(name, nodes_of=nodes_of, accelerator="nvidia-h100"))
    wrong = team.sees("AcceleratorPool", name, says("Ready", "False", "UnknownAccelerator"))
    assert "nvidia-h100-80gb" in condition(wrong, "Ready")["message"]
    assert says("Stalled", "True", "UnknownAccelerator")(wrong)
    team.change(name, {"accelerator": "nvidia-l4"}, kind="AcceleratorPool")
    mended = team.sees("AcceleratorPool", name, says("Ready", "True", "Accepted"))
    assert condition(mended, "Stalled") == {}
    assert mended["status"]["observedGeneration"] == 2


def test_the_first_by_name_has_the_nodes_and_the_other_says_so_until_it_goes(team):
    first, second = f"{team.namespace}-c1", f"{team.namespace}-c2"
    nodes_of = team.pool("l4", nodes=2)
    team.apply(an_accelerator_pool(second, nodes_of=nodes_of))
    team.sees("AcceleratorPool", second, has_nodes(2))
    team.apply(an_accelerator_pool(first, nodes_of=nodes_of))
    lost = team.sees("AcceleratorPool", second, says("Overlapping", "True", "Overlapping"))
    assert lost["status"]["nodes"] == 0
    assert first in condition(lost, "Overlapping")["message"]
    has = team.sees("AcceleratorPool", first, has_nodes(2))
    assert condition(has, "Overlapping") == {}
    team.delete("AcceleratorPool", first)
    again = team.sees("AcceleratorPool", second, has_nodes(2))
    assert condition(again, "Overlapping") == {}


def test_accelerators_are_counted_as_they_are_taken_and_given_back(team, operator):
    pool = team.pool("l4", nodes=3)

    def counted(total, free, claimed):
        states = {"total": total, "free": free, "claimed": claimed, "quarantined": 0}
        found = {state: accelerators(operator, pool, state, "gke-nodepool") for state in states}
        return found == states

    until(lambda: counted(3, 3, 0), what="three are free")
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, replicas=2))
    team.ready("chat")
    until(lambda: counted(3, 1, 0), what="two are taken by pods, none is claimed beside them")
    team.delete("GemmaDeployment", "chat")
    until(lambda: counted(3, 3, 0), what="three are free again")


def test_what_waits_for_a_node_is_claimed_and_the_node_brings_it(team, operator):
    name = f"{team.namespace}-d"
    nodes_of = f"{team.namespace}-l4"
    team.apply(an_accelerator_pool(name, nodes_of=nodes_of, maxNodes=2))
    team.sees("AcceleratorPool", name, has_nodes(0))
    team.apply(a_deployment("chat", hardware={"pools": [name]}))
    until(lambda: accelerators(operator, name, "claimed") == 1, what="one is claimed")
    assert accelerators(operator, name, "total") == accelerators(operator, name, "free") == 0
    waiting = team.sees("GemmaDeployment", "chat", says("Planned", "True"))
    assert waiting["status"]["plan"]["pool"]["name"] == name
    assert team.pool("l4", nodes=1) == nodes_of
    team.ready("chat")
    until(lambda: accelerators(operator, name, "claimed") == 0, what="nothing is claimed any more")
    assert accelerators(operator, name, "total") == 1
    assert accelerators(operator, name, "free") == 0
