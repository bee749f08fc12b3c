"""What is said of replicas that serve no more: the reason that an SRE needs, and never that they are starting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.backends.kubernetes.snapshot import ServedAddress
from gemma_operator.backends.kubernetes.speech import everything
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.probing.facts import Failure, FailureKind
from plans import a_plan
from snapshots import ENGINE, a_running_snapshot, proved

READY_BEFORE = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}
REFUSED = {"failed_probes": 1, "failure": Failure(FailureKind.REFUSED, "", 101.0)}


def said(snapshot):
    """By type: (status, reason, message)."""
    found = everything(view(snapshot, a_plan(), engine=ENGINE))
    return {str(c.type): (c.status, str(c.reason), c.message) for c in found}


def a_world(*, replicas=1, broken=None, ready=True, **facts):
    """All replicas serve, but for the first: its readiness and what is known of it are given."""
    snapshot = a_running_snapshot(spec={"replicas": replicas}, status=READY_BEFORE)
    first, *others = snapshot.replicas
    first = replace(first, ready=ready, **(broken or {}))
    known = {pod.uid: proved(pod) for pod in others}
    return replace(
        snapshot,
        replicas=(first, *others),
        served=tuple(ServedAddress(pod.uid, 8000, pod.ready) for pod in (first, *others)),
        facts={**known, first.uid: proved(first, **facts)},
    )


def test_a_replica_that_refuses_is_said_to_refuse_although_kubernetes_took_it_out():
    status, reason, message = said(a_world(ready=False, **REFUSED))["Ready"]
    assert (status, reason) == ("False", "ProbeFailed")
    assert "pod chat-0 refused the connection" in message


def test_a_replica_that_had_started_and_is_not_healthy_is_not_starting():
    for kind in ("Ready", "Healthy"):
        status, reason, message = said(a_world(ready=False))[kind]
        assert (status, reason) == ("False", "NoEndpoints")
        assert "pod chat-0" in message
        assert "/health" in message


@pytest.mark.parametrize("facts", [{}, REFUSED])
def test_a_replica_whose_container_starts_anew_is_still_starting(facts):
    snapshot = a_world(ready=False, broken={"started": False}, **facts)
    assert said(snapshot)["Ready"][:2] == ("False", "StartingUp")


def test_of_two_the_one_that_is_missing_is_named_with_its_fault():
    status, reason, message = said(a_world(replicas=2, **REFUSED))["Ready"]
    assert (status, reason) == ("True", "ReplicasMissing")
    assert message.startswith("served by 1 of 2 replicas: pod chat-0 refused the connection")


def test_the_figures_of_a_refusal_are_said_and_not_the_traceback_before_them():
    words = "To serve at least one request with the model's max seq len (32768), (6.11 GiB KV cache is needed"
    log = "Traceback (most recent call last):\n" + '  File "core.py", line 1, in run\n' * 40 + words
    snapshot = a_world(
        ready=False, broken={"terminated_message": log, "started": False}, proved_at_seconds=None
    )
    conditions = said(snapshot)
    assert conditions["Ready"][1] == conditions["Stalled"][1] == "KvCacheTooSmall"
    assert "6.11 GiB" in conditions["Ready"][2]


def test_what_ran_out_of_gpu_memory_is_said_and_not_the_traceback_before_it():
    log = (
        '  File "core.py", line 1, in run\n' * 40
        + "torch.OutOfMemoryError: CUDA out of memory. Tried 2.00 GiB"
    )
    snapshot = a_world(
        ready=False, broken={"terminated_message": log, "started": False}, proved_at_seconds=None
    )
    assert "Tried 2.00 GiB" in said(snapshot)["Ready"][2]
