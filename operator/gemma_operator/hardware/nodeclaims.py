"""Whether Karpenter brings a node, and why not: the first thing that failed of a NodeClaim, in the cloud's own words.

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
    """A node that a NodePool is getting: `trouble` is empty while nothing failed, `coming` what it waits for."""

    name: str
    nodepool: str
    trouble: str
    coming: str = ""


def nodeclaim_record(obj: Mapping[str, Any]) -> NodeClaimRecord | None:
    """The record of a NodeClaim; None for one that belongs to no NodePool."""
    metadata = obj.get("metadata") or {}
    nodepool = (metadata.get("labels") or {}).get(karpenter.NODEPOOL)
    if not nodepool:
        return None
    status = obj.get("status") or {}
    trouble = _trouble(status)
    return NodeClaimRecord(metadata.get("name", ""), nodepool, trouble, "" if trouble else _coming(status))


def words_of(nodepool: str, claims: Iterable[NodeClaimRecord]) -> str:
    """What is known of the node that the NodePool should bring: the first claim by name, one that failed before others.

    Empty where no claim says anything: every node that was asked for has come, or none was.
    """
    ours = sorted((claim for claim in claims if claim.nodepool == nodepool), key=lambda claim: claim.name)
    if failed := next((claim for claim in ours if claim.trouble), None):
        return f"its node does not come: {failed.trouble}"
    if coming := next((claim for claim in ours if claim.coming), None):
        return f"NodePool {nodepool} is bringing a node: NodeClaim {coming.name} is not {coming.coming} yet"
    return ""


def _trouble(status: Mapping[str, Any]) -> str:
    said = {each.get("type"): each for each in status.get("conditions") or ()}
    for step in _STEPS:
        condition = said.get(step) or {}
        reason = str(condition.get("reason") or "")
        if condition.get("status") in {"False", "Unknown"} and reason not in _WAITING | {step}:
            return f"{step} failed with {reason}: {excerpt(str(condition.get('message') or ''))}"
    return ""


def _coming(status: Mapping[str, Any]) -> str:
    said = {each.get("type"): each.get("status") for each in status.get("conditions") or ()}
    return next((step.lower() for step in _STEPS if said.get(step) != "True"), "")
