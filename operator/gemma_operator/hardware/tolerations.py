"""Which taints a replica tolerates: the user's, the pool's, and those of GPU nodes everywhere.

A blanket `Exists` is never set: a taint that nobody named is somebody's wish to be left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gemma_operator.hardware.records import Taint, Toleration

#: Tolerated unasked. GKE and Karpenter taint with the resource's name, AKS' documentation with sku=gpu.
UNASKED: Final = (
    Toleration(key="nvidia.com/gpu", operator="Exists", value="", effect=""),
    Toleration(key="amd.com/gpu", operator="Exists", value="", effect=""),
    Toleration(key="sku", operator="Equal", value="gpu", effect=""),
)
#: Tolerated unless spot is Forbidden.
OF_SPOT: Final = (
    Toleration(key="cloud.google.com/gke-spot", operator="Exists", value="", effect=""),
    Toleration(key="kubernetes.azure.com/scalesetpriority", operator="Exists", value="", effect=""),
)
SPOT_FORBIDDEN: Final = "Forbidden"


def of_replica(
    *, users: Iterable[Toleration], pools: Iterable[Toleration], spot: str
) -> tuple[Toleration, ...]:
    """All that a replica tolerates, without doubles, in a stable order."""
    everything = (*UNASKED, *(() if spot == SPOT_FORBIDDEN else OF_SPOT), *pools, *users)
    return tuple(dict.fromkeys(everything))


def untolerated(taints: Iterable[Taint], tolerations: Iterable[Toleration]) -> tuple[Taint, ...]:
    """The taints that keep the replica off."""
    given = tuple(tolerations)
    return tuple(taint for taint in taints if not any(each.tolerates(taint) for each in given))
