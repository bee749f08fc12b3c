"""Init containers and pods of Jobs, played as a kubelet would."""

from __future__ import annotations

import asyncio
import json

import pytest

from gemma_operator.sandbox.errands import Errands, is_errand
from gemma_operator.sandbox.simulator.instructions import PREFIX


def a_pod(*, job=False, init=True, phase=None, deleted=False, **told):
    owners = [{"kind": "Job" if job else "ReplicaSet"}]
    annotations = {f"{PREFIX}{key.replace('_', '-')}": str(value) for key, value in told.items()}
    return {
        "metadata": {
            "name": "chat-x",
            "namespace": "team",
            "uid": "u1",
            "ownerReferences": owners,
            "annotations": annotations,
            **({"deletionTimestamp": "2026-11-26T05:00:00Z"} if deleted else {}),
        },
        "spec": {
            "nodeName": "n1",
            "containers": [{"name": "weights" if job else "engine"}],
            **({"initContainers": [{"name": "weights"}]} if init and not job else {}),
        },
        "status": {"phase": phase or ("Running" if job else "Pending"), "podIP": "127.0.0.9"},
    }


class Node:
    """A kubelet whose writes are kept."""

    def __init__(self):
        self.written = asyncio.Queue()
        self.errands = Errands(write_status=self.write)

    async def write(self, _pod, patch):
        self.written.put_nowait(patch["status"])

    async def says(self):
        return await asyncio.wait_for(self.written.get(), 5)


@pytest.fixture
async def node():
    node = Node()
    yield node
    await node.errands.stop()


@pytest.mark.parametrize(
    ("pod", "errand"),
    [
        (a_pod(), True),
        (a_pod(job=True), True),
        (a_pod(init=False), False),
        (a_pod(phase="Running"), False),
        (a_pod(job=True, phase="Succeeded"), False),
        (a_pod(deleted=True), False),
    ],
)
def test_what_is_to_end_is_an_errand(pod, errand):
    assert is_errand(pod) is errand


async def test_a_pod_serves_when_its_init_container_is_done(node):
    node.errands.changed(a_pod())
    status = await node.says()
    assert status["phase"] == "Running"
    assert status["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Initialized",
        "status": "True",
        "lastTransitionTime": "",
    }
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert status["containerStatuses"][0]["state"]["running"]


async def test_a_failed_one_tells_why_and_is_started_again(node):
    node.errands.changed(a_pod(weights_fault="WeightsGated"))
    (first,) = (await node.says())["initContainerStatuses"]
    told = json.loads(first["state"]["terminated"]["message"])
    assert (first["restartCount"], told["reason"]) == (0, "WeightsGated")
    (second,) = (await node.says())["initContainerStatuses"]
    assert second["restartCount"] == 1
    assert second["state"]["waiting"]["reason"] == "CrashLoopBackOff"


@pytest.mark.parametrize(
    ("fault", "phase", "code"),
    [("", "Succeeded", 0), ("WeightsGated", "Failed", 1), ("WeightsMismatch", "Failed", 42)],
)
async def test_a_jobs_pod_is_over_when_its_container_is(node, fault, phase, code):
    node.errands.changed(a_pod(job=True, weights_fault=fault))
    status = await node.says()
    assert status["phase"] == phase
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code


async def test_a_pod_that_goes_says_nothing_more(node):
    node.errands.changed(a_pod(weights_seconds=3600))
    node.errands.gone(a_pod())
    node.errands.changed(a_pod(weights_seconds=0) | {"metadata": a_pod()["metadata"] | {"uid": "u2"}})
    assert (await node.says())["phase"] == "Running"
    assert node.written.empty()


async def test_a_lost_machine_says_nothing_more(node):
    node.errands.changed(a_pod(weights_seconds=3600))
    node.errands.node_gone("n1")
    assert node.errands._running == {}
