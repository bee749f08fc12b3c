"""What a child that others change back does to the status, and whether it is written."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gemma_operator.backends.decision import Decision, ObjectRef
from gemma_operator.backends.kubernetes.act import Act
from gemma_operator.backends.kubernetes.contests import Contest, place
from gemma_operator.backends.kubernetes.differences import Changed
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.view import view
from plans import a_plan
from snapshots import ENGINE, NOW, UID, a_running_snapshot, manifests_for, said
from unit.backends.kubernetes.test_act import Server

PORT = "spec.ports[http].targetPort"
IMAGE = "spec.template.spec.containers[engine].image"


def a_contest(sent, field=PORT, managers=(), **changes):
    contest = Contest(
        sent=sent,
        changed=Changed((field,), managers),
        admitted=not managers,
        gone=False,
        stubborn=True,
        wait_seconds=45,
        settles_seconds=0,
    )
    return replace(contest, **changes)


def contested(kind="Service", *, stands="changed", status=None, served=None, **changes):
    """One child of that kind stands otherwise than it was sent, and that is known."""
    running = a_running_snapshot(status=status or {}, served=served)
    child = next(child for child in running.children if child.kind == kind)
    live = replace(child, owned_hash=stands or child.owned_hash)
    contest = a_contest(child.owned_hash, **changes)
    return replace(
        running,
        children=tuple(live if each is child else each for each in running.children),
        contests={place(kind, child.name): contest},
        answers={child.uid: (child.owned_hash, live.owned_hash)} if contest.admitted else {},
    )


def decided(snapshot):
    return decide(view(snapshot, a_plan(), engine=ENGINE), now=NOW)


def kinds(decision):
    return [manifest["kind"] for manifest in decision.apply]


def message(decision, kind="Ready"):
    return next(said.message for said in decision.conditions if said.type == kind)


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "ServiceAccount", "Deployment"])
@pytest.mark.parametrize("managers", [(), ("argocd-controller",)], ids=["admission", "another writer"])
def test_a_contested_child_is_a_conflict_that_waits_for_its_next_try(kind, managers):
    decision = decided(contested(kind, field="spec.replicas", managers=managers))
    assert decision.apply == ()
    assert said(decision)["Ready"] == ("False", "Conflict")
    assert said(decision)["Provisioned"] == ("False", "Conflict")
    assert said(decision)["Stalled"] == ("True", "Conflict")
    assert said(decision)["Healthy"] == ("True", "Serving")
    assert f"spec.replicas of {kind} chat" in message(decision)
    assert ("admission webhook or policy" in message(decision)) is not managers
    assert all(manager in message(decision) for manager in managers)
    assert decision.look_again_after_seconds == 45


def test_the_next_try_says_the_same_so_that_the_status_is_not_written():
    before, due = decided(contested()), decided(contested(wait_seconds=0))
    assert kinds(due) == ["Service"]
    assert due.conditions == before.conditions


def test_what_admission_changed_and_nobody_else_is_at_rest_in_metadata():
    decision = decided(contested(field="metadata.labels[team]", wait_seconds=0))
    assert decision.apply == ()
    assert said(decision)["Ready"] == ("True", "Serving")
    assert "admission changes metadata.labels[team] of Service chat" in message(decision, "Provisioned")
    assert decision.look_again_after_seconds is None


def test_an_image_that_admission_rewrites_is_at_rest_while_the_pods_do_well():
    decision = decided(contested("Deployment", field=IMAGE, wait_seconds=0))
    assert decision.apply == ()
    assert said(decision)["Ready"] == ("True", "Serving")
    assert f"admission changes {IMAGE} of Deployment chat" in message(decision, "Provisioned")


@pytest.mark.parametrize(("reason", "applied"), [("ImageNotFound", ["Deployment"]), ("StartingUp", [])])
def test_a_template_that_admission_changes_is_tried_again_when_its_pods_are_in_trouble(reason, applied):
    ready = {"type": "Ready", "status": "False", "reason": reason, "observedGeneration": 1}
    snapshot = contested("Deployment", field=IMAGE, wait_seconds=0, status={"conditions": [ready]})
    assert kinds(decided(snapshot)) == applied


def test_a_repair_is_believed_when_it_has_stood_for_a_while():
    fresh = decided(contested(stands=None, managers=("hpa",), settles_seconds=12))
    assert said(fresh)["Ready"] == ("False", "Conflict")
    assert (fresh.apply, fresh.look_again_after_seconds) == ((), 12)
    old = decided(contested(stands=None, managers=("hpa",), settles_seconds=0))
    assert said(old)["Ready"] == ("True", "Serving")


def test_a_hands_first_change_is_put_back_and_not_spoken_of():
    decision = decided(contested(managers=("kubectl-edit",), stubborn=False, wait_seconds=0))
    assert kinds(decision) == ["Service"]
    assert said(decision)["Ready"] == ("True", "Serving")


def test_another_manifest_is_another_matter():
    snapshot = contested(wait_seconds=45)
    ((where, contest),) = snapshot.contests.items()
    other = {where: replace(contest, sent="of another manifest")}
    decision = decided(replace(snapshot, contests=other, answers={}))
    assert kinds(decision) == ["Service"]


async def test_a_writer_that_comes_back_each_second_gets_few_writes_and_its_name_in_the_status():
    service = next(manifest for manifest in manifests_for() if manifest["kind"] == "Service")
    port = {**service["spec"]["ports"][0], "targetPort": 9999}
    owned = {"f:spec": {"f:ports": {f'k:{{"port":{port["port"]}}}': {"f:targetPort": {}}}}}
    theirs = {"manager": "their-controller", "operation": "Update", "fieldsV1": owned}
    live = {
        **service,
        "metadata": {**service["metadata"], "managedFields": [theirs]},
        "spec": {**service["spec"], "ports": [port]},
    }
    acting = Act(Server(standing={"Service": live}), instance="test", window_seconds=600)
    running, applied = contested(managers=("their-controller",)), 0
    for seconds in range(600):
        now = NOW + timedelta(seconds=seconds)
        seen = replace(running, contests=acting.contests(running.uid, now), answers=acting.answers())
        decision = decide(view(seen, a_plan(), engine=ENGINE), now=now)
        # its status is no matter of this test
        applied += len((await acting.act(replace(decision, status=None), seen, now=now)).applied)
    assert 3 <= applied <= 5
    assert said(decision)["Ready"] == ("False", "Conflict")
    assert f"field manager their-controller changes {PORT} of Service chat" in message(decision)


def deleted(kind, **changes):
    """That child is not there, and it went before."""
    running = a_running_snapshot()
    child = next(child for child in running.children if child.kind == kind)
    contest = a_contest(child.owned_hash, managers=("nobody",), changed=Changed(), gone=True, **changes)
    rest = tuple(each for each in running.children if each is not child)
    return replace(running, children=rest, contests={place(kind, child.name): contest})


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "ServiceAccount", "Deployment"])
def test_a_child_that_is_deleted_again_and_again_is_a_conflict_and_made_ever_later(kind):
    decision = decided(deleted(kind))
    assert decision.apply == ()
    assert said(decision)["Stalled"] == ("True", "Conflict")
    assert said(decision)["Ready"] == ("False", "Conflict")
    assert f"somebody deletes {kind} chat each time that it is made" in message(decision)
    assert "audit log" in message(decision)
    assert decision.look_again_after_seconds == 45


def test_its_next_try_says_the_same_so_that_the_status_is_not_written():
    before, due = decided(deleted("Service")), decided(deleted("Service", wait_seconds=0))
    assert kinds(due) == ["Service"]
    assert due.conditions == before.conditions


def test_what_a_hand_deletes_once_or_twice_is_made_at_once_and_not_spoken_of():
    decision = decided(deleted("Service", stubborn=False, wait_seconds=0))
    assert kinds(decision) == ["Service"]
    assert said(decision)["Provisioned"] == ("True", "Provisioned")


def test_a_first_deletion_of_what_admission_changed_waits_for_nothing():
    snapshot = deleted("Service")
    ((where, contest),) = snapshot.contests.items()
    webhook = {where: replace(contest, gone=False, admitted=True)}
    assert kinds(decided(replace(snapshot, contests=webhook))) == ["Service"]


async def test_a_janitor_that_comes_each_second_gets_few_objects_to_delete():
    server = Server(standing={"GemmaDeployment": {"metadata": {"uid": UID}}})
    acting = Act(server, instance="test", window_seconds=600)
    running, made = a_running_snapshot(), 0
    running = replace(running, children=tuple(each for each in running.children if each.kind != "Service"))
    for seconds in range(600):
        now = NOW + timedelta(seconds=seconds)
        seen = replace(running, contests=acting.contests(running.uid, now), answers=acting.answers())
        decision = decide(view(seen, a_plan(), engine=ENGINE), now=now)
        made += len((await acting.act(replace(decision, status=None), seen, now=now)).applied)
    assert 3 <= made <= 5
    assert said(decision)["Ready"] == ("False", "Conflict")


async def test_what_is_suspended_and_resumed_was_deleted_by_nobody_else():
    acting, running = Act(Server(), instance="t", window_seconds=600), a_running_snapshot()
    service = next(child for child in running.children if child.kind == "Service")
    manifest = next(each for each in manifests_for() if each["kind"] == "Service")
    for second in range(0, 60, 10):
        now = NOW + timedelta(seconds=second)
        without = replace(running, children=())
        await acting.act(Decision(policy="provision", apply=(manifest,)), without, now=now)
        ref = ObjectRef("Service", service.name, service.uid)
        await acting.act(Decision(policy="suspended", delete=(ref,)), running, now=now)
    assert acting.contests(running.uid, now) == {}


async def test_what_is_remembered_of_children_goes_with_their_owner():
    acting = Act(Server(adds={"injected": True}), instance="test", window_seconds=600)
    snapshot = a_running_snapshot()
    service = next(manifest for manifest in manifests_for() if manifest["kind"] == "Service")
    await acting.act(Decision(policy="provision", apply=(service,)), snapshot, now=NOW)
    assert acting.contests(snapshot.uid, NOW)["Service/chat"].admitted
    acting.forget(snapshot.uid)
    assert acting.contests(snapshot.uid, NOW) == {}
    assert acting.answers() == {}


def test_a_restarted_operator_says_nothing_before_the_answer_to_its_one_try():
    """The memory went: the status stands until it is known again whether somebody changes the child back."""
    conflict = {"type": "Ready", "status": "False", "reason": "Conflict", "observedGeneration": 1}
    restarted = replace(contested(status={"conditions": [conflict]}), contests={}, answers={})
    decision = decided(restarted)
    assert kinds(decision) == ["Service"]
    assert decision.status is None
    assert decision.look_again_after_seconds == 1
