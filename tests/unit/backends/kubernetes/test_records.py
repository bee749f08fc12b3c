"""What is kept of children, pods and EndpointSlices."""

import json
from pathlib import Path

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.ownership import manifest_hash
from gemma_operator.backends.kubernetes.records import cut_child, cut_replica, cut_slice, deployment_of
from gemma_operator.backends.kubernetes.snapshot import Key, ServedAddress

RECORDED = Path(__file__).parents[3] / "data/ssa"
LABELS = {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.DEPLOYMENT_LABEL: "chat"}


def recorded(name):
    record = json.loads((RECORDED / f"{name}.json").read_text())
    return record["sent"], record["answer"]


def a_pod(*, labels=LABELS, spec=None, status=None, **metadata):
    return {
        "metadata": {
            "name": "chat-0",
            "namespace": "team-a",
            "uid": "pod-1",
            "labels": labels,
            "annotations": {names.INTENT: "abc", "note": "hi"},
            "creationTimestamp": "2026-11-25T08:00:00Z",
            **metadata,
        },
        "spec": {"nodeName": "node-1", **(spec or {})},
        "status": {"phase": "Running", "podIP": "10.0.0.7", **(status or {})},
    }


def with_engine(**engine):
    return {
        "containerStatuses": [
            {"name": "sidecar", "restartCount": 9},
            {"name": "engine", "restartCount": 0, **engine},
        ]
    }


def condition(kind, status, **more):
    return {"conditions": [{"type": kind, "status": status, **more}]}


def test_a_child_is_known_by_its_owner_and_what_we_own_of_it():
    sent, answer = recorded("plain-deployment")
    child = cut_child(answer)
    assert (child.kind, child.name, child.uid) == ("Deployment", "chat", answer["metadata"]["uid"])
    assert (child.controller_kind, child.controller_name) == ("GemmaDeployment", "chat")
    assert child.controller_uid == sent["metadata"]["ownerReferences"][0]["uid"]
    assert child.owned_hash == manifest_hash(sent)
    assert child.has_our_label
    assert not child.terminating
    assert child.managers == ("gemma-operator",)


def test_of_annotations_only_ours_are_kept():
    _, answer = recorded("deployment-annotated-by-others")
    answer["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    annotations = cut_child(answer).annotations
    assert annotations[names.PLAN]
    assert all(key.startswith(names.PREFIX) for key in annotations)


def test_whoever_else_wrote_it_can_be_named():
    _, answer = recorded("service-ports-replaced")
    assert "kubectl-edit" in cut_child(answer).managers


def test_a_writer_that_told_no_name_is_left_out():
    """A client without a User-Agent: the server leaves `manager` out of its entry."""
    _, answer = recorded("plain-deployment")
    nameless = {
        key: value for key, value in answer["metadata"]["managedFields"][0].items() if key != "manager"
    }
    answer["metadata"]["managedFields"].append(nameless)
    assert cut_child(answer).managers == ("gemma-operator",)


def test_a_child_without_controller_has_none():
    _, answer = recorded("plain-service")
    answer["metadata"]["ownerReferences"][0]["controller"] = False
    assert cut_child(answer).controller_uid == ""


def test_a_child_on_its_way_out_is_terminating():
    _, answer = recorded("plain-service")
    answer["metadata"]["deletionTimestamp"] = "2026-11-25T08:00:00Z"
    assert cut_child(answer).terminating


def test_of_a_deployments_status_only_what_is_read_is_kept():
    _, answer = recorded("plain-deployment")
    read = {
        "observedGeneration": 1,
        "replicas": 3,
        "updatedReplicas": 2,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "unavailableReplicas": 2,
        "conditions": [{"type": "Progressing"}],
    }
    answer["status"] = {**read, "collisionCount": 3}
    assert cut_child(answer).status == read


def test_a_services_status_is_nobodys_business():
    _, answer = recorded("plain-service")
    answer["status"] = {"conditions": []}
    assert cut_child(answer).status == {}


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {names.MANAGED_BY_LABEL: names.MANAGED_BY},
        {names.DEPLOYMENT_LABEL: "chat", names.MANAGED_BY_LABEL: "helm"},
    ],
)
def test_a_pod_without_our_labels_is_nobodys_replica(labels):
    assert cut_replica(a_pod(labels=labels)) is None
    assert deployment_of(a_pod(labels=labels)) is None


def test_a_replica_says_where_it_runs_and_what_it_was_made_from():
    replica = cut_replica(a_pod(status=condition("Ready", "True")))
    assert (replica.name, replica.node, replica.ip, replica.phase) == (
        "chat-0",
        "node-1",
        "10.0.0.7",
        "Running",
    )
    assert (replica.intent, replica.ready, replica.terminating) == ("abc", True, False)
    assert deployment_of(a_pod()) == Key("team-a", "chat")


def test_a_new_pod_is_pending_and_nowhere():
    pod = a_pod()
    pod["spec"], pod["status"] = {}, {}
    replica = cut_replica(pod)
    assert (replica.node, replica.ip, replica.phase, replica.ready) == ("", "", "Pending", False)


def test_a_pod_on_its_way_out_is_terminating():
    assert cut_replica(a_pod(deletionTimestamp="2026-11-25T08:00:00Z")).terminating


def test_the_scheduler_says_why_a_pod_has_no_node():
    status = condition("PodScheduled", "False", reason="Unschedulable", message="0/3 nodes are available")
    assert cut_replica(a_pod(status=status)).unschedulable_message == "0/3 nodes are available"
    assert cut_replica(a_pod(status=condition("PodScheduled", "True"))).unschedulable_message == ""


def test_a_pod_behind_a_gate_waits_for_the_gate():
    status = condition("PodScheduled", "False", reason="SchedulingGated", message="waits")
    replica = cut_replica(a_pod(status=status))
    assert (replica.gated, replica.unschedulable_message) == (True, "")


def test_what_the_engine_waits_for_is_read_from_the_engines_container():
    status = with_engine(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
    replica = cut_replica(a_pod(status=status))
    assert (replica.waiting_reason, replica.waiting_message) == ("ImagePullBackOff", "no such image")


def test_an_engine_that_ended_says_why():
    ended = {"reason": "Error", "exitCode": 1, "message": "CUDA out of memory"}
    replica = cut_replica(a_pod(status=with_engine(state={"terminated": ended})))
    assert (replica.terminated_reason, replica.exit_code, replica.terminated_message) == (
        "Error",
        1,
        ended["message"],
    )


def test_an_engine_that_was_started_again_still_says_why_it_ended():
    status = with_engine(
        restartCount=2,
        state={"running": {}},
        lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
    )
    replica = cut_replica(a_pod(status=status))
    assert (replica.terminated_reason, replica.exit_code, replica.restarts) == ("OOMKilled", 137, 2)


def test_how_long_the_kubelet_waits_before_the_next_start_is_not_kept():
    """ "back-off 40s restarting failed container …": another figure after each end, which nobody has to write."""

    def waiting(seconds):
        state = {
            "waiting": {"reason": "CrashLoopBackOff", "message": f"back-off {seconds}s restarting failed"}
        }
        return cut_replica(a_pod(status=with_engine(state=state)))

    assert waiting(10) == waiting(300)
    assert waiting(10).waiting_reason == "CrashLoopBackOff"


def test_the_end_of_a_long_message_is_what_is_kept():
    status = with_engine(state={"terminated": {"message": "x" * 4000 + "KV cache too small"}})
    message = cut_replica(a_pod(status=status)).terminated_message
    assert len(message) < 4000
    assert message.endswith("KV cache too small")


def test_a_pod_that_the_kubelet_refused_says_so_itself():
    status = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "Allocate failed"}
    replica = cut_replica(a_pod(status=status))
    assert (replica.terminated_reason, replica.terminated_message) == (
        "UnexpectedAdmissionError",
        "Allocate failed",
    )


@pytest.mark.parametrize(
    ("status", "started_at"),
    [
        (with_engine(state={"running": {"startedAt": "09:02"}}) | {"startTime": "09:01"}, "09:02"),
        ({"startTime": "09:01"}, "09:01"),
        ({}, "2026-11-25T08:00:00Z"),
    ],
)
def test_a_replica_started_when_its_engine_did(status, started_at):
    assert cut_replica(a_pod(status=status)).started_at == started_at


def a_slice(*endpoints, ports=({"name": "http", "port": 8000},)):
    metadata = {"name": "chat-x", "namespace": "team-a", "labels": {"kubernetes.io/service-name": "chat"}}
    return {"metadata": metadata, "endpoints": list(endpoints), "ports": list(ports)}


def an_endpoint(*, kind="Pod", **conditions):
    return {"addresses": ["x"], "targetRef": {"kind": kind, "uid": "pod-1"}, "conditions": conditions}


def test_a_slice_says_which_pods_the_service_serves():
    assert cut_slice(a_slice(an_endpoint(ready=True))) == (
        Key("team-a", "chat"),
        (ServedAddress(pod_uid="pod-1", port=8000, ready=True),),
    )


@pytest.mark.parametrize(
    ("conditions", "ready"), [({"ready": False}, False), ({"ready": True}, True), ({}, True)]
)
def test_an_endpoint_takes_requests_unless_it_says_no(conditions, ready):
    _, (address,) = cut_slice(a_slice(an_endpoint(**conditions)))
    assert address.ready is ready


def test_what_is_no_pod_or_no_port_of_ours_is_not_served():
    assert cut_slice(a_slice(an_endpoint(kind="Node", ready=True)))[1] == ()
    assert cut_slice(a_slice({"addresses": ["x"]}))[1] == ()
    assert cut_slice(a_slice(an_endpoint(ready=True), ports=({"name": "debug", "port": 9},)))[1] == ()


def test_an_endpoint_that_does_not_tell_its_pods_uid_is_no_pod_that_is_known():
    """Whoever makes slices by hand, or mirrors Endpoints, need not write one: it is optional in core/v1."""
    nameless = {"addresses": ["10.0.0.7"], "targetRef": {"kind": "Pod", "name": "chat-0"}}
    _, addresses = cut_slice(a_slice(nameless, an_endpoint(ready=True)))
    assert len(addresses) == 1


def test_a_slice_of_nothing_is_empty():
    metadata = a_slice()["metadata"]
    assert cut_slice({"metadata": metadata, "endpoints": None, "ports": None})[1] == ()


def test_a_slice_that_has_no_number_for_its_port_yet_is_empty():
    slice_ = {
        "metadata": {"namespace": "team-a", "labels": {"kubernetes.io/service-name": "chat"}},
        "ports": [{"name": "http"}],
        "endpoints": [],
    }
    assert cut_slice(slice_) == (Key("team-a", "chat"), ())


@pytest.mark.parametrize(
    ("reported", "started"), [({}, False), ({"started": False}, False), ({"started": True}, True)]
)
def test_a_replica_has_started_when_its_start_up_probe_passed(reported, started):
    assert cut_replica(a_pod(status=with_engine(**reported))).started is started
