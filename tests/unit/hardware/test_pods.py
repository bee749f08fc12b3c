import pytest

from gemma_operator.api.names import DEPLOYMENT_LABEL
from gemma_operator.hardware.pods import pod_record, pod_requests


def asks(restart=None, **requests):
    named = {name.replace("gpu", "nvidia.com/gpu"): amount for name, amount in requests.items()}
    container = {"resources": {"requests": named}}
    return container | ({"restartPolicy": restart} if restart else {})


def a_pod(*, node="n1", phase="Running", labels=None, deleted=False):
    metadata = {"name": "p", "namespace": "team", "uid": "u1", "labels": labels or {}}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [asks(gpu="1")]},
        "status": {"phase": phase},
    }


def test_containers_run_together():
    assert pod_requests({"containers": [asks(cpu="500m"), asks(cpu="1", gpu="2")]}) == {
        "cpu": 1500,
        "nvidia.com/gpu": 2,
        "pods": 1,
    }


def test_the_largest_init_container_counts_where_it_is_more_than_all_containers():
    spec = {"containers": [asks(cpu="1")], "initContainers": [asks(cpu="3"), asks(cpu="2", gpu="1")]}
    assert pod_requests(spec) == {"cpu": 3000, "nvidia.com/gpu": 1, "pods": 1}


def test_a_sidecar_runs_beside_the_containers_and_the_later_init_containers():
    spec = {
        "containers": [asks(cpu="1")],
        "initContainers": [asks(cpu="2"), asks("Always", cpu="1"), asks(cpu="2")],
    }
    assert pod_requests(spec)["cpu"] == 3000
    spec["containers"].append(asks(cpu="5"))
    assert pod_requests(spec)["cpu"] == 7000


def test_overhead_comes_on_top():
    spec = {"containers": [asks(memory="1Ki")], "overhead": {"memory": "1Ki", "cpu": "250m"}}
    assert pod_requests(spec) == {"memory": 2048, "cpu": 250, "pods": 1}


def test_a_limit_without_a_request_is_the_request():
    container = {"resources": {"limits": {"nvidia.com/gpu": "2", "cpu": "4"}, "requests": {"cpu": "1"}}}
    assert pod_requests({"containers": [container]}) == {"nvidia.com/gpu": 2, "cpu": 1000, "pods": 1}


def test_what_a_pod_asks_for_as_a_whole_stands_in_its_containers_place():
    """KEP-2837; devices are still asked for by containers alone."""
    spec = {
        "containers": [asks(cpu="1", memory="1Ki", gpu="1")],
        "initContainers": [asks(cpu="9")],
        "resources": {
            "requests": {"cpu": "4", "nvidia.com/gpu": "8"},
            "limits": {"cpu": "6", "memory": "4Ki"},
        },
        "overhead": {"cpu": "250m"},
    }
    assert pod_requests(spec) == {"cpu": 4250, "memory": 1024, "nvidia.com/gpu": 1, "pods": 1}


def test_a_whole_pods_limit_is_its_request_where_nothing_else_is_asked_for():
    spec = {"containers": [asks(gpu="1")], "resources": {"limits": {"cpu": "6", "hugepages-2Mi": "4Mi"}}}
    assert pod_requests(spec) == {"cpu": 6000, "hugepages-2Mi": 4 * 1024**2, "nvidia.com/gpu": 1, "pods": 1}


def test_the_owner_is_the_deployment_in_the_pods_own_namespace():
    record = pod_record(a_pod(labels={DEPLOYMENT_LABEL: "chat"}))
    assert (record.owner, record.node, record.leaving) == (("team", "chat"), "n1", False)
    assert pod_record(a_pod()).owner is None


def test_a_pod_that_is_going_holds_what_it_holds():
    record = pod_record(a_pod(deleted=True))
    assert record.leaving
    assert record.requests["nvidia.com/gpu"] == 1


@pytest.mark.parametrize("pod", [a_pod(node=None), a_pod(phase="Succeeded"), a_pod(phase="Failed")])
def test_a_pod_that_is_unbound_or_over_holds_nothing(pod):
    assert pod_record(pod) is None
