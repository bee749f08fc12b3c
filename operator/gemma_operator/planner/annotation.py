"""A plan as the one line of JSON that the Deployment carries, and back.

Everything of the plan is in it, so that it can be rendered and claimed with no fleet and no catalog at
hand. A text that cannot be read (a user's edit, a newer operator) gives None: the plan is then found by
another way, and reading a child never ends a process. Members that a plan does not have are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from gemma_operator.catalog.records import Price
from gemma_operator.hardware.records import PoolId, PoolSource, Toleration
from gemma_operator.planner.values import (
    Adapters,
    Drafting,
    KvPrecision,
    LeftPool,
    Plan,
    PlannedMemory,
    ReplicaDemand,
    Settings,
)


def to_annotation(plan: Plan) -> str:
    """Compact JSON; the same plan gives the same text."""
    return json.dumps(_document(plan), separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def from_annotation(text: str) -> Plan | None:
    """The plan, or None where the text holds none."""
    try:
        return _plan(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
        return None


def _document(plan: Plan) -> dict[str, Any]:
    cost = plan.hourly_cost
    return {
        "backend": plan.backend,
        "engine": plan.engine,
        "engineVersion": plan.engine_version,
        "image": plan.image,
        "variant": plan.variant,
        "precision": plan.precision,
        "checkpoint": plan.checkpoint_name,
        "repo": plan.repo,
        "revision": plan.revision,
        "pool": _pool(plan.pool),
        "poolSelector": [list(pair) for pair in plan.pool_selector],
        "poolTolerations": [[t.key, t.operator, t.value, t.effect] for t in plan.pool_tolerations],
        "accelerator": plan.accelerator,
        "settings": _settings_document(plan.settings),
        "demand": {
            "resourceName": plan.demand.resource_name,
            "accelerators": plan.demand.accelerators,
            "cpuMillis": plan.demand.cpu_millis,
            "memoryBytes": plan.demand.memory_bytes,
            "ephemeralBytes": plan.demand.ephemeral_bytes,
        },
        "memoryMiB": {
            "weights": plan.memory.weights,
            "kvCache": plan.memory.kv_cache,
            "overhead": plan.memory.overhead,
            "band": plan.memory.band,
            "total": plan.memory.total,
        },
        "correctionMiB": plan.correction_mib,
        "kvTokens": plan.kv_tokens,
        "weightsOnDiskBytes": plan.weights_on_disk_bytes,
        "tight": plan.tight,
        "unverified": list(plan.unverified),
        "hourlyCost": None if cost is None else [str(cost.amount), cost.currency],
        "reason": plan.reason,
        "inputsHash": plan.inputs_hash,
        "plannedAt": plan.planned_at,
        **({"chatTemplate": plan.chat_template} if plan.chat_template else {}),
        **({"shape": [list(pair) for pair in plan.shape]} if plan.shape else {}),
        **(
            {"left": [[*_pool(each.pool), each.after_seconds, each.room] for each in plan.left]}
            if plan.left
            else {}
        ),
    }


def _pool(pool: PoolId) -> list[str]:
    return [pool.source.value, pool.name, pool.resource_name, pool.shape]


def _settings_document(settings: Settings) -> dict[str, Any]:
    return {
        "contextLength": settings.context_length,
        "maxSequences": settings.max_sequences,
        "maxBatchedTokens": settings.max_batched_tokens,
        "kvCachePrecision": settings.kv_cache_precision.value,
        "tensorParallel": settings.tensor_parallel,
        "utilizationPercent": settings.utilization_percent,
        "modalityLimits": [list(pair) for pair in settings.modality_limits],
        "asyncScheduling": settings.async_scheduling,
        "enforceEager": settings.enforce_eager,
        **({"drafting": [settings.drafting.repo, settings.drafting.tokens]} if settings.drafting else {}),
        **({"adapters": [settings.adapters.count, settings.adapters.rank]} if settings.adapters else {}),
    }


def _plan(document: Mapping[str, Any]) -> Plan:
    source, name, resource_name, shape = document["pool"]
    demand, memory, cost = document["demand"], document["memoryMiB"], document["hourlyCost"]
    return Plan(
        backend=document["backend"],
        engine=document["engine"],
        engine_version=document["engineVersion"],
        image=document["image"],
        variant=document["variant"],
        precision=document["precision"],
        checkpoint_name=document["checkpoint"],
        repo=document["repo"],
        revision=document["revision"],
        pool=PoolId(PoolSource(source), name, resource_name, shape),
        pool_selector=tuple((key, value) for key, value in document["poolSelector"]),
        pool_tolerations=tuple(Toleration(*parts) for parts in document["poolTolerations"]),
        accelerator=document["accelerator"],
        settings=_settings(document["settings"]),
        demand=ReplicaDemand(
            resource_name=demand["resourceName"],
            accelerators=demand["accelerators"],
            cpu_millis=demand["cpuMillis"],
            memory_bytes=demand["memoryBytes"],
            ephemeral_bytes=demand["ephemeralBytes"],
        ),
        memory=PlannedMemory(
            weights=memory["weights"],
            kv_cache=memory["kvCache"],
            overhead=memory["overhead"],
            band=memory["band"],
            total=memory["total"],
        ),
        correction_mib=document["correctionMiB"],
        kv_tokens=document["kvTokens"],
        weights_on_disk_bytes=document["weightsOnDiskBytes"],
        tight=document["tight"],
        unverified=tuple(document["unverified"]),
        hourly_cost=None if cost is None else Price(Decimal(cost[0]), cost[1]),
        reason=document["reason"],
        inputs_hash=document["inputsHash"],
        planned_at=document["plannedAt"],
        chat_template=document.get("chatTemplate", ""),
        shape=tuple((name, value) for name, value in document.get("shape", ())),
        left=tuple(
            LeftPool(PoolId(PoolSource(source), *names), seconds, room)
            for source, *names, seconds, room in document.get("left", ())
        ),
    )


def _settings(document: Mapping[str, Any]) -> Settings:
    return Settings(
        context_length=document["contextLength"],
        max_sequences=document["maxSequences"],
        max_batched_tokens=document["maxBatchedTokens"],
        kv_cache_precision=KvPrecision(document["kvCachePrecision"]),
        tensor_parallel=document["tensorParallel"],
        utilization_percent=document["utilizationPercent"],
        modality_limits=tuple((modality, limit) for modality, limit in document["modalityLimits"]),
        async_scheduling=document["asyncScheduling"],
        enforce_eager=document["enforceEager"],
        drafting=Drafting(*document["drafting"]) if "drafting" in document else None,
        adapters=Adapters(*document["adapters"]) if "adapters" in document else None,
    )
