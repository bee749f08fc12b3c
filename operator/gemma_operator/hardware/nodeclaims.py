"""Why Karpenter brings no node: the first thing that failed of a NodeClaim, in the cloud's own words.

Source: kubernetes-sigs/karpenter pkg/apis/v1/nodeclaim_status.go; a claim is launched, registered and initialised in
this order, and waits with reason AwaitingReconciliation before each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.hardware import karpenter
from gemma_operator.scrub import excerpt

_STEPS: Final = ("Launched", "Registered", "Initialized")
_WAITING: Final = frozenset({"AwaitingReconciliation", ""})


@dataclass(frozen=True, slots=True)
class NodeClaimRecord:
    """A node that a NodePool is getting: `trouble` is empty while nothing failed."""

    name: str
    nodepool: str
    trouble: str


def nodeclaim_record(obj: Mapping[str, Any]) -> NodeClaimRecord | None:
    """The record of a NodeClaim; None for one that belongs to no NodePool."""
    metadata = obj.get("metadata") or {}
    nodepool = (metadata.get("labels") or {}).get(karpenter.NODEPOOL)
    if not nodepool:
        return None
    return NodeClaimRecord(metadata.get("name", ""), nodepool, _trouble(obj.get("status") or {}))


def trouble_of(nodepool: str, claims: Iterable[NodeClaimRecord]) -> str:
    """What failed of the NodePool's claims: the first by name, so that the same claims say the same."""
    failed = [claim for claim in claims if claim.nodepool == nodepool and claim.trouble]
    return min(failed, key=lambda claim: claim.name).trouble if failed else ""


def _trouble(status: Mapping[str, Any]) -> str:
    said = {each.get("type"): each for each in status.get("conditions") or ()}
    for step in _STEPS:
        condition = said.get(step) or {}
        reason = str(condition.get("reason") or "")
        if condition.get("status") in {"False", "Unknown"} and reason not in _WAITING | {step}:
            return f"{step} failed with {reason}: {excerpt(str(condition.get('message') or ''))}"
    return ""
