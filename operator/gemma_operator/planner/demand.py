"""What one replica takes from its node: accelerators, and of the host what the user says or the catalog's
rule.

The weights lie in the pod's own volume while they are not cached elsewhere, so a node's scratch space is
part of what decides: a GPU whose node has a disk of 8 GiB runs no model.
"""

from __future__ import annotations

from typing import Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.planner import weights
from gemma_operator.planner.values import Candidate, ReplicaDemand, Request

MIB: Final = 1024**2
DEFAULT_RESOURCE: Final = "nvidia.com/gpu"


def demand(request: Request, candidate: Candidate, catalog: Catalog) -> ReplicaDemand:
    """The requests of one engine pod, normalised as a node's allocatable."""
    host = catalog.engines[request.engine].replica
    gpus = candidate.tensor_parallel
    memory_mib = host.memory_mib + host.memory_mib_per_accelerator * gpus
    return ReplicaDemand(
        resource_name=candidate.shape.id.resource_name if candidate.shape is not None else DEFAULT_RESOURCE,
        accelerators=gpus,
        cpu_millis=_given(request.cpu_millis, host.cpu_millis + host.cpu_millis_per_accelerator * gpus),
        memory_bytes=_given(request.memory_bytes, memory_mib * MIB),
        ephemeral_bytes=_given(
            request.ephemeral_bytes, host.ephemeral_mib * MIB + _weights(request, candidate)
        ),
    )


def _weights(request: Request, candidate: Candidate) -> int:
    if candidate.checkpoint is None or not request.weights_in_pod:
        return 0
    return weights.disk_bytes(candidate.variant, candidate.checkpoint)


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
