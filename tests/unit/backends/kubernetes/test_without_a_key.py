"""A guarded engine that starts without a key of users: at once by its guard's word, else when nothing else is meant."""

from dataclasses import replace

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import troubles
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.probing.facts import FailureKind, Heard
from plans import a_plan
from snapshots import ENGINE, a_replica, a_running_snapshot, failing, proved

KEY = {"access": {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}}
#: What the kubelet leaves of a container that its start-up probe never let through.
OVER = {
    "ready": False,
    "started": False,
    "terminated_reason": "Error",
    "exit_code": 137,
    "restarts": 1,
    "ran_seconds": 4000,
}


def found(*, spec=KEY, pod=OVER, facts=proved):
    snapshot = a_running_snapshot(spec=spec)
    (standing,) = snapshot.replicas
    replica = a_replica(standing.name, **{"intent": standing.intent, **pod})
    known = {replica.uid: facts(replica)} if facts is not None else {}
    snapshot = replace(snapshot, replicas=(replica,), served=(), facts=known)
    return troubles.of(view(snapshot, a_plan(), engine=ENGINE))


def test_an_engine_that_answers_the_operator_and_not_its_own_pod_has_no_key_of_users():
    trouble = found()
    assert (trouble.reason, trouble.final) == (Reason.SECRET_MISSING, True)
    assert "write a key that is not empty into key chat of Secret keys" in trouble.message


def test_one_that_was_proved_before_it_was_started_again_counts_too():
    trouble = found(facts=lambda pod: failing(pod, proved_at_seconds=90.0))
    assert trouble.reason is Reason.SECRET_MISSING


@pytest.mark.parametrize(
    "case",
    [
        {"spec": {}},
        {"facts": failing},
        {"facts": None},
        {"facts": lambda pod: proved(pod, heard=Heard(1))},
    ],
    ids=[
        "no key is asked for",
        "it never answered the operator",
        "the operator was restarted",
        "its guard has a key",
    ],
)
def test_otherwise_the_start_took_too_long(case):
    assert found(**case).reason is Reason.STARTUP_BUDGET_EXCEEDED


STARTING = {"ready": False, "started": False}


@pytest.mark.parametrize("heard", [None, Heard(None), Heard(1)], ids=["no word", "an older guard", "a key"])
def test_before_the_budget_is_over_a_start_is_a_start(heard):
    assert found(pod=STARTING, facts=lambda pod: proved(pod, heard=heard)) is None


def test_a_guard_without_keys_is_named_before_the_budget_is_over_and_in_the_same_words_after_it():
    now, later = (found(pod=pod, facts=lambda pod: proved(pod, heard=Heard(0))) for pod in (STARTING, OVER))
    assert (now.reason, now.final) == (Reason.SECRET_MISSING, True)
    assert "write a key that is not empty into key chat of Secret keys" in now.message
    assert later == now


def test_while_its_container_is_started_again_the_last_word_holds():
    refused = found(
        facts=lambda pod: failing(pod, FailureKind.REFUSED, proved_at_seconds=9.0, heard=Heard(0))
    )
    assert refused == found(pod=STARTING, facts=lambda pod: proved(pod, heard=Heard(0)))
