"""What nodes do to pods: go away, refuse them, lose a device, evict them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.signs import first_sign, sign
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica

#: pkg/kubelet/eviction/helpers.go, 1.37.
_DISK: Final = (
    sign(
        Reason.DISK_FULL, "", r"ephemeral[- ](?:local )?storage", r"Usage of EmptyDir volume", r"DiskPressure"
    ),
)
_EVICTED: Final = "Evicted"
#: core/v1 PodReasonPreemptionByScheduler and what the taint manager and the kubelet write (KEP-3329). Not the eviction
#: API: that is somebody who drains a node, and knows.
_DISRUPTED: Final = frozenset(
    {"PreemptionByScheduler", "DeletionByTaintManager", "DeletionByPodGC", "TerminationByKubelet"}
)


def lost(replica: Replica) -> Trouble:
    """Of a pod on such a node nothing else is believed."""
    return told(
        Reason.NODE_LOST,
        f"node {replica.node} of pod {replica.name} went or does not answer",
        node=replica.node,
    )


def unhealthy(replicas: Sequence[Replica]) -> Trouble | None:
    """A device that the kubelet calls unhealthy; the pod goes on having it, and a new container in it too."""
    ill = [replica for replica in replicas if replica.unhealthy_devices]
    if not ill:
        return None
    first = min(ill, key=lambda each: each.name)
    what = f"the kubelet calls {', '.join(first.unhealthy_devices[:2])} of pod {first.name} unhealthy"
    return told(Reason.DEVICE_UNHEALTHY, what, pod=first.name, node=first.node)


def refused(replicas: Sequence[Replica], refusing_nodes: Collection[str]) -> Trouble | None:
    """A node that refused its last two pods; said of those that were ours."""
    nodes = sorted({replica.node for replica in replicas if replica.refused} & set(refusing_nodes))
    if not nodes:
        return None
    what = (
        f"node {nodes[0]} took two pods in a row and had no device for them (UnexpectedAdmissionError), so its GPUs "
        "are no room for a while"
    )
    return told(Reason.NODE_REFUSES, what, node=nodes[0])


def evicted(replicas: Sequence[Replica], *, intent: str) -> Trouble | None:
    """The last pod of this generation that was evicted or preempted, until a later one has started."""
    ours = [each for each in replicas if each.intent == intent]
    gone = [each for each in ours if _was_evicted(each)]
    if not gone:
        return None
    last = max(gone, key=lambda each: (each.started_at, each.name))
    if any(each.started_at > last.started_at and (each.started or each.restarts) for each in ours):
        return None
    words = last.pod_message or last.disruption_message
    reason = Reason.DISK_FULL if first_sign(words, _DISK) else Reason.EVICTED
    return told(
        reason,
        f"pod {last.name} was evicted from node {last.node} and another takes its place",
        words,
        node=last.node,
    )


def _was_evicted(replica: Replica) -> bool:
    over = replica.phase == "Failed" or replica.terminating
    return over and (replica.pod_reason == _EVICTED or replica.disruption in _DISRUPTED)
