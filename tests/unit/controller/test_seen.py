"""Whom the prober asks, and what Prometheus is told, after each visit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from gemma_operator.api import conditions
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.decision import Decision, StatusFields
from gemma_operator.catalog.records import Price
from gemma_operator.controller.seen import targets, view_of
from plans import a_plan
from snapshots import ENGINE, a_replica, a_running_snapshot, a_snapshot, failing, proved

SAID = Decision(policy="settled", conditions=(conditions.not_ready(Reason.PROBE_FAILED, "no"),))


def test_every_pod_that_runs_is_asked_at_its_address_for_a_token_of_its_own_model():
    pods = (a_replica("old", model_name="chat"), a_replica("new", model_name="team/chat"))
    old, new = targets(a_running_snapshot(replicas=pods), ENGINE)
    assert (old.pod_uid, old.address, old.port) == ("uid-of-old", pods[0].ip, 8000)
    assert (old.engine, old.pod_ready) == (ENGINE, True)
    assert (old.model_name, new.model_name) == ("chat", "team/chat")
    assert '"team/chat"' in new.token_request.body


def test_a_pod_that_is_not_ready_yet_is_asked_too():
    (target,) = targets(a_running_snapshot(replicas=(a_replica(ready=False),)), ENGINE)
    assert not target.pod_ready


def test_the_prober_hears_whether_the_kubelet_calls_a_device_unhealthy():
    ill = a_replica("ill", unhealthy_devices=("nvidia.com/gpu GPU-1",))
    found = targets(a_running_snapshot(replicas=(ill, a_replica("well"))), ENGINE)
    assert [(target.pod_uid, target.device_unhealthy) for target in found] == [
        ("uid-of-ill", True),
        ("uid-of-well", False),
    ]


@pytest.mark.parametrize(
    "change", [{"ip": ""}, {"phase": "Pending"}, {"phase": "Failed"}, {"terminating": True}]
)
def test_a_pod_that_cannot_answer_or_is_on_its_way_out_is_not_asked(change):
    snapshot = a_running_snapshot(replicas=(a_replica("a", **change), a_replica("b")))
    assert [target.pod_uid for target in targets(snapshot, ENGINE)] == ["uid-of-b"]


def test_what_runs_is_asked_on_while_the_spec_cannot_be_read():
    running = a_running_snapshot()
    assert targets(replace(running, deployment=None), ENGINE) == targets(running, ENGINE)


def test_a_guarded_endpoint_is_shown_the_operators_key_and_a_log_is_not():
    (target,) = targets(a_running_snapshot(probe_key="of-the-operator"), ENGINE)
    assert target.headers == (("Authorization", "Bearer of-the-operator"),)
    assert "of-the-operator" not in repr(target)


def test_prometheus_is_told_the_plan():
    view = view_of(a_running_snapshot(), SAID, ENGINE)
    assert (view.backend, view.variant, view.precision) == ("Kubernetes", "31B", "bf16")
    assert (view.engine, view.engine_version) == ("VLLM", "0.32")
    assert (view.pool, view.accelerator) == ("gke-nodepool/h100", "nvidia-h100-80gb")
    assert view.predicted_kv_tokens == 100_000
    assert view.cost_per_hour is None


def test_before_there_is_a_plan_nothing_is_told_of_it():
    view = view_of(a_snapshot(), SAID, ENGINE)
    told = (view.backend, view.variant, view.precision, view.engine, view.engine_version, view.pool)
    assert told == ("",) * 6
    assert (view.accelerator, view.predicted_kv_tokens, view.cost_per_hour) == ("", None, None)
    assert view.pod_uids == frozenset()


def test_an_old_plan_is_told_while_its_replicas_serve_and_no_other_is_found():
    view = view_of(a_running_snapshot(inputs_hash="edited"), SAID, ENGINE)
    assert view.variant == "31B"


def test_the_price_is_of_all_wanted_replicas():
    plan = a_plan(hourly_cost=Price(amount=Decimal("2.5"), currency="EUR"))
    snapshot = replace(a_running_snapshot(spec={"replicas": 3}), plan=plan)
    assert view_of(snapshot, SAID, ENGINE).cost_per_hour == ("EUR", 7.5)


def test_conditions_are_those_just_said_else_those_that_stand():
    stands = {"conditions": [{"type": "Ready", "status": "True"}]}
    snapshot = a_running_snapshot(status=stands)
    assert view_of(snapshot, SAID, ENGINE).conditions == {"Ready": "False"}
    assert view_of(snapshot, Decision(policy="settled"), ENGINE).conditions == {"Ready": "True"}


def test_a_start_is_told_as_it_was_just_written_else_as_it_stands():
    stands = a_running_snapshot(status={"startup": [{"phase": "load", "seconds": 61}]})
    assert view_of(stands, Decision(policy="settled"), ENGINE).startup_seconds == {"load": 61}
    written = StatusFields(startup=[{"phase": "load", "seconds": 7}, {"phase": "image", "seconds": 0}])
    told = view_of(stands, Decision(policy="settled", status=written), ENGINE)
    assert told.startup_seconds == {"load": 7, "image": 0}
    assert view_of(a_running_snapshot(), SAID, ENGINE).startup_seconds == {}


def test_replicas_are_counted_by_what_they_are():
    pods = tuple(a_replica(name) for name in ("a", "b", "c"))
    facts = {pods[0].uid: proved(pods[0]), pods[1].uid: failing(pods[1])}
    snapshot = a_running_snapshot(spec={"replicas": 4}, replicas=pods, facts=facts)
    view = view_of(snapshot, SAID, ENGINE)
    assert view.replicas == {"wanted": 4, "ready": 3, "proved": 1, "wedged": 0, "starting": 2, "missing": 3}
    assert view.pod_uids == {pod.uid for pod in pods}


@pytest.mark.parametrize("spec", [{"suspend": True, "replicas": 3}, {"replicas": 0}])
def test_where_nothing_is_to_run_nothing_is_missing(spec):
    view = view_of(a_snapshot(spec=spec), SAID, ENGINE)
    assert (view.replicas["wanted"], view.replicas["missing"]) == (0, 0)


def test_a_spec_that_cannot_be_read_wants_nothing():
    view = view_of(a_snapshot(deployment=None, spec_error="no"), SAID, ENGINE)
    assert view.replicas["wanted"] == 0
