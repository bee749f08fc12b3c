"""What one replica takes from its node: accelerators, and of the host what the user says or the catalog's
rule.

The weights lie in the pod's own volume while they are not cached elsewhere, so a node's scratch space is
part of what decides: a GPU whose node has a disk of 8 GiB runs no model.
"""

from __future__ import annotations

from typing import Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.planner import weights
from gemma_operator.planner.values import Fit, ReplicaDemand, Request

MIB: Final = 1024**2
GIB: Final = 1024**3
DEFAULT_RESOURCE: Final = "nvidia.com/gpu"


def demand(request: Request, fit: Fit, catalog: Catalog) -> ReplicaDemand:
    """The requests of one engine pod, normalised as a node's allocatable."""
    host, candidate = catalog.engines[request.engine].replica, fit.candidate
    gpus = candidate.tensor_parallel
    memory_mib = host.memory_mib + host.memory_mib_per_accelerator * gpus
    brought = disk_bytes(fit) if request.weights_in_pod else 0
    return ReplicaDemand(
        resource_name=candidate.shape.id.resource_name if candidate.shape is not None else DEFAULT_RESOURCE,
        accelerators=gpus,
        cpu_millis=_given(request.cpu_millis, host.cpu_millis + host.cpu_millis_per_accelerator * gpus),
        memory_bytes=_given(request.memory_bytes, memory_mib * MIB),
        ephemeral_bytes=_given(request.ephemeral_bytes, host.ephemeral_mib * MIB + brought),
    )


def disk_bytes(fit: Fit) -> int:
    """What has to be brought before the engine can start: the model, and its drafter where it has one."""
    candidate = fit.candidate
    if candidate.checkpoint is None:
        return 0
    drafter = candidate.variant.drafter if fit.settings.drafting else None
    drafter_gib = drafter.disk_gib or 0.0 if drafter is not None else 0.0
    return weights.disk_bytes(candidate.variant, candidate.checkpoint) + int(drafter_gib * GIB)


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
