"""Replicas that serve and whose guard has no key of users: a Ready that would be true while every user gets 401."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.controller import policies as controller
from gemma_operator.probing.facts import Failure, FailureKind, Heard
from plans import a_plan
from snapshots import ENGINE, NOW, a_replica, a_running_snapshot, failing, proved

KEY = {"access": {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}}
READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
REMEDY = "write a key that is not empty into key chat of Secret keys"
LOST = {**READY, "status": "False", "reason": "SecretMissing"}


def a_world(*keys, said_before=READY):
    """A replica for each count of keys that its guard says; None: an older guard."""
    snapshot = a_running_snapshot(spec={**KEY, "replicas": len(keys)}, status={"conditions": [said_before]})
    facts = {
        pod.uid: proved(pod, heard=Heard(count), looked_at=True)
        for pod, count in zip(snapshot.replicas, keys, strict=True)
    }
    return replace(snapshot, facts=facts)


def decided(snapshot):
    return decide(view(snapshot, a_plan(), engine=ENGINE), now=NOW)


def said(snapshot):
    """By type: (status, reason, message)."""
    return {str(c.type): (c.status, str(c.reason), c.message) for c in decided(snapshot).conditions}


def test_a_replica_that_lost_its_keys_is_not_ready_and_the_message_says_what_to_write_where():
    conditions = said(a_world(0))
    for kind in ("Ready", "Healthy"):
        status, reason, message = conditions[kind]
        assert (status, reason) == ("False", "SecretMissing")
        assert "pod chat-0 has none of the users' keys" in message
        assert REMEDY in message
    assert conditions["Stalled"][:2] == ("True", "SecretMissing")
    assert conditions["Provisioned"][0] == "True"


@pytest.mark.parametrize("keys", [(0,), (0, 0), (0, 1), (0, 0, 0)])
def test_nothing_is_made_deleted_or_waited_for(keys):
    decision = decided(a_world(*keys))
    assert (decision.apply, decision.delete) == ((), ())
    assert decision.look_again_after_seconds is None
    assert decision.status.ready_replicas == len(keys)


@pytest.mark.parametrize("keys", [(1,), (None,), (2, 5), (1, None)])
def test_with_keys_or_with_a_guard_that_does_not_count_it_is_ready(keys):
    conditions = said(a_world(*keys, said_before=LOST))
    assert (conditions["Ready"][:2], conditions["Healthy"][0]) == (("True", "Serving"), "True")
    assert {"Stalled", "Reconciling"}.isdisjoint(conditions)


@pytest.mark.parametrize(
    ("keys", "pods"),
    [((1, 0, 1), "1 of 3 replicas (chat-1)"), ((0, 1, 0), "2 of 3 replicas (chat-0, chat-2)")],
)
def test_while_some_kubelets_have_brought_it_and_others_not_a_part_is_refused_and_it_is_healthy(keys, pods):
    """Not `ReplicasMissing`: nobody is routed to a missing replica, and to these everybody is."""
    conditions = said(a_world(*keys))
    status, reason, message = conditions["Ready"]
    assert (status, reason) == ("False", "SecretMissing")
    assert pods in message
    assert REMEDY in message
    assert conditions["Healthy"][:2] == ("True", "Serving")


def test_beside_a_replica_that_fails_the_keys_come_first_since_no_user_would_see_it_mended():
    snapshot = a_world(0, 0)
    broken = failing(snapshot.replicas[0], FailureKind.NO_TOKEN, proved_at_seconds=9.0, heard=Heard(0))
    conditions = said(replace(snapshot, facts={**snapshot.facts, broken.pod_uid: broken}))
    assert conditions["Ready"][1] == conditions["Healthy"][1] == "SecretMissing"


def test_a_replica_that_is_wedged_and_keyless_is_wedged():
    snapshot = a_world(0)
    stuck = replace(
        snapshot.facts["uid-of-chat-0"],
        failed_probes=2,
        still_probes=2,
        failure=Failure(FailureKind.TIMEOUT, "", 101.0),
    )
    decision = decided(replace(snapshot, facts={stuck.pod_uid: stuck}))
    assert (decision.policy, [ref.name for ref in decision.delete]) == ("replace_wedged", ["chat-0"])


def test_an_older_generation_without_keys_does_not_serve_on():
    """Its Secret may be another one than the spec names now, so that one is not named."""
    snapshot = a_world(0)
    (standing,) = snapshot.replicas
    older = replace(standing, intent="older")
    new = a_replica("chat-new", intent=standing.intent, ready=False, started=False, node="")
    conditions = said(replace(snapshot, replicas=(older, new)))
    assert conditions["Ready"][:2] == ("False", "RollingOut")
    assert "all users get 401" in conditions["Ready"][2]
    assert conditions["Healthy"][:2] == ("False", "SecretMissing")
    assert "Secret keys" not in conditions["Healthy"][2]
    assert "Stalled" not in conditions


def test_a_new_generation_that_starts_without_keys_is_named_while_the_older_one_serves_on():
    snapshot = a_world(1)
    (standing,) = snapshot.replicas
    older = replace(standing, intent="older")
    new = a_replica("chat-new", intent=standing.intent, ready=False, started=False)
    facts = {**snapshot.facts, new.uid: proved(new, heard=Heard(0))}
    conditions = said(replace(snapshot, replicas=(older, new), facts=facts))
    status, reason, message = conditions["Ready"]
    assert (status, reason) == ("False", "SecretMissing")
    assert REMEDY in message
    assert "the older generation serves on" in message
    assert conditions["Healthy"][0] == "True"


def test_a_restarted_operator_keeps_what_was_said_until_it_has_asked():
    decision = decided(replace(a_world(0, said_before=LOST), facts={}))
    assert (decision.policy, decision.conditions) == ("settled", ())


def test_of_a_start_too_until_it_was_looked_at_once():
    snapshot = a_world(0, said_before=LOST)
    starting = replace(snapshot.replicas[0], ready=False, started=False)
    snapshot = replace(snapshot, replicas=(starting,), served=(), facts={})
    assert decided(snapshot).policy == "settled"
    looked_at = {starting.uid: replace(proved(starting), proved_at_seconds=None, looked_at=True)}
    assert decided(replace(snapshot, facts=looked_at)).policy == "settled"


def test_a_pod_that_waits_for_its_secret_is_not_waited_for():
    """That is Kubernetes' own word, and a restarted operator has it at once."""
    snapshot = a_world(0, said_before=LOST)
    waiting = replace(snapshot.replicas[0], phase="Pending", ready=False, started=False)
    assert decided(replace(snapshot, replicas=(waiting,), served=(), facts={})).policy == "settled"


@pytest.mark.parametrize(("keys", "status"), [((0, 1), "True"), ((0,), "False"), ((0, 0), "False")])
def test_what_serves_no_user_is_not_healthy_either_where_the_spec_cannot_be_read(keys, status):
    unreadable = replace(a_world(*keys), deployment=None, spec_error="spec.replicas: not a number")
    decision = controller.decide(unreadable, now=NOW, engine=ENGINE)
    healthy = next(each for each in decision.conditions if each.type == "Healthy")
    assert (decision.policy, healthy.status) == ("spec_invalid", status)


@pytest.mark.parametrize("count", [1, 1000])
def test_the_message_keeps_within_its_bound(count):
    assert len(said(a_world(*([0] * count)))["Ready"][2]) <= 512
