"""A measurement that belies the plan is said once, in words and as an Event, and fails nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.teams import Team, a_deployment, condition
from cluster.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

TOLD = "sandbox.gemma-operator.io/kv-cache-tokens"


def reasons(team: Team, name: str) -> Counter[str]:
    return Counter(event["reason"] for event in team.events(name))


def test_an_engine_with_less_room_than_planned_is_told_and_serves(team: Team):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, pod={"annotations": {TOLD: "33000"}}))

    def told():
        chat = team.get("GemmaDeployment", "chat")
        return (
            chat if "33008 tokens" in condition(chat, "Planned").get("message", "").replace(",", "") else None
        )

    chat = until(told, what="the measurement stands in Planned")
    measured, plan = chat["status"]["measured"], chat["status"]["plan"]
    assert measured["kvCacheTokens"] == 33008, "whole blocks of 16"
    per_token = plan["memoryMiB"]["kvCache"] / measured["predictedKvCacheTokens"]
    apart = abs(measured["predictedKvCacheTokens"] - 33008) * per_token
    assert apart > plan["memoryMiB"]["band"]
    assert condition(chat, "Planned")["status"] == "True"
    assert condition(team.ready("chat"), "Ready")["status"] == "True"
    until(lambda: reasons(team, "chat")["PredictionOff"] == 1, what="one Event")


def test_an_engine_that_was_told_nothing_belies_nothing(team: Team):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("quiet", hardware={"pools": [pool]}))
    ready = team.ready("quiet")
    assert "were planned" not in condition(ready, "Planned")["message"]
    assert reasons(team, "quiet")["PredictionOff"] == 0


def test_another_choice_is_told_from_old_to_new(team: Team):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    team.ready("chat")
    team.change("chat", {"serving": {"contextLength": 8192}})
    until(lambda: reasons(team, "chat")["Replanned"] == 1, what="one Event of the new plan")
    (event,) = [event for event in team.events("chat") if event["reason"] == "Replanned"]
    assert "32768 \u2192 8192 tokens of context" in event["note"]
