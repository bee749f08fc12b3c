"""Another version of the operator takes over: what runs is left as it is, and what is said of it stays true."""

from __future__ import annotations

import pytest

from cluster.teams import a_deployment, condition, says
from cluster.waiting import until
from gemma_operator.api import names
from gemma_operator.backends.kubernetes.render import RENDERER_VERSION

pytestmark = pytest.mark.cluster


@pytest.fixture
def upgraded(team, operator):
    """A deployment that was Ready under an older version, whose template had another line in it."""
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=1)]}))
    team.ready("chat")
    operator.stop()
    (first,) = team.pods("chat")
    of_older = {"annotations": {names.INTENT: "of-an-older-version"}}
    team.client.merge(
        team.path("Deployment", "chat"),
        {
            "metadata": {"annotations": {names.RENDERER_VERSION: "0"}},
            "spec": {"template": {"metadata": of_older}},
        },
    )

    def followed():
        pods = team.pods("chat")
        return (
            len(pods) == 1 and pods[0]["metadata"]["uid"] != first["metadata"]["uid"] and _is_ready(pods[0])
        )

    until(followed, what="the replica of the older version serves")
    since = team.audit.position
    operator.ensure_running()
    return since


def _is_ready(pod):
    return any(
        said["type"] == "Ready" and said["status"] == "True" for said in pod["status"].get("conditions", ())
    )


def test_an_upgrade_restarts_no_engine_and_what_was_ready_is_ready(team, upgraded):
    (before,) = team.pods("chat")
    said = team.sees("GemmaDeployment", "chat", says("Planned", "True", "UpdateAvailable"))
    assert (condition(said, "Ready")["status"], condition(said, "Ready")["reason"]) == ("True", "Serving")
    assert not condition(said, "Reconciling")
    (after,) = team.pods("chat")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    written = {str(write) for write in team.writes(since=upgraded)}
    assert written <= {"apply status chat", "create Event"}


def test_a_change_after_it_is_not_ready_until_it_is_taken_up_by_a_refresh(team, upgraded):
    team.sees("GemmaDeployment", "chat", says("Planned", "True", "UpdateAvailable"))
    team.change("chat", {"pod": {"labels": {"cost-centre": "42"}}})
    said = team.sees("GemmaDeployment", "chat", says("Ready", "False", "UpdateAvailable"))
    assert names.REFRESH_REQUESTED_AT in condition(said, "Stalled")["message"]
    assert condition(said, "Healthy")["status"] == "True"
    team.annotate("chat", {names.REFRESH_REQUESTED_AT: "now"})
    team.ready("chat")
    (pod,) = team.pods("chat")
    assert pod["metadata"]["labels"]["cost-centre"] == "42"
    deployment = team.get("Deployment", "chat")
    assert deployment["metadata"]["annotations"][names.RENDERER_VERSION] == RENDERER_VERSION
