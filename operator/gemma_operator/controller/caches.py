"""The tables that the operator decides from, as one value, and the keys that a change in them concerns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gemma_operator.api import names
from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.optional import OptionalCache
from gemma_operator.apiserver.resources import DEPLOYMENTS
from gemma_operator.backends.kubernetes.claims import ClaimRecord
from gemma_operator.backends.kubernetes.records import (
    cut_replica,
    cut_slice,
    cut_weights_pod,
    deployment_of,
)
from gemma_operator.backends.kubernetes.snapshot import (
    Child,
    Key,
    Replica,
    ServedAddress,
    WeightsPod,
)
from gemma_operator.hardware.admissions import Admission, admission
from gemma_operator.hardware.computeclasses import ComputeClassRecord
from gemma_operator.hardware.dra import SliceRecord
from gemma_operator.hardware.namespaces import LimitRecord, QuotaRecord
from gemma_operator.hardware.nodeclaims import NodeClaimRecord
from gemma_operator.hardware.nodepools import NodePoolRecord
from gemma_operator.hardware.pods import pod_record
from gemma_operator.hardware.records import NodeRecord, PodRecord


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod as the two sides of the house see it: what it takes of its node, and whose replica it is."""

    record: PodRecord | None
    replica: Replica | None
    #: Namespace and the children's name of its GemmaDeployment.
    owner: Key | None
    #: A try of the Job that brings somebody's weights.
    weights: WeightsPod | None = None
    #: What its node said to it, where it asks for accelerators.
    admission: Admission | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """An EndpointSlice of one Service."""

    service: Key
    addresses: tuple[ServedAddress, ...]


@dataclass(frozen=True, slots=True)
class Caches:
    """Everything that is listed and watched beside our own two kinds."""

    nodes: Cache[NodeRecord]
    pods: Cache[PodSeen]
    children: Mapping[str, Cache[Child]]
    slices: Cache[Slice]
    quotas: Cache[QuotaRecord]
    limit_ranges: Cache[LimitRecord]
    claims: Cache[ClaimRecord]
    #: What a cluster may have and may lack.
    resource_slices: OptionalCache[SliceRecord]
    nodepools: OptionalCache[NodePoolRecord]
    nodeclaims: OptionalCache[NodeClaimRecord]
    computeclasses: OptionalCache[ComputeClassRecord]

    def all(self) -> tuple[Cache[Any] | OptionalCache[Any], ...]:
        """For start, stop and readiness."""
        return (
            self.nodes,
            self.pods,
            *self.children.values(),
            self.slices,
            self.quotas,
            self.limit_ranges,
            self.claims,
            self.resource_slices,
            self.nodepools,
            self.nodeclaims,
            self.computeclasses,
        )

    def pod_records(self) -> Iterator[PodRecord]:
        """Every pod that holds something of a node."""
        return (pod.record for pod in self.pods.values() if pod.record is not None)

    def carried(self, obj: Mapping[str, Any]) -> Mapping[str, str]:
        """The annotations of a GemmaDeployment's Deployment, its plan among them; none where there is none."""
        metadata = obj["metadata"]
        name = names.child_name(metadata["name"])
        child = self.children[DEPLOYMENTS.kind].get(metadata["namespace"], name)
        return child.annotations if child is not None else {}

    @property
    def synced(self) -> bool:
        """Every one was listed once."""
        return all(cache.synced.is_set() for cache in self.all())


def cut_pod(obj: Mapping[str, Any]) -> PodSeen | None:
    """What is kept of a Pod; None where it neither takes room nor is ours."""
    record, replica = pod_record(obj), cut_replica(obj)
    said = admission(obj, record.requests if record is not None else None)
    weights = cut_weights_pod(obj)
    if record is None and replica is None and said is None and weights is None:
        return None
    if weights is not None:
        owner, tried = weights
        return PodSeen(record=record, replica=None, owner=owner, weights=tried, admission=said)
    return PodSeen(record=record, replica=replica, owner=deployment_of(obj), admission=said)


def cut_addresses(obj: Mapping[str, Any]) -> Slice:
    """What is kept of an EndpointSlice."""
    service, addresses = cut_slice(obj)
    return Slice(service=service, addresses=addresses)
