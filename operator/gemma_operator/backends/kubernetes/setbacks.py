"""What makes a plan be left though its inputs are the same: no node in time, or an engine that refuses to start. Pure.

Both are read from facts that outlive the operator: the moments in pods and in the plan itself, the Deployment's own
word that its pods were once available, the last words of a container. A restarted operator finds the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures import Trouble
from gemma_operator.backends.kubernetes.snapshot import Child, Replica, Snapshot
from gemma_operator.hardware.pods import OVER
from gemma_operator.planner.correction import Refusal
from gemma_operator.planner.values import Plan

#: vllm/v1/core/kv_cache_utils.py, `_check_enough_kv_cache_memory`; "models's" up to 0.21.0, "model's" from 0.22.0.
_KV_REFUSAL: Final = re.compile(
    r"To serve at least one request with the models?'s max seq len \(\d+\), "
    r"\(?(?P<needed>[\d.]+) GiB KV cache is needed, "
    r"which is larger than the available KV cache memory \((?P<available>[\d.]+) GiB\)"
)
#: The same function where nothing is left at all; then the log has the figure, if it is among the last words
#: (vllm/v1/worker/gpu_worker.py, `determine_available_memory`).
_NO_KV: Final = re.compile(r"No available memory for the cache blocks")
_AVAILABLE_KV: Final = re.compile(r"Available KV cache memory: (-?[\d.]+) GiB")
#: PyTorch, c10/cuda/CUDACachingAllocator.cpp: "Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 22.03 GiB
#: of which 1.83 GiB is free." Sizes by format_size: bytes, KiB, MiB, GiB.
_CUDA: Final = re.compile(
    r"CUDA out of memory\. Tried to allocate (?P<tried>[\d.]+ (?:bytes|KiB|MiB|GiB))"
    r".*?of which (?P<free>[\d.]+ (?:bytes|KiB|MiB|GiB)) is free",
    re.DOTALL,
)
_MIB_OF: Final = {"bytes": 1 / 1024**2, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
#: apps/v1: the pods of the template as it stands were all available once, whatever became of them later.
_ONCE_AVAILABLE: Final = ("Progressing", "NewReplicaSetAvailable")


def waits_seconds(snapshot: Snapshot, *, now: datetime) -> float | None:
    """How much longer the plan's capacity is waited for, 0 or less: no longer. None where nothing is waited for.

    A plan of which one replica has a node is not left: what runs is worth more than what is missing.
    """
    plan, deployment = snapshot.plan, snapshot.deployment
    if plan is None or deployment is None or plan.inputs_hash != snapshot.inputs_hash:
        return None
    most = deployment.spec.placement.capacity_timeout_seconds
    if not most or deployment.spec.suspend:
        return None
    planned = datetime.fromisoformat(plan.planned_at)
    living = [each for each in snapshot.replicas if not each.terminating and each.phase not in OVER]
    if any(each.node and _made(each) >= planned for each in living):
        return None
    waiting = [each for each in living if each.unschedulable_message and not each.node and not each.gated]
    if not waiting:
        return None
    since = max(planned, min(map(_made, waiting)))
    return (since + timedelta(seconds=most) - now).total_seconds()


def refusal(snapshot: Snapshot) -> Refusal | None:
    """The first refusal of the plan's engines, in figures. None once the plan was corrected or proved."""
    plan, deployment = snapshot.plan, _deployment(snapshot.children)
    if plan is None or deployment is None or plan.inputs_hash != snapshot.inputs_hash:
        return None
    replicas = [each for each in snapshot.replicas if each.intent and each.intent == deployment.intent]
    if plan.correction_mib or was_available(deployment) or any(each.started for each in replicas):
        return None
    by_name = sorted(replicas, key=lambda each: each.name)
    return next((found for each in by_name if (found := read(each.terminated_message))), None)


def read(words: str) -> Refusal | None:
    """The figures of a refusal; None where there is none, or none with a figure."""
    if found := _KV_REFUSAL.search(words):
        needed, available = (round(float(found[name]) * 1024) for name in ("needed", "available"))
        return Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=needed - available, kv_cache_mib=available)
    if _NO_KV.search(words):
        said = _AVAILABLE_KV.findall(words)
        available = min(0, round(float(said[-1]) * 1024)) if said else 0
        return Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=0, kv_cache_mib=available)
    if found := _CUDA.search(words):
        short = _mib(found["tried"]) - _mib(found["free"])
        return Refusal(Reason.OUT_OF_MEMORY, short_mib=max(1, round(short)))
    return None


def told(found: Trouble, snapshot: Snapshot, plan: Plan) -> Trouble:
    """The trouble, with what was tried against it: nothing else has room, or the second plan is refused too."""
    if found.reason is Reason.UNSCHEDULABLE and snapshot.wait_over:
        after = f"placement.capacityTimeoutSeconds is over, and no other candidate has room; {found.message}"
        return replace(found, message=after)
    refused = found.final and found.reason in (Reason.KV_CACHE_TOO_SMALL, Reason.OUT_OF_MEMORY)
    if refused and plan.correction_mib and not once_available(snapshot):
        again = f"planned again with {plan.correction_mib} MiB a GPU more, and refused again: {found.message}"
        return replace(found, message=again)
    return found


def was_available(deployment: Child) -> bool:
    """Every pod of the template as it stands was available once, so its engine does start."""
    status: Mapping[str, Any] = deployment.status
    if status.get("observedGeneration") != deployment.generation:
        return False
    return any(
        (each.get("type"), each.get("reason")) == _ONCE_AVAILABLE for each in status.get("conditions", ())
    )


def once_available(snapshot: Snapshot) -> bool:
    """The same, of the Deployment among the children."""
    deployment = _deployment(snapshot.children)
    return deployment is not None and was_available(deployment)


def _deployment(children: Sequence[Child]) -> Child | None:
    return next((child for child in children if child.kind == "Deployment"), None)


def _made(replica: Replica) -> datetime:
    return datetime.fromisoformat(replica.times.made or replica.started_at)


def _mib(size: str) -> float:
    amount, unit = size.split()
    return float(amount) * _MIB_OF[unit]
