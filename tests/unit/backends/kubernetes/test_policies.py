"""What is decided about a placed deployment: each policy alone, and the truth of Ready."""

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes.policies import POLICIES, decide
from gemma_operator.backends.kubernetes.render import pod_intent
from gemma_operator.backends.kubernetes.snapshot import ServedAddress
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.probing.facts import FailureKind
from plans import a_plan
from snapshots import (
    ENGINE,
    NOW,
    a_child,
    a_placement,
    a_replica,
    a_running_snapshot,
    a_snapshot,
    failing,
    manifests_for,
    proved,
    said,
)

READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
HEALTHY = {**READY, "type": "Healthy"}
INTENT = pod_intent(manifests_for())


def decided(snapshot, plan=None):
    return decide(view(snapshot, plan or a_plan(), engine=ENGINE), now=NOW)


def two_of_two(**changes):
    return a_running_snapshot(spec={"replicas": 2}, **changes)


def test_the_order_of_the_policies_is_the_documentation():
    assert [policy.__name__ for policy in POLICIES] == [
        "foreign_child",
        "dying_child",
        "adopt_or_scale",
        "update_available",
        "look_for_room",
        "announce_gap",
        "fall_back",
        "provision",
        "clear_refused",
        "replace_wedged",
        "settled",
    ]


def test_at_rest_nothing_is_applied():
    decision = decided(a_running_snapshot())
    assert decision.policy == "settled"
    assert (decision.apply, decision.delete) == ((), ())


def test_ready_needs_every_replica_the_first_time():
    pods = (a_replica("chat-0", intent=INTENT), a_replica("chat-1", intent=INTENT))
    decision = decided(two_of_two(replicas=pods, facts={pods[0].uid: proved(pods[0])}))
    assert said(decision)["Ready"] == ("False", "NotProved")
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert said(decided(two_of_two()))["Ready"] == ("True", "Serving")


def test_once_ready_one_replica_may_be_missing_and_is_named():
    pods = (a_replica("chat-0", intent=INTENT), a_replica("chat-1", intent=INTENT))
    facts = {pods[0].uid: proved(pods[0]), pods[1].uid: failing(pods[1], FailureKind.STATUS)}
    decision = decided(two_of_two(replicas=pods, facts=facts, status={"conditions": [READY]}))
    assert said(decision)["Ready"] == ("True", "ReplicasMissing")


def test_a_single_replica_that_fails_is_not_ready():
    pod = a_replica(intent=INTENT)
    snapshot = a_running_snapshot(
        replicas=(pod,), facts={pod.uid: failing(pod)}, status={"conditions": [READY]}
    )
    assert said(decided(snapshot))["Ready"] == ("False", "ProbeFailed")
    assert said(decided(snapshot))["Healthy"] == ("False", "ProbeFailed")


def test_another_model_than_the_planned_one_is_never_ready():
    pod = a_replica(intent=INTENT)
    snapshot = a_running_snapshot(replicas=(pod,), facts={pod.uid: failing(pod, FailureKind.WRONG_MODEL)})
    assert said(decided(snapshot))["Ready"] == ("False", "WrongModel")


def test_replicas_that_the_operator_cannot_connect_to_are_neither_ready_nor_not():
    pods = (a_replica("chat-0", intent=INTENT), a_replica("chat-1", intent=INTENT))
    decision = decided(
        two_of_two(replicas=pods, facts={pod.uid: failing(pod, FailureKind.UNREACHABLE) for pod in pods})
    )
    assert said(decision)["Ready"] == ("Unknown", "NotProbed")
    assert said(decision)["Healthy"] == ("Unknown", "NotProbed")
    assert said(decision)["Reconciling"] == ("True", "NotProbed")
    assert decision.delete == ()


@pytest.mark.parametrize(
    "second",
    [
        proved,
        lambda pod: failing(pod, FailureKind.REFUSED, times=2),
        lambda _pod: None,
    ],
    ids=["another is reached", "another refuses", "another was not asked yet"],
)
def test_a_replica_that_cannot_be_reached_beside_others_is_its_own_fault(second):
    pods = (a_replica("chat-0", intent=INTENT), a_replica("chat-1", intent=INTENT))
    known = {pods[0].uid: failing(pods[0], FailureKind.UNREACHABLE), pods[1].uid: second(pods[1])}
    facts = {uid: each for uid, each in known.items() if each is not None}
    assert said(decided(two_of_two(replicas=pods, facts=facts)))["Ready"] == ("False", "ProbeFailed")


def test_a_proved_pod_that_is_not_behind_the_service_is_not_ready():
    assert said(decided(a_running_snapshot(served=())))["Ready"] == ("False", "NoEndpoints")


def test_an_endpoint_at_another_port_does_not_count():
    pod = a_replica("chat-0", intent=INTENT)
    snapshot = a_running_snapshot(replicas=(pod,), served=(ServedAddress(pod.uid, 9000, True),))
    assert said(decided(snapshot))["Ready"] == ("False", "NoEndpoints")


def test_a_pod_that_kubernetes_does_not_call_ready_does_not_count():
    pod = a_replica(intent=INTENT, ready=False, started=False)
    assert said(decided(a_running_snapshot(replicas=(pod,))))["Ready"] == ("False", "StartingUp")


def test_an_old_generation_that_serves_is_healthy_and_not_ready():
    old, new = a_replica("chat-old", intent="older"), a_replica("chat-new", intent=INTENT, ready=False)
    decision = decided(a_running_snapshot(replicas=(old, new), facts={old.uid: proved(old)}))
    assert said(decision)["Ready"] == ("False", "RollingOut")
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert said(decision)["Reconciling"] == ("True", "RollingOut")


def test_zero_replicas_is_ready_and_idle():
    decision = decided(a_running_snapshot(spec={"replicas": 0}))
    assert said(decision)["Ready"] == ("True", "IdleAtZero")
    assert "Reconciling" not in said(decision)


def test_a_missing_child_is_applied_alone():
    snapshot = a_running_snapshot()
    without = tuple(child for child in snapshot.children if child.kind != "Service")
    decision = decided(replace(snapshot, children=without))
    assert [manifest["kind"] for manifest in decision.apply] == ["Service"]


def test_a_child_that_was_edited_by_hand_is_applied_again():
    snapshot = a_running_snapshot()
    edited = tuple(
        replace(child, owned_hash="edited") if child.kind == "NetworkPolicy" else child
        for child in snapshot.children
    )
    decision = decided(replace(snapshot, children=edited))
    assert [manifest["kind"] for manifest in decision.apply] == ["NetworkPolicy"]


def test_what_the_server_answered_last_counts_as_applied():
    snapshot = a_running_snapshot()
    service = next(child for child in snapshot.children if child.kind == "Service")
    mutated = tuple(
        replace(child, owned_hash="by-a-webhook") if child is service else child
        for child in snapshot.children
    )
    answers = {service.uid: (service.owned_hash, "by-a-webhook")}
    assert decided(replace(snapshot, children=mutated, answers=answers)).apply == ()


def test_an_orphan_with_our_label_is_adopted():
    snapshot = a_running_snapshot()
    orphans = tuple(replace(child, controller_uid="", controller_kind="") for child in snapshot.children)
    decision = decided(replace(snapshot, children=orphans))
    assert decision.policy == "provision"
    assert len(decision.apply) == len(orphans)


def test_a_foreign_service_is_a_conflict_with_the_remedy():
    service = next(manifest for manifest in manifests_for() if manifest["kind"] == "Service")
    foreign = a_child(service, controller_uid="", controller_name="", has_our_label=False, managers=("helm",))
    decision = decided(a_snapshot(plan=a_plan(), children=(foreign,)))
    assert decision.policy == "foreign_child"
    assert decision.apply == ()
    assert said(decision)["Stalled"] == ("True", "Conflict")
    assert "made by helm" in decision.conditions[0].message
    assert "another name" in decision.conditions[0].message


def test_two_deployments_that_want_one_name_are_a_conflict_for_the_second():
    service = next(manifest for manifest in manifests_for() if manifest["kind"] == "Service")
    theirs = a_child(service, controller_uid="uid-of-a.b", controller_name="a.b")
    snapshot = a_snapshot(
        plan=a_plan(), children=(theirs,), living_uids=frozenset({"uid-of-a.b", "uid-of-chat"})
    )
    assert said(decided(snapshot))["Stalled"] == ("True", "Conflict")


def test_children_of_a_dead_namesake_are_waited_for():
    service = next(manifest for manifest in manifests_for() if manifest["kind"] == "Service")
    theirs = a_child(service, controller_uid="uid-of-the-dead")
    decision = decided(a_snapshot(plan=a_plan(), children=(theirs,)))
    assert decision.policy == "dying_child"
    assert decision.apply == ()
    assert decision.look_again_after_seconds is not None


def test_a_restarted_operator_keeps_what_was_said_until_it_has_asked():
    decision = decided(a_running_snapshot(facts={}, status={"conditions": [READY]}))
    assert decision.policy == "settled"
    assert decision.status is None
    never_ready = decided(a_running_snapshot(facts={}))
    assert said(never_ready)["Ready"] == ("False", "NotProved")


@pytest.mark.parametrize("intent", [INTENT, "of the generation before"])
def test_a_restarted_operator_makes_what_is_missing_at_once_and_says_how_it_is_when_it_has_asked(intent):
    """In the middle of a rollout it is the older replica that serves, and nobody has asked it yet."""
    pod = a_replica(intent=intent)
    snapshot = a_running_snapshot(replicas=(pod,), facts={}, status={"conditions": [HEALTHY]})
    without = tuple(child for child in snapshot.children if child.kind != "NetworkPolicy")
    restarted = replace(snapshot, children=without)
    decision = decided(restarted)
    assert [manifest["kind"] for manifest in decision.apply] == ["NetworkPolicy"]
    assert (decision.status, decision.conditions) == (None, ())
    assert decision.look_again_after_seconds == snapshot.settings.probe_period_seconds
    asked = decided(replace(restarted, facts={pod.uid: proved(pod)}))
    assert said(asked)["Healthy"] == ("True", "Serving")


def test_from_two_replicas_on_there_is_a_disruption_budget_and_below_it_goes():
    assert "PodDisruptionBudget" in [child.kind for child in two_of_two().children]
    budget = next(child for child in two_of_two().children if child.kind == "PodDisruptionBudget")
    one = a_running_snapshot()
    decision = decided(replace(one, children=(*one.children, budget)))
    assert [ref.kind for ref in decision.delete] == ["PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("changes", "reason", "stalled"),
    [
        ({"waiting_reason": "ErrImagePull", "waiting_message": "i/o timeout"}, "ImagePull", False),
        ({"waiting_reason": "ErrImagePull", "waiting_message": "x:1: not found"}, "ImageNotFound", True),
        ({"waiting_reason": "ImagePullBackOff", "waiting_message": "denied"}, "ImageDenied", True),
        (
            {"waiting_reason": "CrashLoopBackOff", "terminated_message": "boom", "restarts": 3},
            "CrashLoop",
            False,
        ),
        ({"terminated_reason": "OOMKilled", "exit_code": 137}, "HostOutOfMemory", False),
        ({"terminated_message": "torch.OutOfMemoryError: CUDA out of memory."}, "OutOfMemory", True),
        (
            {
                "terminated_message": "To serve at least one request with the model's max seq len (32768), (6.4 GiB"
            },
            "KvCacheTooSmall",
            True,
        ),
        ({"node": "", "unschedulable_message": "0/3 nodes are available"}, "Unschedulable", False),
    ],
)
def test_what_a_pod_fails_with_is_said_with_a_remedy(changes, reason, stalled):
    pod = a_replica(intent=INTENT, ready=False, started=False, **changes)
    decision = decided(a_running_snapshot(replicas=(pod,), facts={}, served=()))
    assert said(decision)["Ready"] == ("False", reason)
    assert ("Stalled" in said(decision)) is stalled
    assert ("Reconciling" in said(decision)) is not stalled


def test_of_a_pod_on_a_lost_node_nothing_else_is_believed():
    pod = a_replica(intent=INTENT, ready=False, waiting_reason="CrashLoopBackOff")
    snapshot = a_running_snapshot(replicas=(pod,), facts={}, served=(), lost_nodes=frozenset({"node-1"}))
    decision = decided(snapshot)
    assert said(decision)["Ready"] == ("False", "NodeLost")
    assert said(decision)["Reconciling"] == ("True", "NodeLost")
    assert "node-1" in decision.conditions[0].message


def test_the_endpoint_is_the_service_and_the_name_that_clients_send():
    status = decided(a_running_snapshot()).status
    assert status.endpoint == {"url": "http://chat.team-a.svc:8000/v1", "model": "chat", "api": "OpenAI"}
    named = decided(a_running_snapshot(spec={"serving": {"modelName": "gemma"}})).status
    assert named.endpoint["model"] == "gemma"


def test_what_engines_measured_stays_over_a_restart():
    measured = {"kvCacheTokens": 90_000, "predictedKvCacheTokens": 100_000}
    assert decided(a_running_snapshot(status={"measured": measured})).status.measured == measured
    pod = a_replica("chat-0", intent=INTENT)
    snapshot = a_running_snapshot(replicas=(pod,), facts={pod.uid: proved(pod, measured_kv_tokens=98_000)})
    assert decided(snapshot).status.measured == {"kvCacheTokens": 98_000, "predictedKvCacheTokens": 100_000}


def test_a_plan_just_placed_brings_its_alternatives():
    snapshot = a_snapshot()
    placed = replace(snapshot, placement=a_placement(a_plan(), token=snapshot.ask_token))
    assert decided(placed).status.alternatives == []
