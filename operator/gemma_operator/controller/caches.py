"""The tables that the operator decides from, as one value, and the keys that a change in them concerns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemma_operator.apiserver.cache import Cache
from gemma_operator.backends.kubernetes.records import cut_replica, cut_slice, deployment_of
from gemma_operator.backends.kubernetes.snapshot import Child, Key, Replica, ServedAddress
from gemma_operator.hardware.pods import pod_record
from gemma_operator.hardware.records import NodeRecord, PodRecord


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod as the two sides of the house see it: what it takes of its node, and whose replica it is."""

    record: PodRecord | None
    replica: Replica | None
    #: Namespace and the children's name of its GemmaDeployment.
    owner: Key | None


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

    def all(self) -> tuple[Cache[Any], ...]:
        """For start, stop and readiness."""
        return (self.nodes, self.pods, *self.children.values(), self.slices)

    @property
    def synced(self) -> bool:
        """Every one was listed once."""
        return all(cache.synced.is_set() for cache in self.all())


def cut_pod(obj: Mapping[str, Any]) -> PodSeen | None:
    """What is kept of a Pod; None where it neither takes room nor is ours."""
    record, replica = pod_record(obj), cut_replica(obj)
    if record is None and replica is None:
        return None
    return PodSeen(record=record, replica=replica, owner=deployment_of(obj))


def cut_addresses(obj: Mapping[str, Any]) -> Slice:
    """What is kept of an EndpointSlice."""
    service, addresses = cut_slice(obj)
    return Slice(service=service, addresses=addresses)
