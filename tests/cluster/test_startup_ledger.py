"""A start says its phase while it lasts, and its seconds by phase once its generation is Ready."""

from __future__ import annotations

import pytest

from cluster import scraping
from cluster.teams import a_deployment, condition, says
from cluster.waiting import until
from gemma_operator.sandbox.simulator.instructions import PREFIX

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

BOOTS_UNTIL_TOLD = {f"{PREFIX}startup-seconds": "3600"}


def seconds_of(obj):
    return {each["phase"]: each["seconds"] for each in obj["status"].get("startup", ())}


def test_a_start_is_told_by_its_phase_and_then_by_its_seconds(team, operator):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment(hardware={"pools": [pool]}, pod={"annotations": BOOTS_UNTIL_TOLD}))
    loading = team.sees("GemmaDeployment", "chat", says("Ready", "False", "StartingUp"))
    assert "of generation 1 is starting" in condition(loading, "Ready")["message"]
    assert seconds_of(loading) == {}
    assert "StartingUp" in team.kubectl("get", "gd", "chat").splitlines()[1].split()
    assert "the engine loads, compiles and generates its first token" in team.kubectl(
        "describe", "gd", "chat"
    )
    team.tell("chat", startup_seconds="0")
    ready = team.ready("chat")
    found = seconds_of(ready)
    assert list(found) == ["capacity", "image", "download", "load", "firstToken"]
    assert all(isinstance(seconds, int) for seconds in found.values())
    until(
        lambda: {phase: _metric(operator, team, phase) for phase in found} == found,
        what=f"the metric says {found}",
    )
    team.change("chat", {"replicas": 2})
    until(lambda: len(team.pods("chat")) == 2, what="the second pod")
    assert seconds_of(team.sees("GemmaDeployment", "chat", says("Ready", "False", "StartingUp"))) == {}
    team.tell("chat", startup_seconds="0")
    again = team.sees("GemmaDeployment", "chat", says("Ready", "True", "Serving"))
    assert list(seconds_of(again)) == list(found)


def _metric(operator, team, phase):
    labels = {"namespace": team.namespace, "name": "chat", "phase": phase}
    return scraping.value(operator, "gemma_deployment_startup_seconds", **labels)
