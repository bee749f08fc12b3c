"""The cluster's hardware as values: what is kept of a Node and a Pod, and the pools they make.

A pool is a node group *and a resource name*: one node can hold whole GPUs and MIG slices. Nodes of one
group that differ in model, memory, count or taints are several pools of one name. A shape is what a plan
can be made for without asking how much is free; room is counted elsewhere (`planner.room`), because it
changes every second and shapes a few times a day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from gemma_operator.catalog.records import Price


@dataclass(frozen=True, slots=True)
class Taint:
    """A taint that keeps pods off: only NoSchedule and NoExecute are kept."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    """As the pod spec has it; an empty key with `Exists` tolerates everything."""

    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: Taint) -> bool:
        """Kubernetes' rule (k8s.io/api/core/v1 Toleration.ToleratesTaint)."""
        if self.effect and self.effect != taint.effect:
            return False
        if self.key and self.key != taint.key:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What is kept of a Node.

    `allocatable` is normalised: `cpu` in millicores, `memory` and `ephemeral-storage` in bytes, `pods` and
    extended resources as counts. `labels` are only those that a dialect or a nodeSelector may read.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Mapping[str, int]
    #: False while cordoned, NotReady or on its way out; its shape still counts, its room does not.
    schedulable: bool
    #: Why it is not schedulable, for a message; empty where it is.
    held_back: str = ""
    #: Extended resources of `capacity`: proof that a device exists, never room.
    capacity: Mapping[str, int] = field(default_factory=dict)
    #: The cluster hears of it (Ready=True): what is said of its pods is of now.
    answers: bool = True


@dataclass(frozen=True, slots=True)
class PodRecord:
    """What is kept of a Pod that is bound to a node and not over: its requests, normalised as allocatable."""

    uid: str
    namespace: str
    node: str
    requests: Mapping[str, int]
    #: (namespace, child name) of the GemmaDeployment whose replica it is: api.names.child_name of its name.
    owner: tuple[str, str] | None = None
    #: It has a deletionTimestamp: it still holds what it holds, but it is no replica any more.
    leaving: bool = False


class Sharing(Enum):
    """How one device is offered to several pods."""

    NONE = "none"
    TIME_SLICING = "time-slicing"
    MPS = "mps"
    MIG = "mig"


class PoolSource(Enum):
    """Where a pool's identity comes from, in the order in which a node is given to one."""

    ACCELERATOR_POOL = "accelerator-pool"
    KARPENTER_NODEPOOL = "karpenter-nodepool"
    COMPUTE_CLASS = "compute-class"
    GKE_NODEPOOL = "gke-nodepool"
    AKS_AGENTPOOL = "aks-agentpool"
    EKS_NODEGROUP = "eks-nodegroup"
    LKE_POOL = "lke-pool"
    OKE_POOL = "oke-pool"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class PoolId:
    """A pool's identity: unique, stable over restarts, written into the plan."""

    source: PoolSource
    name: str
    resource_name: str
    shape: str

    @property
    def sort_key(self) -> tuple[str, str, str, str]:
        """For an order that does not depend on the order of events."""
        return (self.source.value, self.name, self.resource_name, self.shape)


@dataclass(frozen=True, slots=True)
class PoolShape:
    """One kind of node of one pool, as far as a plan depends on it.

    `accelerator` is a catalog name or `unknown`. `memory_mib` is what one pod gets of one device (a MIG
    slice's own, a shared card's total ÷ clients), None where nothing tells it; `device_memory_mib` is the
    device's own, as its driver reports it. `refused` says why no plan is made for it.
    """

    id: PoolId
    accelerator: str
    product: str
    memory_mib: int | None
    compute_capability: tuple[int, int] | None
    accelerators_per_node: int
    sharing: Sharing
    clients_per_device: int
    spot: bool | None
    arch: str
    driver_major: int | None
    taints: tuple[Taint, ...]
    #: Tolerations that come with the pool itself (its ComputeClass, its AcceleratorPool).
    tolerations: tuple[Toleration, ...]
    #: Labels that a pod must select to land on this shape and on no other.
    selector: tuple[tuple[str, str], ...]
    node_price: Price | None
    verified: bool
    refused: str
    device_memory_mib: int | None = None
    #: The namespaces that the operator's poolAccess keeps it for; None: everybody's.
    namespaces: tuple[str, ...] | None = None

    @property
    def sort_key(self) -> tuple[str, ...]:
        """The pool's; of one pool the smaller node first: a node of eight is not brought for a replica of one."""
        *pool, shape = self.id.sort_key
        return (*pool, f"{self.accelerators_per_node:03}", shape)


@dataclass(frozen=True, slots=True)
class NewNode:
    """A node that the pool could still get: what it would bring, and how many more may come."""

    allocatable: Mapping[str, int]
    #: Resources that nobody declared (cpu, memory) are not checked on a node that does not exist yet.
    more_nodes: int
    #: What is left of limits that all shapes of the pool share (a NodePool's `limits`).
    limits: Mapping[str, int] = field(default_factory=dict)
    #: Labels that such a node will carry beside those of the shape's selector.
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pool:
    """A shape and the nodes that have it now; `growth` where the pool can bring nodes of this shape."""

    shape: PoolShape
    nodes: tuple[NodeRecord, ...]
    growth: NewNode | None = None
