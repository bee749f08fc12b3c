"""A start is told phase by phase while it lasts, and its seconds once, when its generation is Ready."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes import speech
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes, WeightsTimes
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.planner.plan import to_status
from plans import a_plan
from snapshots import ENGINE, a_running_snapshot, proved

SAID = [{"phase": "load", "seconds": 7}]


def status_of(snapshot):
    return list(speech.status(view(snapshot, a_plan(), engine=ENGINE)).startup)


def ready_of(snapshot):
    said = {str(each.type): each for each in speech.everything(view(snapshot, a_plan(), engine=ENGINE))}
    return said["Ready"]


def served(**status):
    return a_running_snapshot(status={"observedGeneration": 1, "plan": to_status(a_plan()), **status})


def test_the_first_ready_writes_the_seconds_of_its_phases():
    assert status_of(served()) == [
        {"phase": "capacity", "seconds": 10},
        {"phase": "image", "seconds": 50},
        {"phase": "load", "seconds": 150},
    ]


def test_the_operators_first_question_and_the_weights_job_are_phases_of_it():
    snapshot = served()
    (pod,) = snapshot.replicas
    snapshot = replace(
        snapshot,
        facts={pod.uid: proved(pod, probe_seconds=2.2)},
        weights_times=WeightsTimes("2026-11-25T08:00:00Z", "2026-11-25T08:10:00Z"),
    )
    found = {each["phase"]: each["seconds"] for each in status_of(snapshot)}
    assert (found["download"], found["firstToken"]) == (600, 2)


def test_the_slowest_replica_of_the_first_proof_is_told():
    snapshot = a_running_snapshot(spec={"replicas": 2}, status={"plan": to_status(a_plan())})
    fast, slow = snapshot.replicas
    slow = replace(slow, times=replace(slow.times, ready="2026-11-25T08:59:00Z"))
    assert {"phase": "load", "seconds": 540} in status_of(replace(snapshot, replicas=(fast, slow)))


def test_what_was_written_stays_for_its_generation():
    assert status_of(served(startup=SAID)) == SAID
    assert status_of(replace(served(startup=SAID), facts={}, served=())) == SAID


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 0},
        {"plan": to_status(a_plan(planned_at="2026-11-24T09:00:00Z"))},
    ],
)
def test_another_generation_or_plan_is_another_start(status):
    again = served(startup=SAID, **status)
    assert status_of(again) != SAID
    assert status_of(replace(again, facts={}, served=())) == []


BOUND = PodTimes(made="2026-11-25T08:49:00Z", scheduled="2026-11-25T08:49:10Z")


@pytest.mark.parametrize(
    ("times", "reason", "words"),
    [
        (PodTimes(made="2026-11-25T08:49:00Z"), "Provisioning", "waits for its node"),
        (BOUND, "PullingImage", "waits for its image"),
        (replace(BOUND, fetch_started="2026-11-25T08:49:20Z"), "Downloading", "waits for its weights"),
        (replace(BOUND, engine_started="2026-11-25T08:50:00Z"), "StartingUp", "loads, compiles"),
    ],
)
def test_a_start_that_lasts_says_its_phase_and_its_generation(times, reason, words):
    snapshot = a_running_snapshot(generation=4, facts={}, served=())
    (pod,) = snapshot.replicas
    starting = replace(pod, ready=False, started=False, times=times)
    said = ready_of(replace(snapshot, replicas=(starting,)))
    assert (said.status, said.reason.value) == ("False", reason)
    assert words in said.message
    assert "of generation 4 is starting" in said.message


def test_a_second_replica_that_loads_is_told_although_the_first_one_serves():
    snapshot = a_running_snapshot(spec={"replicas": 2})
    serving, loading = snapshot.replicas
    loading = replace(loading, ready=False, started=False, times=replace(loading.times, ready=""))
    said = ready_of(replace(snapshot, replicas=(serving, loading), facts={serving.uid: proved(serving)}))
    assert (said.status, said.reason.value) == ("False", "StartingUp")
    assert "loads, compiles" in said.message
