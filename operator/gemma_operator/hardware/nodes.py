"""A Node as the API server or kubectl prints it, cut down to a `NodeRecord`.

Only what planning needs is kept: a fleet of hundreds is held in memory and cut at every event. Nothing is
interpreted here but what is Kubernetes' own (conditions, taints, quantities); what labels mean is the
dialects' business (`gfd`, `gke`, `karpenter`, …).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gemma_operator.hardware import quantities
from gemma_operator.hardware.quantities import InvalidQuantityError
from gemma_operator.hardware.records import NodeRecord, Taint

KEPT_EFFECTS: Final = frozenset({"NoSchedule", "NoExecute"})

#: Taints that say what happens to a node, not what it is for: they make it unschedulable, and they never
#: become part of a shape (a cordon would change the pool's identity).
LIFECYCLE_TAINT_PREFIXES: Final = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "karpenter.sh/unregistered",
    "ToBeDeletedByClusterAutoscaler",
    "cloud.google.com/impending-node-termination",
    # kubernetes/autoscaler, utils/taints/taints.go: what it leaves out of the node that a group would bring
    "startup-taint.cluster-autoscaler.kubernetes.io/",
    "status-taint.cluster-autoscaler.kubernetes.io/",
    "ignore-taint.cluster-autoscaler.kubernetes.io/",
    "readiness.k8s.io/",  # kubernetes-sigs/node-readiness-controller
    "remediator.kubernetes.azure.com/",  # AKS node auto-repair and auto-drain; the next is its older name
    "remediator.aks.microsoft.com/",
    "aws-node-termination-handler/",
)
#: Start-up taints of agents (node.cilium.io/agent-not-ready, ebs.csi.aws.com/agent-not-ready).
_STARTUP_TAINT_SUFFIX: Final = "/agent-not-ready"

#: GPU Operator's state while a node's MIG layout is changed: labels are of the past until `success`.
MIG_STATE_LABEL: Final = "nvidia.com/mig.config.state"


def node_record(obj: Mapping[str, Any]) -> NodeRecord | None:
    """The record of a Node; None for an object that is not one."""
    metadata = obj.get("metadata") or {}
    name = metadata.get("name")
    if obj.get("kind", "Node") != "Node" or not name:
        return None
    spec = obj.get("spec") or {}
    status = obj.get("status") or {}
    labels = {
        sys.intern(key): sys.intern(str(value)) for key, value in (metadata.get("labels") or {}).items()
    }
    taints = spec.get("taints") or ()
    held_back = _held_back(metadata, spec, status, labels)
    return NodeRecord(
        name=name,
        labels=labels,
        taints=kept_taints(taints),
        allocatable=amounts(status.get("allocatable") or {}),
        schedulable=not held_back,
        held_back=held_back,
        capacity=_devices(status.get("capacity") or {}),
        answers=_ready(status),
    )


def amounts(resources: Mapping[str, Any]) -> dict[str, int]:
    """Allocatable, normalised and rounded down. A figure that is none is left out, never guessed."""
    found: dict[str, int] = {}
    for name, quantity in resources.items():
        try:
            read = quantities.millis_down if name == "cpu" else quantities.whole_down
            found[sys.intern(name)] = read(quantity)
        except InvalidQuantityError:
            continue
    return found


def kept_taints(taints: Sequence[Mapping[str, Any]]) -> tuple[Taint, ...]:
    """The taints that a pod has to tolerate, in an order of their own."""
    kept = [
        Taint(key=taint.get("key", ""), value=taint.get("value") or "", effect=taint["effect"])
        for taint in taints
        if taint.get("effect") in KEPT_EFFECTS and not _is_lifecycle(taint.get("key", ""))
    ]
    return tuple(sorted(kept, key=lambda taint: (taint.key, taint.value, taint.effect)))


def _devices(capacity: Mapping[str, Any]) -> dict[str, int]:
    """Extended resources of `capacity`: they tell that a device exists, never that it can be had."""
    return amounts({name: value for name, value in capacity.items() if "/" in name})


def _held_back(
    metadata: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any], labels: Mapping[str, str]
) -> str:
    """Why no pod may come now; empty where one may."""
    if metadata.get("deletionTimestamp"):
        return "is being deleted"
    if spec.get("unschedulable"):
        return "is cordoned"
    if not _ready(status):
        return "is not Ready"
    leaving = next((taint["key"] for taint in spec.get("taints") or () if _is_leaving(taint)), "")
    if leaving:
        return f"has the taint {leaving}"
    mig_state = labels.get(MIG_STATE_LABEL, "success")
    if mig_state != "success":
        return f"has its MIG layout changed ({MIG_STATE_LABEL}={mig_state})"
    return ""


def _is_lifecycle(key: str) -> bool:
    return key.startswith(LIFECYCLE_TAINT_PREFIXES) or key.endswith(_STARTUP_TAINT_SUFFIX)


def _is_leaving(taint: Mapping[str, Any]) -> bool:
    return taint.get("effect") in KEPT_EFFECTS and _is_lifecycle(taint.get("key", ""))


def _ready(status: Mapping[str, Any]) -> bool:
    """Ready=True. A listing that prints no Ready condition says nothing against the node."""
    ready = [condition for condition in status.get("conditions") or () if condition.get("type") == "Ready"]
    return all(condition.get("status") == "True" for condition in ready)
