"""Pods without a node."""

from __future__ import annotations

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica


def unschedulable(replica: Replica) -> Trouble | None:
    """In the scheduler's words."""
    if replica.node or not replica.unschedulable_message:
        return None
    return told(Reason.UNSCHEDULABLE, f"pod {replica.name} waits for a node", replica.unschedulable_message)


def gated(replica: Replica) -> Trouble | None:
    """Held by somebody (Kueue) until its turn comes."""
    if not replica.gated:
        return None
    what = f"pod {replica.name} is held by a scheduling gate and claims no GPU until it opens"
    return told(Reason.SCHEDULING_GATED, what)
