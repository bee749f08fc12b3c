"""Makes the tables of everything that is listed and watched beside our own two kinds, each with its wake-up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.optional import OptionalCache
from gemma_operator.apiserver.records import Change
from gemma_operator.apiserver.resources import (
    CHILDREN,
    COMPUTE_CLASSES,
    ENDPOINT_SLICES,
    JOBS,
    LIMIT_RANGES,
    NODE_CLAIMS,
    NODE_POOLS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    RESOURCE_SLICES,
    Resource,
)
from gemma_operator.backends.kubernetes.claims import cut_claim
from gemma_operator.backends.kubernetes.records import LABEL_SELECTOR, SERVICE_NAME_LABEL, cut_child
from gemma_operator.controller.caches import Caches, cut_addresses, cut_pod
from gemma_operator.controller.fleet import Beside
from gemma_operator.controller.wake import Wake
from gemma_operator.hardware.computeclasses import computeclass_record
from gemma_operator.hardware.dra import slice_record
from gemma_operator.hardware.namespaces import NamespaceRules, limit_record, quota_record
from gemma_operator.hardware.nodeclaims import nodeclaim_record
from gemma_operator.hardware.nodepools import nodepool_record
from gemma_operator.hardware.nodes import node_record

T = TypeVar("T")
OnChange = Callable[[Change[Any]], None]

#: Whole pods are big: a page of them is the peak of memory while everything is listed.
_PODS_A_PAGE = 200


def tables(client: Client, wake: Wake, *, look_again_seconds: float = 600.0) -> Caches:
    """Every cache, not running yet; kinds that may be lacking are looked for again after `look_again_seconds`."""

    def optional(
        resources: Sequence[Resource], cut: Callable[[Mapping[str, Any]], T | None], on_change: OnChange
    ) -> OptionalCache[T]:
        return OptionalCache(
            client, resources, cut=cut, on_change=on_change, look_again_seconds=look_again_seconds
        )

    return Caches(
        nodes=Cache(client, NODES, cut=node_record, on_change=wake.node, page_size=_PODS_A_PAGE),
        pods=Cache(
            client,
            PODS,
            cut=cut_pod,
            on_change=wake.pod,
            index=lambda pod: pod.owner,
            page_size=_PODS_A_PAGE,
        ),
        children={
            resource.kind: Cache(
                client,
                resource,
                cut=cut_child,
                label_selector=LABEL_SELECTOR,
                on_change=wake.job if resource is JOBS else wake.child,
            )
            for resource in CHILDREN
        },
        slices=Cache(
            client,
            ENDPOINT_SLICES,
            cut=cut_addresses,
            label_selector=SERVICE_NAME_LABEL,
            on_change=wake.slice,
            index=lambda piece: piece.service,
        ),
        quotas=Cache(client, RESOURCE_QUOTAS, cut=quota_record, on_change=wake.rules),
        limit_ranges=Cache(client, LIMIT_RANGES, cut=limit_record, on_change=wake.rules),
        claims=Cache(client, PERSISTENT_VOLUME_CLAIMS, cut=cut_claim, on_change=wake.claim),
        resource_slices=optional(RESOURCE_SLICES, slice_record, wake.hardware),
        nodepools=optional(NODE_POOLS, nodepool_record, wake.hardware),
        nodeclaims=optional(NODE_CLAIMS, nodeclaim_record, wake.nodeclaim),
        computeclasses=optional(COMPUTE_CLASSES, computeclass_record, wake.hardware),
    )


def beside(caches: Caches, *, quarantined: Callable[[], Collection[tuple[str, str]]]) -> Beside:
    """What the fleet reads beside Nodes, Pods and our own kinds."""
    return Beside(
        slices=caches.resource_slices.values,
        nodepools=caches.nodepools.values,
        nodeclaims=caches.nodeclaims.values,
        computeclasses=caches.computeclasses.values,
        rules=lambda: NamespaceRules(tuple(caches.quotas.values()), tuple(caches.limit_ranges.values())),
        quarantined=quarantined,
    )
