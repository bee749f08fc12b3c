"""What is decided before a backend is asked: each policy alone, then the order of the list."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gemma_operator.api import names
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.decision import Ask
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.policies import POLICIES, decide
from gemma_operator.planner.correction import Refusal
from gemma_operator.planner.values import LeftPool
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import ENGINE, NOW, a_placement, a_replica, a_running_snapshot, a_snapshot, said
from unit.controller.builders import a_gd


def decided(snapshot):
    return decide(snapshot, now=NOW, engine=ENGINE)


def answered(snapshot, plan=None, **changes):
    return replace(snapshot, placement=a_placement(plan, token=snapshot.ask_token, **changes))


def test_the_order_of_the_policies_is_the_documentation():
    assert [policy.__name__ for policy in POLICIES] == [
        "being_deleted",
        "hands_off",
        "spec_invalid",
        "schema_outdated",
        "not_implemented",
        "suspended",
        "claim_unusable",
        "engine_unknown",
        "unplaced",
    ]


def test_an_object_on_its_way_out_is_left_to_the_garbage_collector():
    decision = decided(a_running_snapshot(terminating=True))
    assert decision.policy == "being_deleted"
    assert decision.status is None
    assert not decision.apply


@pytest.mark.parametrize("keeper", ["foregroundDeletion", "backup.example.com/kept"])
def test_an_object_that_others_keep_is_not_ready_any_more_and_says_who_they_are(keeper):
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
    kept = a_running_snapshot(terminating=True, finalizers=(keeper,), status={"conditions": [ready]})
    decision = decided(kept)
    assert said(decision)["Ready"] == ("False", "Deleting")
    assert said(decision)["Reconciling"] == ("True", "Deleting")
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert (decision.apply, decision.delete) == ((), ())
    assert keeper in next(each.message for each in decision.conditions if each.type == "Ready")


def test_hands_off_makes_nothing_and_says_so():
    decision = decided(a_snapshot(annotations={names.RECONCILE: "Disabled"}))
    assert decision.policy == "hands_off"
    assert not decision.apply
    assert said(decision)["Ready"] == ("Unknown", "HandsOff")


def test_hands_off_keeps_a_ready_that_was_said():
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
    snapshot = a_running_snapshot(
        annotations={names.RECONCILE: "Disabled"}, status={"conditions": [ready], "plan": {"variant": "31B"}}
    )
    decision = decided(snapshot)
    assert said(decision)["Ready"] == ("True", "HandsOff")
    assert decision.status.plan == {"variant": "31B"}


def test_hands_off_says_nothing_of_a_generation_that_nobody_rolled_out():
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
    snapshot = a_running_snapshot(
        annotations={names.RECONCILE: "Disabled"}, status={"conditions": [ready]}, generation=2
    )
    assert said(decided(snapshot))["Ready"] == ("Unknown", "HandsOff")


def test_what_another_version_of_the_operator_said_does_not_end_this_one():
    unheard = {
        "type": "Planned",
        "status": "True",
        "reason": "Unheard",
        "message": "",
        "observedGeneration": 1,
    }
    snapshot = a_running_snapshot(annotations={names.RECONCILE: "Disabled"}, status={"conditions": [unheard]})
    assert decided(snapshot).policy == "hands_off"


def test_another_value_of_the_annotation_is_no_hands_off():
    assert decided(a_snapshot(annotations={names.RECONCILE: "enabled"})).policy == "unplaced"


def test_a_spec_that_cannot_be_read_is_a_condition_and_costs_nothing_that_runs():
    snapshot = a_running_snapshot(
        deployment=None, spec_error="spec.serving.contextLength: must be at most 262144"
    )
    decision = decided(snapshot)
    assert decision.policy == "spec_invalid"
    assert not decision.apply
    assert not decision.delete
    assert said(decision)["Ready"] == ("False", "InvalidSpec")
    assert said(decision)["Stalled"] == ("True", "InvalidSpec")
    assert said(decision)["Healthy"] == ("True", "Serving")


def test_an_outdated_schema_stops_new_plans_only():
    fresh = decided(a_snapshot(schema_gaps=("spec.serving.thinking",)))
    assert said(fresh)["Stalled"] == ("True", "SchemaOutdated")
    assert "spec.serving.thinking" in fresh.conditions[0].message
    running = decided(a_running_snapshot(schema_gaps=("spec.serving.thinking",)))
    assert said(running)["Ready"] == ("True", "Serving")
    edited = a_running_snapshot(schema_gaps=("spec.serving.thinking",), inputs_hash="changed")
    assert said(decided(edited))["Stalled"] == ("True", "SchemaOutdated")


def test_a_restarted_operator_does_not_call_unhealthy_what_it_has_not_asked():
    healthy = {"type": "Healthy", "status": "True", "reason": "Serving"}
    snapshot = a_running_snapshot(
        deployment=None, spec_error="spec: no", facts={}, status={"conditions": [healthy]}
    )
    assert said(decided(snapshot))["Healthy"] == ("True", "Serving")
    assert said(decided(replace(snapshot, served=())))["Healthy"] == ("False", "InvalidSpec")
    assert said(decided(replace(snapshot, status={})))["Healthy"] == ("False", "InvalidSpec")


def test_a_field_whose_part_does_not_exist_is_named_and_never_ignored():
    decision = decided(a_snapshot(spec={"autoscaling": {"maxReplicas": 2}}))
    assert said(decision)["Ready"] == ("False", "NotImplemented")
    assert said(decision)["Stalled"] == ("True", "NotImplemented")
    assert "autoscaling" in decision.conditions[0].message


def test_without_a_plan_placement_is_asked_and_nothing_is_written():
    decision = decided(a_snapshot())
    assert decision.ask is Ask.PLACE
    assert decision.status is None


def test_an_answer_to_older_inputs_is_no_answer():
    snapshot = answered(a_snapshot(), a_plan())
    assert decided(replace(snapshot, inputs_hash="another-hash")).ask is Ask.PLACE


def test_what_can_never_fit_is_stalled_with_the_numbers():
    decision = decided(answered(a_snapshot()))
    assert said(decision)["Planned"] == ("False", "NothingFits")
    assert said(decision)["Stalled"] == ("True", "NothingFits")
    assert "58.8 GiB" in decision.conditions[0].message
    assert "Reconciling" not in said(decision)


def test_waiting_for_capacity_is_reconciling_and_makes_no_child():
    decision = decided(answered(a_snapshot(), waiting=True, reason=Reason.WAITING_FOR_CAPACITY))
    assert said(decision)["Planned"] == ("False", "WaitingForCapacity")
    assert said(decision)["Reconciling"] == ("True", "WaitingForCapacity")
    assert "Stalled" not in said(decision)
    assert not decision.apply


def test_a_new_spec_that_fits_nowhere_costs_nothing_that_runs():
    running = a_running_snapshot()
    decision = decided(answered(replace(running, inputs_hash="changed")))
    assert not decision.apply
    assert not decision.delete
    assert said(decision)["Ready"][0] == "False"
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert decision.status.plan["variant"] == "31B"


_ONE = {"variants": ["31B"], "precisions": ["bf16"]}
_SQL = {"persistentVolumeClaim": {"claimName": "sql"}}
_REGISTRY = {"reference": "registry.example.com/tune:1", "path": "tune"}
_GATEWAY = {"parentRefs": [{"name": "shared"}]}
_PROJECT = {"project": "my-project", "region": "us-central1"}


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("model.adapters", {"model": {**_ONE, "adapters": [{"name": "sql", "source": _SQL}]}}),
        ("model.source.image", {"model": {**_ONE, "source": {"image": _REGISTRY}}}),
        ("model.source.objectStore", {"model": {**_ONE, "source": {"objectStore": {"uri": "gs://mine"}}}}),
        ("access.gateway", {"access": {"gateway": _GATEWAY}}),
        ("autoscaling", {"autoscaling": {"maxReplicas": 2}}),
        ("vertex", {"placement": {"backends": ["Kubernetes", "Vertex"]}, "vertex": _PROJECT}),
    ],
)
def test_a_field_without_a_part_is_named_before_anything_is_planned_and_what_runs_goes_on(field, spec):
    """As the server stores it, so that whatever reads a spec on the way to the condition has read it too."""
    read = InputsOf(OperatorSettings())(a_gd(**spec))
    assert read.error == ""
    for before in (a_snapshot(), a_running_snapshot()):
        decision = decided(replace(before, deployment=read.deployment, inputs_hash=read.inputs_hash))
        assert (decision.ask, decision.apply, decision.delete) == (Ask.NOTHING, (), ())
        for kind in ("Ready", "Planned", "Stalled"):
            (told,) = [each for each in decision.conditions if each.type == kind]
            assert told.reason == Reason.NOT_IMPLEMENTED
            assert f"{field}; remove it from the spec" in told.message
    assert said(decision)["Healthy"] == ("True", "Serving")


def test_a_plan_that_was_found_is_made():
    decision = decided(answered(a_snapshot(), a_plan()))
    assert decision.policy == "provision"
    assert [manifest["kind"] for manifest in decision.apply] == [
        "ServiceAccount",
        "Service",
        "NetworkPolicy",
        "Deployment",
    ]


def test_a_replan_that_was_asked_for_asks_placement_once():
    snapshot = a_running_snapshot(annotations={names.REPLAN_REQUESTED_AT: "today"})
    assert decided(snapshot).ask is Ask.PLACE
    decision = decided(answered(snapshot, a_plan()))
    assert decision.ask is Ask.NOTHING
    assert decision.status.last_handled_replan_at == "today"
    handled = replace(snapshot, status={"lastHandledReplanAt": "today"})
    assert decided(handled).ask is Ask.NOTHING


def test_a_replan_that_finds_nothing_costs_nothing_that_runs():
    snapshot = a_running_snapshot(annotations={names.REPLAN_REQUESTED_AT: "today"})
    decision = decided(answered(snapshot, waiting=True, reason=Reason.WAITING_FOR_CAPACITY))
    assert said(decision)["Ready"] == ("True", "Serving")
    assert decision.status.last_handled_replan_at == "today"


def test_a_replan_of_what_is_suspended_is_made_before_it_counts_as_done():
    snapshot = a_running_snapshot(
        spec={"suspend": True}, annotations={names.REPLAN_REQUESTED_AT: "today"}, status={}
    )
    assert decided(snapshot).ask is Ask.PLACE
    anew = a_plan(planned_at="2026-11-25T10:00:00Z")
    decision = decided(answered(snapshot, anew))
    assert decision.status.last_handled_replan_at == "today"
    assert decision.status.plan["plannedAt"] == anew.planned_at
    handled = replace(snapshot, status={"lastHandledReplanAt": "today"})
    assert decided(handled).ask is Ask.NOTHING


def test_a_plan_whose_pool_is_gone_is_made_anew():
    assert decided(a_running_snapshot(plan_possible=False)).ask is Ask.PLACE


def test_a_plan_whose_pool_is_gone_and_that_nothing_replaces_is_impossible():
    gone = a_running_snapshot(plan_possible=False)
    decision = decided(answered(gone))
    assert said(decision)["Planned"] == ("False", "PlanImpossible")
    assert said(decision)["Stalled"] == ("True", "PlanImpossible")
    assert decision.conditions[0].message.startswith("pool gke-nodepool/h100 of the plan is gone")
    assert "58.8 GiB" in decision.conditions[0].message
    waits = decided(answered(gone, waiting=True, reason=Reason.WAITING_FOR_CAPACITY))
    assert said(waits)["Planned"] == ("False", "WaitingForCapacity")


LEFT = a_plan(planned_at="2026-11-25T09:05:00Z", left=(LeftPool(a_plan().pool, 60, 0),))


def test_a_plan_whose_capacity_wait_is_over_asks_for_another_and_makes_it():
    snapshot = a_running_snapshot(wait_over=True)
    assert decided(snapshot).ask is Ask.PLACE
    decision = decided(answered(snapshot, LEFT))
    assert decision.policy == "provision"
    assert "brought no node within 60 s and was left" in decision.status.plan["reason"] + " ".join(
        condition.message for condition in decision.conditions
    )


def test_the_plan_that_came_after_it_is_not_asked_for_again():
    written = replace(a_running_snapshot(), plan=LEFT)
    assert decided(written).ask is Ask.NOTHING
    again = replace(
        written, wait_over=True, placement=a_placement(LEFT, token=a_running_snapshot().ask_token)
    )
    assert decided(again).ask is Ask.PLACE, "its own wait is another question"


def test_where_nothing_else_has_room_it_stays_where_it_waits():
    snapshot = a_running_snapshot(wait_over=True)
    decision = decided(answered(snapshot, waiting=True, reason=Reason.WAITING_FOR_CAPACITY))
    assert said(decision)["Planned"] == ("True", "Planned")
    assert not decision.apply
    assert not decision.delete


def pending(made):
    pod = a_replica(phase="Pending", node="", ready=False, started=False, times=PodTimes(made=made))
    return replace(pod, unschedulable_message="0/9 nodes are available")


def test_who_waits_for_capacity_is_looked_at_when_its_wait_is_over():
    spec = {"placement": {"capacityTimeoutSeconds": 600}}
    waits = a_running_snapshot(spec=spec, replicas=(pending("2026-11-25T09:00:00Z"),), facts={}, served=())
    assert decided(waits).look_again_after_seconds == 600
    assert decided(a_running_snapshot(spec=spec)).look_again_after_seconds is None
    answer = {"waiting": True, "reason": Reason.WAITING_FOR_CAPACITY}
    over = decide(
        answered(replace(waits, wait_over=True), **answer), now=NOW + timedelta(seconds=601), engine=ENGINE
    )
    assert over.look_again_after_seconds is None, "only room that comes changes anything"


SHORT = Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=900, kv_cache_mib=39000)


def test_a_refusal_for_want_of_memory_asks_for_another_plan():
    snapshot = a_running_snapshot(refusal=SHORT)
    assert decided(snapshot).ask is Ask.PLACE
    corrected = a_plan(correction_mib=1000, planned_at="2026-11-25T09:05:00Z")
    decision = decided(answered(snapshot, corrected))
    assert decision.policy == "provision"
    assert decision.status.plan["correctionMiB"] == 1000


def test_a_refusal_that_no_other_plan_mends_is_stalled_with_its_figure():
    decision = decided(answered(a_running_snapshot(refusal=SHORT)))
    assert said(decision)["Stalled"] == ("True", "KvCacheTooSmall")
    assert "1000 MiB a GPU more than before" in decision.conditions[0].message
    assert "58.8 GiB" in decision.conditions[0].message
    assert not decision.apply


def test_a_refusal_whose_next_plan_waits_for_room_is_no_stall():
    decision = decided(
        answered(a_running_snapshot(refusal=SHORT), waiting=True, reason=Reason.WAITING_FOR_CAPACITY)
    )
    assert said(decision)["Reconciling"] == ("True", "WaitingForCapacity")
    assert "Stalled" not in said(decision)


def test_suspended_from_the_start_is_planned_and_shown_and_nothing_made():
    snapshot = a_snapshot(spec={"suspend": True})
    assert decided(snapshot).ask is Ask.PLACE
    decision = decided(answered(snapshot, a_plan()))
    assert not decision.apply
    assert said(decision)["Suspended"] == ("True", "Suspended")
    assert said(decision)["Planned"][0] == "True"
    assert "Ready" not in said(decision)
    assert decision.status.plan["variant"] == "31B"


def test_suspending_a_running_one_removes_all_children_and_keeps_the_plan():
    decision = decided(a_running_snapshot(spec={"suspend": True}))
    assert {ref.kind for ref in decision.delete} == {
        "ServiceAccount",
        "Service",
        "NetworkPolicy",
        "Deployment",
    }
    assert decision.status.plan["variant"] == "31B"


@pytest.mark.parametrize("generation", [1, 7])
def test_every_condition_is_said_of_this_generation(generation):
    decision = decided(a_running_snapshot(generation=generation))
    assert {condition.observed_generation for condition in decision.conditions} == {generation}


def test_one_event_when_ready_flips_and_none_at_rest():
    snapshot = a_running_snapshot()
    decision = decided(snapshot)
    assert [(event.type, event.reason) for event in decision.events] == [("Normal", "Serving")]
    ready = {"type": "Ready", "status": "True", "reason": "Serving"}
    assert decided(replace(snapshot, status={"conditions": [ready]})).events == ()
