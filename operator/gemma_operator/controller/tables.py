"""Makes the tables of everything that is listed and watched beside our own two kinds, each with its wake-up."""

from __future__ import annotations

from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import CHILDREN, ENDPOINT_SLICES, NODES, PODS
from gemma_operator.backends.kubernetes.records import LABEL_SELECTOR, SERVICE_NAME_LABEL, cut_child
from gemma_operator.controller.caches import Caches, cut_addresses, cut_pod
from gemma_operator.controller.wake import Wake
from gemma_operator.hardware.nodes import node_record

#: Whole pods are big: a page of them is the peak of memory while everything is listed.
_PODS_A_PAGE = 200


def tables(client: Client, wake: Wake) -> Caches:
    """Every cache, not running yet."""
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
                client, resource, cut=cut_child, label_selector=LABEL_SELECTOR, on_change=wake.child
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
    )
