"""Pods that are not made, not let go, or refused: what is said, what is cleared, and which nodes are kept off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.failures import not_made, refused
from gemma_operator.backends.kubernetes.policies import KEPT_REFUSED, MOST_CLEARED, decide
from gemma_operator.backends.kubernetes.render import pod_intent
from gemma_operator.backends.kubernetes.speech import everything
from gemma_operator.backends.kubernetes.view import MOST_AVOIDED, avoided_nodes, view
from plans import a_plan
from snapshots import ENGINE, NOW, a_replica, a_running_snapshot, manifests_for

INTENT = pod_intent(manifests_for())
QUOTA = 'pods "chat-abc-x1" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1'


def a_refused(name="chat-r0", node="bad", **changes):
    pod = a_replica(name, intent=INTENT, node=node, phase="Failed", ready=False, started=False)
    return replace(pod, terminated_reason="UnexpectedAdmissionError", **changes)


def a_pending(name="chat-p0", **changes):
    return a_replica(name, intent=INTENT, node="", phase="Pending", ready=False, started=False, **changes)


def said(snapshot, kind="Ready"):
    found = everything(view(snapshot, a_plan(), engine=ENGINE))
    return next((c.status, str(c.reason), c.message) for c in found if str(c.type) == kind)


def with_failure(snapshot, message=QUOTA):
    failing = {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": message}]}
    children = [
        replace(child, status=failing) if child.kind == "Deployment" else child for child in snapshot.children
    ]
    return replace(snapshot, children=tuple(children))


@pytest.mark.parametrize("kind", ["Ready", "Provisioned"])
def test_a_pod_behind_a_gate_says_so_and_not_that_it_has_no_node(kind):
    snapshot = a_running_snapshot(replicas=(a_pending(gated=True),), served=())
    status, reason, message = said(snapshot, kind)
    assert (status, reason) == ("False", "SchedulingGated")
    assert "claims no GPU until it opens" in message


def test_why_a_node_does_not_come_is_said_beside_what_the_scheduler_says():  # FR-13
    pending = a_pending(unschedulable_message="0/3 nodes are available")
    snapshot = a_running_snapshot(
        replicas=(pending,), served=(), node_to_come="its node does not come: over quota"
    )
    status, reason, message = said(snapshot)
    assert (status, reason) == ("False", "Unschedulable")
    assert "0/3 nodes" in message
    assert "over quota" in message


def test_a_pod_that_a_quota_forbids_is_told_with_the_quotas_words_and_without_the_pods_name():  # FR-18
    status, reason, message = said(with_failure(a_running_snapshot(replicas=(), served=())))
    assert (status, reason) == ("False", "QuotaExceeded")
    assert "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1" in message
    assert "chat-abc-x1" not in message


def test_a_limit_that_a_limit_range_gave_is_its_doing_and_the_pods_name_is_left_out():
    words = (
        'Pod "chat-abc-x1" is invalid: spec.containers[0].resources.requests: Invalid value: "12Gi": must be less than '
        "or equal to memory limit of 1Gi"
    )
    status, reason, message = said(with_failure(a_running_snapshot(replicas=(), served=()), words))
    assert (status, reason) == ("False", "QuotaExceeded")
    assert "must be less than or equal to memory limit of 1Gi" in message
    assert "chat-abc-x1" not in message


@pytest.mark.parametrize(
    "words",
    [
        'violates PodSecurity "restricted:latest": restricted volume types (volume "weights" uses hostPath)',
        'admission webhook "images.example.com" denied the request: no such signature',
        "ValidatingAdmissionPolicy 'labels' with binding 'all' denied request: a label is missing",
    ],
)
def test_what_an_admission_refuses_is_no_quota(words):
    """The words of k8s.io/apiserver 0.37.2: pod-security admission, webhook/errors, policy/validating."""
    status, reason, message = said(
        with_failure(a_running_snapshot(replicas=(), served=()), f'pods "chat-abc-x1" is forbidden: {words}')
    )
    assert (status, reason) == ("False", "AdmissionDenied")
    assert words.partition(":")[0] in message
    assert "raise the limit" not in message


@pytest.mark.parametrize(
    "words", ['hostPath volumes (volume "weights")', 'restricted volume type "hostPath"']
)
def test_a_folder_of_the_node_is_refused_with_the_field_that_asks_for_it(words):
    """check_hostPathVolumes.go (baseline) and check_restrictedVolumes.go of k8s.io/pod-security-admission 0.37.2."""
    refusal = f'pods "chat-abc-x1" is forbidden: violates PodSecurity "baseline:latest": {words}'
    _, reason, message = said(with_failure(a_running_snapshot(replicas=(), served=()), refusal))
    assert reason == "AdmissionDenied"
    assert "weights.cache type Node needs a namespace of the Pod Security level privileged" in message
    assert words in message


def test_one_of_two_stays_ready_and_says_what_is_missing():  # FR-18
    ready = {"conditions": [{"type": "Ready", "status": "True", "observedGeneration": 1}]}
    both = a_running_snapshot(spec={"replicas": 2}, status=ready)
    status, reason, message = said(
        with_failure(replace(both, replicas=both.replicas[:1], served=both.served[:1]))
    )
    assert (status, reason) == ("True", "ReplicasMissing")
    assert "1 of 2" in message
    assert "exceeded quota: gpus" in message


def test_a_deployment_that_makes_its_pods_has_no_such_trouble():
    assert not_made({"conditions": [{"type": "ReplicaFailure", "status": "False", "message": QUOTA}]}) is None
    assert not_made({}) is None


def test_a_node_that_refuses_is_named_with_the_remedy():  # FR-14
    snapshot = a_running_snapshot(replicas=(a_refused(),), served=(), refusing_nodes=frozenset({"bad"}))
    status, reason, message = said(snapshot)
    assert (status, reason) == ("False", "NodeRefuses")
    assert "node bad" in message
    assert "cordon" in message


def test_a_node_that_refused_somebody_else_is_not_our_trouble():
    assert refused([a_refused(node="other")], {"bad"}) is None
    assert refused([a_refused()], set()) is None


def decided(*replicas, **changes):
    snapshot = a_running_snapshot(replicas=replicas, served=(), **changes)
    return decide(view(snapshot, a_plan(), engine=ENGINE), now=NOW)


@pytest.mark.parametrize(
    ("count", "deleted"), [(0, 0), (KEPT_REFUSED, 0), (KEPT_REFUSED + 2, 2), (100, MOST_CLEARED)]
)
def test_refused_pods_are_cleared_but_for_the_last_few(count, deleted):
    pods = [
        a_refused(f"r{n:03}", started_at=f"2026-11-25T08:{n // 60:02}:{n % 60:02}Z") for n in range(count)
    ]
    decision = decided(*pods)
    assert [ref.name for ref in decision.delete] == [f"r{n:03}" for n in range(deleted)]
    assert {ref.kind for ref in decision.delete} <= {"Pod"}


def test_pods_that_failed_otherwise_are_left():
    evicted = [replace(a_refused(f"e{n}"), terminated_reason="Evicted") for n in range(20)]
    assert decided(*evicted).delete == ()


class TestAvoidedNodes:
    def avoided(self, *replicas, refusing=("bad",), plan=None, named="", **changes):
        snapshot = a_running_snapshot(
            replicas=replicas, served=(), refusing_nodes=frozenset(refusing), **changes
        )
        if named:
            snapshot = replace(
                snapshot,
                children=tuple(
                    replace(child, annotations={**child.annotations, names.AVOIDED_NODES: named})
                    for child in snapshot.children
                ),
            )
        return avoided_nodes(snapshot, plan or a_plan())

    def test_a_node_that_refused_ours_is_kept_off(self):
        assert self.avoided(a_refused()) == ("bad",)

    def test_not_while_a_replica_runs_that_a_rollout_would_restart(self):
        assert self.avoided(a_refused(), a_replica("chat-0", intent=INTENT)) == ()

    def test_not_before_the_second_refusal(self):
        assert self.avoided(a_refused(), refusing=()) == ()

    def test_what_is_named_stays_for_as_long_as_the_plan_does(self):
        running = a_replica("chat-0", intent=INTENT)
        assert self.avoided(running, refusing=(), named="bad,worse") == ("bad", "worse")
        assert self.avoided(running, named="bad", plan=a_plan(planned_at="2027-01-01T00:00:00Z")) == ()

    def test_their_number_is_bounded(self):
        pods = [a_refused(f"r{n}", node=f"n{n:02}") for n in range(20)]
        assert len(self.avoided(*pods, refusing=[pod.node for pod in pods])) == MOST_AVOIDED

    def test_pods_are_kept_off_by_name_and_the_deployment_remembers(self):
        snapshot = a_running_snapshot(replicas=(a_refused(),), served=(), refusing_nodes=frozenset({"bad"}))
        (deployment,) = [
            m for m in view(snapshot, a_plan(), engine=ENGINE).pending if m["kind"] == "Deployment"
        ]
        assert deployment["metadata"]["annotations"][names.AVOIDED_NODES] == "bad"
        affinity = deployment["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
        assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] == [
            {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["bad"]}]}
        ]

    def test_without_one_nothing_is_rendered_that_was_not_before(self):
        (deployment,) = [m for m in manifests_for() if m["kind"] == "Deployment"]
        assert "affinity" not in deployment["spec"]["template"]["spec"]
        assert names.AVOIDED_NODES not in deployment["metadata"]["annotations"]
