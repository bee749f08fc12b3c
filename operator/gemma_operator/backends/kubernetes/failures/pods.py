"""The first trouble of some pods, by the order in which causes are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from gemma_operator.backends.kubernetes.failures.engine import engine_said
from gemma_operator.backends.kubernetes.failures.hub import hub_said
from gemma_operator.backends.kubernetes.failures.images import image
from gemma_operator.backends.kubernetes.failures.nodes import lost, unhealthy
from gemma_operator.backends.kubernetes.failures.scheduling import gated, unschedulable
from gemma_operator.backends.kubernetes.failures.start import (
    crash_loop,
    host_out_of_memory,
    not_started,
    too_slow,
)
from gemma_operator.backends.kubernetes.failures.trouble import Trouble
from gemma_operator.backends.kubernetes.snapshot import Replica


def trouble(
    replicas: Sequence[Replica], *, lost_nodes: Collection[str] = (), budget_seconds: int | None = None
) -> Trouble | None:
    """The first trouble by the order of the readers, so that the same pods always say the same.

    Of a pod on a lost node nothing else is believed: what stands in its status is of the past.
    """
    gone = [replica for replica in replicas if replica.node in lost_nodes or replica.phase == "Unknown"]
    if gone:
        return lost(min(gone, key=lambda each: each.name))
    if found := unhealthy(replicas):
        return found
    for read in (*_READERS, lambda each: too_slow(each, budget_seconds), *_LAST):
        for replica in sorted(replicas, key=lambda each: each.name):
            if found := read(replica):
                return found
    return None


_READERS: Final[tuple[Callable[[Replica], Trouble | None], ...]] = (
    engine_said,
    image,  # before the hub: registries have the same words for too many requests, and for not answering
    hub_said,
    not_started,
    host_out_of_memory,
)
_LAST: Final[tuple[Callable[[Replica], Trouble | None], ...]] = (crash_loop, gated, unschedulable)
