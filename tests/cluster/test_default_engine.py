"""The operator's default version of the engine: what runs keeps its own, and who asks anew gets the new one."""

from __future__ import annotations

import pytest

from cluster.operating import Operator
from cluster.teams import a_deployment
from cluster.waiting import throughout, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def with_version_0_31(operator, installed, tmp_path):
    """Ends the operator and starts another one, whose default version is 0.31."""
    other = Operator(
        tmp_path, kubeconfig=installed.operator_kubeconfig, settings={"defaultEngineVersion": "0.31"}
    )

    def change():
        operator.stop()
        other.ensure_running()

    yield change
    other.close()


def version(team):
    return team.get("GemmaDeployment", "chat")["status"]["plan"]["engine"]["version"]


def test_another_default_version_writes_nothing_and_counts_from_the_next_edit(team, with_version_0_31):
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=2)]}))
    team.ready()
    (before,) = team.pods("chat")
    since = team.told()
    with_version_0_31()
    throughout(lambda: team.writes(since=since) == [], what="no write of another default", seconds=5)
    assert version(team) == "0.32"
    assert [pod["metadata"]["uid"] for pod in team.pods("chat")] == [before["metadata"]["uid"]]
    team.change("chat", {"serving": {"contextLength": 8192}})
    until(lambda: version(team) == "0.31", what="planned anew with the default of now")
    team.ready()


def test_who_asks_for_a_plan_gets_the_default_of_now(team, with_version_0_31):
    team.apply(a_deployment(hardware={"pools": [team.pool("l4", nodes=2)]}))
    team.ready()
    with_version_0_31()
    asked = {"metadata": {"annotations": {"gemma-operator.io/replan-requested-at": "now"}}}
    path = f"/apis/gemma-operator.io/v1alpha1/namespaces/{team.namespace}/gemmadeployments/chat"
    team.client.merge(path, asked)
    until(lambda: version(team) == "0.31", what="planned anew with the default of now")
    team.ready()
