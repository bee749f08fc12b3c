"""Engines that accept requests and generate nothing are replaced one at a time, and never more than half of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from gemma_operator.api import names
from gemma_operator.backends.decision import ObjectRef
from gemma_operator.backends.kubernetes.health import states
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.controller import policies as controller
from gemma_operator.probing.facts import Failure, FailureKind
from plans import a_plan
from snapshots import ENGINE, NOW, a_child, a_replica, a_running_snapshot, proved, said

READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
JUST_NOW = (NOW - timedelta(seconds=100)).strftime("%Y-%m-%dT%H:%M:%SZ")
LONG_AGO = (NOW - timedelta(seconds=301)).strftime("%Y-%m-%dT%H:%M:%SZ")


def wedged(replica, **changes):
    """Proved once; two probes failed since, and nothing moved."""
    failure = Failure(FailureKind.TIMEOUT, "", 101.0)
    return proved(replica, failed_probes=2, still_probes=2, failure=failure, waiting=3, **changes)


def a_world(replicas, *, stuck, replaced_at="", status=None, **changes):
    """`stuck` of the replicas are wedged; the Deployment says when one was deleted last."""
    snapshot = a_running_snapshot(spec={"replicas": replicas}, status={"conditions": status or [READY]})
    facts = {
        each.uid: wedged(each) if place < stuck else proved(each)
        for place, each in enumerate(snapshot.replicas)
    }
    snapshot = replace(snapshot, facts=facts, **changes)
    if not replaced_at:
        return snapshot
    first = view(snapshot, a_plan(), engine=ENGINE)
    noted = {names.WEDGED_REPLACED_AT: replaced_at}
    children = tuple(
        replace(child, annotations={**child.annotations, **noted}) if child.kind == "Deployment" else child
        for child in snapshot.children
    )
    rendered = view(replace(snapshot, children=children), a_plan(), engine=ENGINE).manifests
    assert rendered != first.manifests
    return replace(snapshot, children=tuple(a_child(manifest) for manifest in rendered))


def decided(snapshot):
    return decide(view(snapshot, a_plan(), engine=ENGINE), now=NOW)


def message(decision):
    return next(c.message for c in decision.conditions if c.type == "Ready")


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_a_wedged_replica_is_deleted_by_uid_and_told_of_once(replicas):
    decision = decided(a_world(replicas, stuck=1))
    assert decision.policy == "replace_wedged"
    assert decision.delete == (ObjectRef("Pod", "chat-0", "uid-of-chat-0"),)
    (event,) = decision.events
    assert (event.type, event.reason) == ("Warning", "Wedged")
    assert "chat-0" in event.message


def test_the_deployment_notes_when_before_the_pod_is_deleted():
    (deployment,) = decided(a_world(2, stuck=1)).apply
    assert deployment["metadata"]["annotations"][names.WEDGED_REPLACED_AT] == "2026-11-25T09:00:00Z"


def test_what_is_noted_stays_and_changes_no_pod():
    snapshot = a_world(2, stuck=0, replaced_at=JUST_NOW)
    decision = decided(snapshot)
    assert (decision.policy, decision.apply) == ("settled", ())


def test_the_other_replica_keeps_it_ready_and_healthy():
    decision = decided(a_world(2, stuck=1))
    assert said(decision)["Ready"] == ("True", "ReplicasMissing")
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert "chat-0 accepts requests and generates nothing" in message(decision)


def test_the_only_replica_is_replaced_and_that_is_said():
    decision = decided(a_world(1, stuck=1))
    assert said(decision)["Ready"] == ("False", "Wedged")
    assert said(decision)["Healthy"] == ("False", "Wedged")
    assert "Stalled" not in said(decision)


def test_the_next_one_waits_five_minutes_and_not_longer():
    early = decided(a_world(5, stuck=2, replaced_at=JUST_NOW))
    assert (early.policy, early.delete, early.look_again_after_seconds) == ("replace_wedged", (), 200)
    late = decided(a_world(5, stuck=2, replaced_at=LONG_AGO))
    assert [ref.name for ref in late.delete] == ["chat-0"]


def test_while_the_successor_of_the_last_one_starts_no_second_one_goes():
    snapshot = a_world(5, stuck=2, replaced_at=LONG_AGO)
    starting = replace(snapshot.replicas[-1], ready=False, started=False)
    decision = decided(replace(snapshot, replicas=(*snapshot.replicas[:-1], starting)))
    assert decision.delete == ()
    assert decision.look_again_after_seconds > 0


@pytest.mark.parametrize(("replicas", "stuck"), [(2, 2), (3, 2), (5, 3)])
def test_where_more_than_half_are_wedged_none_is_deleted_and_the_user_is_asked(replicas, stuck):
    decision = decided(a_world(replicas, stuck=stuck))
    assert decision.delete == ()
    assert said(decision)["Ready"] == ("False", "Wedged")
    assert said(decision)["Stalled"] == ("True", "Wedged")
    assert f"{stuck} of {replicas} replicas" in message(decision)
    assert "kubectl delete pod chat-0" in message(decision)


@pytest.mark.parametrize(("replicas", "stuck"), [(2, 1), (4, 2)])
def test_half_is_not_more_than_half(replicas, stuck):
    assert len(decided(a_world(replicas, stuck=stuck)).delete) == 1


def test_a_replica_that_has_not_started_is_the_start_up_probes_business():
    snapshot = a_world(2, stuck=1)
    starting = replace(snapshot.replicas[0], ready=False, started=False)
    assert decided(replace(snapshot, replicas=(starting, snapshot.replicas[1]))).policy == "settled"


def test_a_pod_that_is_leaving_already_is_not_deleted_again():
    snapshot = a_world(2, stuck=1)
    leaving = replace(snapshot.replicas[0], terminating=True)
    assert decided(replace(snapshot, replicas=(leaving, snapshot.replicas[1]))).delete == ()


def test_of_two_generations_the_older_one_goes_first():
    snapshot = a_world(4, stuck=2)
    older = replace(snapshot.replicas[1], intent="older")
    pods = (snapshot.replicas[0], older, *snapshot.replicas[2:])
    assert [ref.name for ref in decided(replace(snapshot, replicas=pods)).delete] == ["chat-1"]


def test_the_metric_counts_it_as_wedged_and_not_as_proved():
    counted = view(a_world(3, stuck=1), a_plan(), engine=ENGINE).health
    figures = states(counted)
    assert (figures["wedged"], figures["proved"], figures["missing"], figures["starting"]) == (1, 2, 1, 0)


def rendered_by_another(snapshot):
    return replace(
        snapshot,
        children=tuple(
            replace(
                child,
                annotations={**child.annotations, names.RENDERER_VERSION: "another"},
                owned_hash="other",
            )
            for child in snapshot.children
        ),
    )


def test_what_another_version_rendered_is_left_alone_but_for_its_wedged_pod():
    made = PodTimes(made=LONG_AGO)
    snapshot = rendered_by_another(a_world(2, stuck=1))
    pods = tuple(replace(each, times=made) for each in snapshot.replicas)
    decision = decided(replace(snapshot, replicas=pods))
    assert decision.policy == "update_available"
    assert (decision.apply, [ref.name for ref in decision.delete]) == ((), ["chat-0"])


def test_there_the_youngest_pod_tells_when_the_last_one_was_deleted():
    snapshot = rendered_by_another(a_world(2, stuck=1))
    pods = (
        snapshot.replicas[0],
        replace(snapshot.replicas[1], times=PodTimes(made=JUST_NOW)),
    )
    decision = decided(replace(snapshot, replicas=pods))
    assert (decision.delete, decision.look_again_after_seconds) == ((), 200)


def test_a_change_of_state_and_a_deletion_of_one_reason_are_one_event():
    snapshot = a_world(1, stuck=1)
    decision = controller.decide(snapshot, now=NOW, engine=ENGINE)
    assert [event.reason for event in decision.events] == ["Wedged"]


# a restart


def before(status, reason):
    return [{**READY, "status": status, "reason": reason}]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("True", "Serving"),
        ("True", "ReplicasMissing"),
        ("False", "Wedged"),
        ("False", "ProbeFailed"),
        ("False", "WrongModel"),
    ],
)
def test_a_restarted_operator_keeps_what_was_said_until_it_has_asked(status, reason):
    snapshot = replace(a_world(2, stuck=0, status=before(status, reason)), facts={})
    decision = decided(snapshot)
    assert (decision.policy, decision.status, decision.conditions) == ("settled", None, ())
    assert decision.look_again_after_seconds == snapshot.settings.probe_period_seconds


@pytest.mark.parametrize("reason", ["StartingUp", "RollingOut", "Provisioning", "NoEndpoints"])
def test_what_was_not_learnt_by_asking_is_not_kept(reason):
    snapshot = replace(a_world(2, stuck=0, status=before("False", reason)), facts={})
    assert decided(snapshot).policy == "settled"


def test_what_was_said_of_an_older_generation_is_not_kept():
    snapshot = replace(a_world(2, stuck=0, status=before("False", "Wedged")), facts={}, generation=2)
    assert decided(snapshot).policy == "settled"


def test_once_every_ready_replica_was_asked_it_speaks_for_itself():
    snapshot = a_world(2, stuck=0, status=before("False", "Wedged"))
    assert said(decided(snapshot))["Ready"] == ("True", "Serving")


def test_a_pod_that_is_not_ready_is_not_waited_for():
    snapshot = a_world(2, stuck=0, status=before("True", "Serving"))
    unready = replace(snapshot.replicas[1], ready=False)
    facts = {snapshot.replicas[0].uid: proved(snapshot.replicas[0])}
    decision = decided(replace(snapshot, replicas=(snapshot.replicas[0], unready), facts=facts))
    assert decision.policy == "settled"


def test_nothing_is_deleted_before_it_was_asked_by_this_process():
    pod = a_replica("chat-0", intent=a_world(1, stuck=0).replicas[0].intent)
    snapshot = replace(a_world(1, stuck=0, status=before("False", "Wedged")), replicas=(pod,), facts={})
    assert decided(snapshot).delete == ()
