"""What becomes of a GemmaDeployment, from its first apply to its end, on a real API server."""

from __future__ import annotations

import json
import time

import pytest

from cluster.teams import ALL_CHILDREN, CHILDREN, Team, a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]


@pytest.fixture
def chat(team: Team):
    """A small deployment, Ready on a node of its own with room for more."""
    pool = team.pool("l4", nodes=3)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    return team.ready("chat")


def test_a_31b_becomes_ready_on_an_h100(team):
    pool = team.pool("h100", nodes=1)
    began = time.monotonic()
    made = team.apply(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat"},
            "spec": {"model": {"variants": ["31B"]}, "hardware": {"pools": [pool]}},
        }
    )
    chat = team.ready("chat")
    print(f"apply → Ready: {time.monotonic() - began:.1f} s (of it 1 s the simulated engine's start)")
    plan = chat["status"]["plan"]
    assert (plan["variant"], plan["accelerator"]) == ("31B", "nvidia-h100-80gb")
    assert (plan["pool"]["source"], plan["pool"]["name"]) == ("gke-nodepool", pool)
    (pod,) = team.pods("chat")
    node = team.node(pod["spec"]["nodeName"])
    assert node["metadata"]["labels"]["cloud.google.com/gke-nodepool"] == pool
    assert chat["status"]["endpoint"] == {
        "url": f"http://chat.{team.namespace}.svc:8000/v1",
        "model": "chat",
        "api": "OpenAI",
    }
    assert (chat["status"]["replicas"], chat["status"]["readyReplicas"]) == (1, 1)
    for kind in CHILDREN:
        (owner,) = team.get(kind, "chat")["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (made["metadata"]["uid"], True)
    assert team.find("PodDisruptionBudget", "chat") is None
