"""When a plan is left though its inputs are the same; every fact outlives the operator, the clock is the caller's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import setbacks
from gemma_operator.backends.kubernetes.failures import Trouble
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes
from gemma_operator.planner.correction import Refusal
from plans import a_plan
from snapshots import a_replica, a_running_snapshot

PLANNED = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)  # a_plan's
WAITS = {"placement": {"capacityTimeoutSeconds": 60}}


def at(seconds):
    return (PLANNED + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pending(name="chat-0", *, made=1, **changes):
    told = {
        "unschedulable_message": "0/9 nodes are available",
        "phase": "Pending",
        "node": "",
        "ready": False,
    }
    return a_replica(name, **{"started": False, "times": PodTimes(made=at(made)), **told, **changes})


def bound(name="chat-1", *, made=1, **changes):
    return a_replica(name, times=PodTimes(made=at(made), scheduled=at(made)), **changes)


def waits(*replicas, now=30, spec=WAITS, **changes):
    snapshot = replace(a_running_snapshot(spec=spec, replicas=replicas, facts={}, served=()), **changes)
    return setbacks.waits_seconds(snapshot, now=PLANNED + timedelta(seconds=now))


def test_a_wait_is_measured_from_the_pod_that_waits_the_longest():
    assert waits(pending(made=1), pending("chat-1", made=20), now=30) == 31
    assert waits(pending(made=1), now=61) == 0
    assert waits(pending(made=1), now=100) == -39


def test_a_pod_that_waited_for_the_plan_before_begins_with_this_plan():
    assert waits(pending(made=-500), now=0) == 60


def test_a_pod_made_anew_weeks_after_the_plan_begins_by_itself():
    weeks = 14 * 86400
    assert waits(pending(made=weeks), now=weeks + 10) == 50


@pytest.mark.parametrize(
    "replicas",
    [
        (),
        (pending(unschedulable_message=""),),  # the scheduler has not looked yet
        (pending(gated=True),),  # a queue's wait is its own
        (pending(terminating=True),),
        (pending(phase="Failed"),),
        (pending(), bound()),  # one that runs is worth more than one that is missing
    ],
)
def test_these_wait_for_no_capacity(replicas):
    assert waits(*replicas, now=1000) is None


def test_pods_of_the_plan_before_hold_nobody_up():
    assert waits(pending(), bound(made=-500), now=30) == 31


def test_without_a_timeout_nothing_is_over():
    assert waits(pending(), now=10**6, spec={}) is None


@pytest.mark.parametrize("changes", [{"inputs_hash": "changed"}, {"plan": None}])
def test_another_question_is_no_wait_of_this_plan(changes):
    assert waits(pending(), now=1000, **changes) is None


def test_who_is_suspended_waits_for_nothing():
    assert waits(pending(), now=1000, spec={**WAITS, "suspend": True}) is None


KV = (
    "ValueError: To serve at least one request with the model's max seq len (32768), (6.11 GiB KV cache is needed, "
    "which is larger than the available KV cache memory (5.17 GiB). Based on the available memory, the estimated "
    "maximum model length is 27712. Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU "
    "backend) or decreasing `max_model_len` when initializing the engine."
)
#: vLLM 0.20 to 0.21, as users published it.
KV_OLDER = KV.replace("model's", "models's")
NOTHING_LEFT = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 22.03 GiB "
    "of which 1.83 GiB is free. Including non-PyTorch memory, this process has 20.19 GiB memory in use."
)
KV_FIGURES = Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=6257 - 5294, kv_cache_mib=5294)


@pytest.mark.parametrize(
    ("words", "figures"),
    [
        (KV, KV_FIGURES),
        (KV_OLDER, KV_FIGURES),
        (f"Traceback (most recent call last):\n  File …\n{KV}", KV_FIGURES),
        (NOTHING_LEFT, Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=0, kv_cache_mib=0)),
        (
            f"INFO Available KV cache memory: -0.3 GiB\n{NOTHING_LEFT}",
            Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=0, kv_cache_mib=-307),
        ),
        (CUDA, Refusal(Reason.OUT_OF_MEMORY, short_mib=686)),
        (
            CUDA.replace("2.50 GiB", "146.00 MiB").replace("1.83 GiB is", "0 bytes is"),
            Refusal(Reason.OUT_OF_MEMORY, short_mib=146),
        ),
        ("CUDA out of memory occurred when warming up sampler with 256 dummy requests.", None),
        ("torch.OutOfMemoryError: CUDA out of memory.", None),
        ("Killed", None),
        ("", None),
    ],
)
def test_an_engines_words_are_read_for_their_figures(words, figures):
    assert setbacks.read(words) == figures


def refused(*, words=KV, deployment=None, replicas=None, **changes):
    """A Deployment whose pods end with these words; `deployment` is its status."""
    snapshot = replace(a_running_snapshot(), **changes)
    children = tuple(
        replace(child, intent="now", generation=3, status=deployment or {})
        if child.kind == "Deployment"
        else child
        for child in snapshot.children
    )
    ended = a_replica(intent="now", ready=False, started=False, terminated_message=words)
    return replace(snapshot, children=children, replicas=(ended,) if replicas is None else replicas)


def once_available(generation=3):
    return {
        "observedGeneration": generation,
        "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}],
    }


def test_a_refusal_of_the_plan_that_stands_is_found_in_its_pods():
    assert setbacks.refusal(refused()) == KV_FIGURES


def test_a_plan_that_was_corrected_is_not_corrected_again():
    assert setbacks.refusal(refused(plan=a_plan(correction_mib=1))) is None


def test_the_last_words_of_an_older_templates_pod_are_about_another_engine():
    older = a_replica(intent="older", ready=False, started=False, terminated_message=KV)
    assert setbacks.refusal(refused(replicas=(older,))) is None


def test_an_engine_that_was_available_once_does_start():
    assert setbacks.refusal(refused(deployment=once_available())) is None


def test_what_was_said_of_the_template_before_is_no_proof_of_this_one():
    assert setbacks.refusal(refused(deployment=once_available(generation=2))) == KV_FIGURES


def test_where_one_replica_started_the_settings_are_not_at_fault():
    well = a_replica("chat-1", intent="now")
    ended = a_replica(intent="now", ready=False, started=False, terminated_message=KV)
    assert setbacks.refusal(refused(replicas=(ended, well))) is None


@pytest.mark.parametrize("changes", [{"inputs_hash": "changed"}, {"words": "Killed"}])
def test_these_are_no_refusals_of_the_plan(changes):
    assert setbacks.refusal(refused(**changes)) is None


def test_a_second_refusal_is_told_with_both_figures():
    found = Trouble(Reason.KV_CACHE_TOO_SMALL, f"the engine refused to start: {KV[:200]}", final=True)
    plan = a_plan(correction_mib=700)
    told = setbacks.told(found, refused(plan=plan), plan)
    assert told.message.startswith(
        "planned again with 700 MiB a GPU more, and refused again: the engine refused"
    )
    assert (told.reason, told.final) == (found.reason, True)
    assert setbacks.told(found, refused(), a_plan()) == found
    assert setbacks.told(found, refused(deployment=once_available()), plan) == found


def test_a_wait_that_is_over_with_nothing_else_to_take_is_told():
    found = Trouble(Reason.UNSCHEDULABLE, "pod chat-0 waits for a node", final=False)
    snapshot = replace(refused(), wait_over=True)
    assert "capacityTimeoutSeconds is over, and no other" in setbacks.told(found, snapshot, a_plan()).message
    assert setbacks.told(found, refused(), a_plan()) == found
