"""What is worth an Event: once when it changes, never at rest."""

from dataclasses import replace

from gemma_operator.controller.policies import decide
from gemma_operator.hardware.records import PoolId, PoolSource
from gemma_operator.planner.plan import to_status
from gemma_operator.planner.spare import Spare
from gemma_operator.planner.values import LeftPool
from plans import a_plan, some_settings
from snapshots import ENGINE, NOW, a_running_snapshot, proved

READY = {"type": "Ready", "status": "True", "reason": "Serving"}


def spoken(snapshot):
    decision = decide(snapshot, now=NOW, engine=ENGINE)
    return [(event.type, event.reason, event.message) for event in decision.events], decision


def a_world(*, tokens=None, **status):
    snapshot = a_running_snapshot(status={"conditions": [READY], **status})
    (pod,) = snapshot.replicas
    return replace(snapshot, facts={pod.uid: proved(pod, measured_kv_tokens=tokens)})


def measured(tokens):
    return {"kvCacheTokens": tokens, "predictedKvCacheTokens": a_plan().kv_tokens}


def test_a_measurement_as_planned_is_no_event():
    events, decision = spoken(a_world(tokens=99_000))
    assert events == []
    assert decision.status.measured == measured(99_000)


def test_one_that_is_off_is_told_once_and_stays_in_planned():
    events, decision = spoken(a_world(tokens=60_000))
    ((kind, reason, message),) = events
    assert (kind, reason) == ("Warning", "PredictionOff")
    assert "60,000 tokens, 100,000 were planned" in message
    again, decision = spoken(a_world(tokens=60_000, measured=measured(60_000)))
    assert again == []
    planned = next(c for c in decision.conditions if c.type == "Planned")
    assert (planned.status, message in planned.message) == ("True", True)


def test_it_is_no_failure():
    _, decision = spoken(a_world(tokens=60_000))
    by_type = {str(condition.type): condition.status for condition in decision.conditions}
    assert by_type == {"Ready": "True", "Planned": "True", "Provisioned": "True", "Healthy": "True"}


def test_one_that_was_off_and_is_as_planned_again_says_nothing_more():
    events, decision = spoken(a_world(tokens=100_000, measured=measured(60_000)))
    assert events == []
    assert not any("were planned" in condition.message for condition in decision.conditions)


def test_another_choice_is_told_from_old_to_new():
    old = to_status(replace(a_plan(), variant="12B", precision="fp8"))
    events, _ = spoken(a_world(plan=old))
    ((kind, reason, message),) = events
    assert (kind, reason) == ("Normal", "Replanned")
    before, _, after = message.partition(" \u2192 ")
    assert before.startswith("12B fp8")
    assert after == "31B bf16 (google/gemma-4-31B-it) on 2 x nvidia-h100-80gb of gke-nodepool/h100"


def test_other_settings_of_the_same_choice_are_told_as_such():
    old = to_status(a_plan(settings=some_settings(context_length=8192, max_sequences=16)))
    events, _ = spoken(a_world(plan=old))
    ((_, reason, message),) = events
    assert reason == "Replanned"
    assert "8192 \u2192 32768 tokens of context" in message


def test_the_same_plan_made_again_is_no_event():
    old = to_status(replace(a_plan(), planned_at="2026-11-24T09:00:00Z", reason="other words"))
    assert spoken(a_world(plan=old))[0] == []


def test_the_first_plan_is_no_change():
    assert spoken(a_world())[0] == []


def after(plan, **old):
    """The plan stands in the Deployment, and the status speaks of the one before it still."""
    before = to_status(a_plan(**old))
    return spoken(replace(a_world(plan=before), plan=plan, spare=Spare(1, drained_frees_room=True)))[0]


def test_a_pool_that_was_left_is_told_once_with_what_was_taken_instead():
    left = LeftPool(a_plan().pool, 60, 0)
    elsewhere = PoolId(PoolSource.GKE_NODEPOOL, "l4", "nvidia.com/gpu", "x")
    plan = a_plan(variant="E4B", pool=elsewhere, planned_at="2026-11-25T09:05:00Z", left=(left,))
    found = after(plan)
    ((kind, _, message),) = [each for each in found if each[1] == "CapacityTimeout"]
    assert kind == "Warning"
    assert message.startswith("gke-nodepool/h100 brought no node within 60 s and was left; now E4B bf16")
    assert "Replanned" not in [each[1] for each in found]
    assert [each for each in after(plan, pool=elsewhere, variant="E4B") if each[1] == "CapacityTimeout"] == []


def test_a_measured_figure_is_told_once():
    plan = a_plan(correction_mib=700, planned_at="2026-11-25T09:05:00Z")
    told = [each for each in after(plan) if each[1] == "Replanned"]
    ((kind, _, message),) = told
    assert kind == "Warning"
    assert message.startswith("reckoned with 700 MiB a GPU more than before")
    assert [each for each in after(plan, correction_mib=700) if each[1] == "Replanned"] == []


def test_other_inputs_are_no_setback():
    plan = a_plan(correction_mib=700, planned_at="2026-11-25T09:05:00Z")
    assert [each for each in after(plan, inputs_hash="older") if "MiB a GPU more" in each[2]] == []
