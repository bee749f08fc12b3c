"""Where the seconds of a start went, by the moments that Kubernetes wrote into a pod."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import startup_ledger
from gemma_operator.backends.kubernetes.records import cut_replica
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes, WeightsTimes, phases

PODS = Path(__file__).parents[3] / "data" / "pods"


def recorded(name, **changes):
    pod = json.loads((PODS / f"{name}.json").read_text())
    return pod | {"status": pod["status"] | changes}


def times_of(pod):
    return cut_replica(pod).times


STARTED = times_of(recorded("started"))


def test_a_pods_moments_are_found_where_kubernetes_writes_them():
    assert (
        PodTimes(
            made="2026-11-25T09:00:00Z",
            scheduled="2026-11-25T09:02:05Z",
            fetch_started="2026-11-25T09:02:20Z",
            fetch_finished="2026-11-25T09:03:35Z",
            engine_started="2026-11-25T09:05:05Z",
            ready="2026-11-25T09:07:45Z",
        )
        == STARTED
    )


def test_every_second_of_a_start_is_in_one_phase():
    found = phases(STARTED)
    assert found == (("capacity", 125), ("image", 105), ("download", 75), ("load", 160))
    assert sum(seconds for _, seconds in found) == startup_ledger.took_seconds(STARTED) == 465


def test_a_download_by_a_job_is_told_though_no_pod_waited_for_it():
    job = WeightsTimes("2026-11-25T08:40:00Z", "2026-11-25T08:50:00Z")
    alone = replace(STARTED, fetch_started="", fetch_finished="")
    assert dict(phases(alone, weights=job))["download"] == 600
    assert dict(phases(STARTED, weights=job))["download"] == 675
    assert "download" not in dict(phases(alone))
    assert "download" not in dict(phases(alone, weights=WeightsTimes("2026-11-25T08:40:00Z")))


def test_the_first_token_is_the_operators_own_question():
    assert phases(STARTED, first_token_seconds=1.6)[-1] == ("firstToken", 2)


def test_an_engine_that_was_started_again_does_not_blame_the_image():
    found = dict(phases(STARTED, restarts=2))
    assert found["retries"] == 105
    assert "image" not in found


def test_a_sidecar_that_runs_beside_the_engine_fetches_nothing():
    pod = recorded("started")
    pod["spec"]["initContainers"].append({"name": "mesh", "restartPolicy": "Always"})
    running = {"name": "mesh", "state": {"running": {"startedAt": "2026-11-25T09:02:10Z"}}}
    pod["status"]["initContainerStatuses"].append(running)
    assert times_of(pod) == STARTED


def test_clocks_that_differ_make_no_negative_phase():
    early = replace(STARTED, engine_started="2026-11-25T09:02:00Z")
    assert dict(phases(early))["image"] == 0


def test_what_nobody_wrote_down_is_left_out():
    assert phases(PodTimes(made="2026-11-25T09:00:00Z")) == ()


ENGINE_WAITS = {"name": "engine", "state": {"waiting": {"reason": "PodInitializing"}}, "lastState": {}}
FETCHES = {"name": "weights", "state": {"running": {"startedAt": "2026-11-25T09:02:20Z"}}}
FETCH_WAITS = {"name": "weights", "state": {"waiting": {"reason": "PodInitializing"}}}
BACKS_OFF = {
    "name": "engine",
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1, "startedAt": "2026-11-25T09:05:05Z"}},
}


@pytest.mark.parametrize(
    ("changes", "phase"),
    [
        ({"conditions": [], "containerStatuses": [], "initContainerStatuses": []}, "capacity"),
        ({"containerStatuses": [ENGINE_WAITS], "initContainerStatuses": [FETCH_WAITS]}, "image"),
        ({"containerStatuses": [ENGINE_WAITS], "initContainerStatuses": [FETCHES]}, "download"),
        ({"containerStatuses": [ENGINE_WAITS]}, "image"),
        ({"containerStatuses": [BACKS_OFF]}, "load"),
        ({}, "load"),
    ],
)
def test_a_start_that_lasts_says_what_it_waits_for(changes, phase):
    assert startup_ledger.phase_of(times_of(recorded("loading", **copy.deepcopy(changes)))) == phase


def test_of_several_replicas_the_one_furthest_behind_is_told():
    loading, unbound = times_of(recorded("loading")), PodTimes(made="2026-11-25T09:00:00Z")
    assert startup_ledger.furthest_behind([loading, unbound]) == "capacity"
    assert startup_ledger.furthest_behind([loading]) == "load"
    assert startup_ledger.furthest_behind([]) == ""


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        ("", Reason.PROVISIONING),
        ("capacity", Reason.PROVISIONING),
        ("image", Reason.PULLING_IMAGE),
        ("download", Reason.DOWNLOADING),
        ("load", Reason.STARTING_UP),
    ],
)
def test_each_phase_has_its_reason(phase, reason):
    assert startup_ledger.said_of(phase)[0] is reason
