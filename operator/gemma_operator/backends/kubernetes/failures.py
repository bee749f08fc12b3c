"""What a pod's state means, in a reason of the closed list and a sentence with the remedy. Pure.

Only what Kubernetes shows of a pod is read; an excerpt of an engine's log passes the scrubber. The list
is short by intent: what is not recognised is a crash loop with the engine's own last words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.snapshot import Replica
from gemma_operator.scrub import excerpt


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a replica. `final`: nothing changes until the user does something."""

    reason: Reason
    message: str
    final: bool


# vLLM: "models's" up to 0.21.0, "model's" from 0.22.0 (v1/core/kv_cache_utils.py)
_KV_REFUSAL = re.compile(r"To serve at least one request with the models?'s max seq len")
_CUDA_OUT_OF_MEMORY = re.compile(r"CUDA out of memory|torch\.OutOfMemoryError|torch\.cuda\.OutOfMemoryError")
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_HOST_OUT_OF_MEMORY = 137


def trouble(replicas: Sequence[Replica], *, lost_nodes: Collection[str] = ()) -> Trouble | None:
    """The first trouble by the order of `_READERS`, so that the same pods always say the same.

    Of a pod on a lost node nothing else is believed: what stands in its status is of the past.
    """
    lost = [replica for replica in replicas if replica.node in lost_nodes or replica.phase == "Unknown"]
    if lost:
        return _node_lost(min(lost, key=lambda r: r.name))
    for read in _READERS:
        for replica in sorted(replicas, key=lambda r: r.name):
            if found := read(replica):
                return found
    return None


def _image_pull(replica: Replica) -> Trouble | None:
    if replica.waiting_reason not in _IMAGE_REASONS:
        return None
    return Trouble(
        Reason.IMAGE_PULL,
        f"pod {replica.name} cannot pull its image: {excerpt(replica.waiting_message)}; check serving.engine.image, "
        "pod.imagePullSecrets and the operator's image mirror",
        final=False,
    )


def _kv_cache_too_small(replica: Replica) -> Trouble | None:
    refusal = _KV_REFUSAL.search(replica.terminated_message)
    if refusal is None:
        return None
    # from the refusal on: what stands before it is a traceback, and the figures come after
    words = excerpt(replica.terminated_message[refusal.start() :], limit=300)
    return Trouble(
        Reason.KV_CACHE_TOO_SMALL,
        f"the engine in pod {replica.name} refused to start: {words}; "
        "lower serving.contextLength or serving.concurrency",
        final=True,
    )


def _gpu_out_of_memory(replica: Replica) -> Trouble | None:
    exhausted = _CUDA_OUT_OF_MEMORY.search(replica.terminated_message)
    if exhausted is None:
        return None
    words = excerpt(replica.terminated_message[exhausted.start() :])
    return Trouble(
        Reason.OUT_OF_MEMORY,
        f"the engine in pod {replica.name} ran out of GPU memory: {words}; "
        "lower serving.contextLength or serving.concurrency",
        final=True,
    )


def _host_out_of_memory(replica: Replica) -> Trouble | None:
    if replica.terminated_reason != "OOMKilled" and replica.exit_code != _HOST_OUT_OF_MEMORY:
        return None
    return Trouble(
        Reason.OUT_OF_MEMORY,
        f"pod {replica.name} was killed for using more host memory than its limit: raise pod.resources.memory",
        final=False,
    )


def _crash_loop(replica: Replica) -> Trouble | None:
    if replica.waiting_reason != "CrashLoopBackOff" and not (replica.restarts and replica.terminated_message):
        return None
    words = excerpt(replica.terminated_message) or f"exit code {replica.exit_code}"
    return Trouble(
        Reason.CRASH_LOOP,
        f"the engine in pod {replica.name} ends again and again: {words}; see `kubectl logs {replica.name} --previous`",
        final=False,
    )


def _unschedulable(replica: Replica) -> Trouble | None:
    if replica.node or not replica.unschedulable_message:
        return None
    return Trouble(
        Reason.UNSCHEDULABLE,
        f"pod {replica.name} waits for a node: {excerpt(replica.unschedulable_message)}",
        final=False,
    )


def _gated(replica: Replica) -> Trouble | None:
    if not replica.gated:
        return None
    return Trouble(
        Reason.SCHEDULING_GATED,
        f"pod {replica.name} is held by a scheduling gate and claims no GPU until it opens: see the Workload of its "
        "queue (pod.queueName), or whoever set the gate",
        final=False,
    )


def refused(replicas: Sequence[Replica], refusing_nodes: Collection[str]) -> Trouble | None:
    """A node that refused its last two pods; said of those that were ours."""
    nodes = sorted({replica.node for replica in replicas if replica.refused} & set(refusing_nodes))
    if not nodes:
        return None
    return Trouble(
        Reason.NODE_REFUSES,
        f"node {nodes[0]} took two pods in a row and had no device for them (UnexpectedAdmissionError): its GPUs are "
        f"no room for a while; cordon it and look at its GPUs and device plugin, `kubectl describe node {nodes[0]}`",
        final=False,
    )


def not_made(deployment: Mapping[str, Any]) -> Trouble | None:
    """Pods that admission refused: the Deployment says so (ReplicaFailure), in the words of who refused."""
    for condition in deployment.get("conditions", ()):
        if (condition.get("type"), condition.get("status")) == ("ReplicaFailure", "True"):
            # from the verdict on: before it stands a pod's name, which is another one each time
            words = str(condition.get("message", "")).partition(" is forbidden: ")
            return Trouble(
                Reason.QUOTA_EXCEEDED,
                f"a pod is not made: {excerpt(words[2] or words[0])}; raise the limit, or lower replicas",
                final=False,
            )
    return None


def _node_lost(replica: Replica) -> Trouble:
    return Trouble(
        Reason.NODE_LOST,
        f"node {replica.node} of pod {replica.name} went or does not answer; the pod is replaced when Kubernetes "
        "evicts it",
        final=False,
    )


_READERS: tuple[Callable[[Replica], Trouble | None], ...] = (
    _kv_cache_too_small,
    _gpu_out_of_memory,
    _host_out_of_memory,
    _image_pull,
    _crash_loop,
    _gated,
    _unschedulable,
)
