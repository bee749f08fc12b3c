"""What a replica finds on its disk: caches, shared memory, and the weights where they are brought otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes import quantities
from gemma_operator.backends.kubernetes.render_parts import Json
from gemma_operator.backends.kubernetes.render_weights import Delivery, Way, delivery
from gemma_operator.planner.values import Plan

CACHE_PATH: Final = "/cache"
_GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Storage:
    """Volumes of the pod and where the engine's container mounts them."""

    volumes: tuple[Json, ...]
    mounts: tuple[Json, ...]
    brought: Delivery


def storage(deployment: GemmaDeployment, plan: Plan) -> Storage:
    """Compiled kernels and what nothing else holds on the node's disk; /dev/shm for tensor parallelism's workers."""
    brought = delivery(deployment.spec, plan)
    volume, mount = brought.volume(read_only=brought.way is Way.SOURCE), brought.mount(read_only=True)
    shared_gib = 2 if plan.settings.tensor_parallel > 1 else 1
    return Storage(
        volumes=(
            {"name": "cache", "emptyDir": {"sizeLimit": quantities.memory(plan.demand.ephemeral_bytes)}},
            {
                "name": "shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": quantities.memory(shared_gib * _GIB)},
            },
            *((volume,) if volume else ()),
        ),
        mounts=(
            {"name": "cache", "mountPath": CACHE_PATH},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a mount of the pod's own
            *((mount,) if mount else ()),
        ),
        brought=brought,
    )
