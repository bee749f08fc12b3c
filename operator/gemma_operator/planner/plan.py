"""A plan made of a choice, and the plan as the status shows it.

The annotation of the Deployment holds the whole plan (`from_annotation` gives back what `to_annotation` was
given); the status holds what a reader needs, in MiB and percent, never a float. When only the status is
left, `from_status` finds the candidate that it speaks of among those that are feasible now, and keeps the
settings that were decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from gemma_operator.catalog.records import Catalog, Engine, Price
from gemma_operator.planner import explain
from gemma_operator.planner.annotation import from_annotation, to_annotation
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.demand import demand, disk_bytes
from gemma_operator.planner.needs import Needs
from gemma_operator.planner.own_weights import told_shape
from gemma_operator.planner.values import (
    Feasible,
    Fit,
    KvPrecision,
    Memory,
    Plan,
    PlannedMemory,
    Request,
    Settings,
)
from gemma_operator.planner.vllm import kv_cache, versions
from gemma_operator.planner.words import money
from gemma_operator.planner.worth import node_price_share

__all__ = ["from_annotation", "from_choice", "from_fit", "from_status", "money", "to_annotation", "to_status"]

MIB: Final = 1024**2


def from_choice(
    choice: Choice,
    request: Request,
    *,
    catalog: Catalog,
    inputs_hash: str,
    planned_at: str,
    unverified: Iterable[str] = (),
) -> Plan:
    """The plan of a choice that was placed. `unverified` are flags that no engine's module knows."""
    if choice.fit is None:
        raise ValueError("nothing was chosen")
    return from_fit(
        choice.fit,
        request,
        catalog=catalog,
        inputs_hash=inputs_hash,
        planned_at=planned_at,
        price=node_price_share(choice.fit),
        unverified=unverified,
        room=explain.has_room(choice),
    )


def from_fit(
    fit: Fit,
    request: Request,
    *,
    catalog: Catalog,
    inputs_hash: str,
    planned_at: str,
    price: Price | None = None,
    unverified: Iterable[str] = (),
    room: str = explain.HAS_ROOM,
) -> Plan:
    """The plan of one candidate; `room`: where and for how many replicas it has some, in words."""
    candidate = fit.candidate
    checkpoint, shape = candidate.checkpoint, candidate.shape
    if checkpoint is None or shape is None:
        raise ValueError("a plan needs a checkpoint and a pool")
    fit = replace(fit, unverified=(*fit.unverified, *unverified))
    return Plan(
        backend=candidate.backend,
        engine=request.engine,
        engine_version=request.engine_version,
        image=request.engine_image or image(catalog.engines[request.engine], request.engine_version),
        variant=candidate.variant.name,
        precision=candidate.precision,
        checkpoint_name=checkpoint.name,
        repo=checkpoint.repo,
        revision=checkpoint.revision,
        pool=shape.id,
        pool_selector=shape.selector,
        pool_tolerations=shape.tolerations,
        accelerator=shape.accelerator,
        settings=fit.settings,
        demand=demand(request, fit, catalog),
        memory=planned_memory(fit.memory),
        correction_mib=0,
        kv_tokens=fit.kv_tokens,
        weights_on_disk_bytes=disk_bytes(fit),
        tight=fit.tight,
        unverified=fit.unverified,
        hourly_cost=price,
        reason=explain.reason(fit, request, room=room),
        inputs_hash=inputs_hash,
        planned_at=planned_at,
        chat_template=checkpoint.chat_template,
        shape=told_shape(candidate.variant),
    )


def to_status(plan: Plan) -> dict[str, Any]:
    """status.plan: what is not known is left out."""
    memory = plan.memory
    status: dict[str, Any] = {
        "backend": plan.backend,
        "engine": {"name": plan.engine, "version": plan.engine_version, "image": plan.image},
        "variant": plan.variant,
        "precision": plan.precision,
        "checkpoint": {"repo": plan.repo, **({"revision": plan.revision} if plan.revision else {})},
        "pool": {
            "source": plan.pool.source.value,
            "name": plan.pool.name,
            "resourceName": plan.pool.resource_name,
            "shape": plan.pool.shape,
        },
        "accelerator": plan.accelerator,
        "acceleratorsPerReplica": plan.accelerators_per_replica,
        "contextLength": plan.settings.context_length,
        "maxSequences": plan.settings.max_sequences,
        "maxBatchedTokens": plan.settings.max_batched_tokens,
        "kvCachePrecision": plan.settings.kv_cache_precision.value,
        "gpuMemoryUtilization": plan.settings.utilization_percent,
        "memoryMiB": {
            "weights": memory.weights,
            "kvCache": memory.kv_cache,
            "overhead": memory.overhead,
            "band": memory.band,
            "total": memory.total,
        },
        "tight": plan.tight,
        "unverified": bool(plan.unverified),
        "reason": plan.reason,
        "inputsHash": plan.inputs_hash,
        "plannedAt": plan.planned_at,
    }
    if plan.correction_mib:
        status["correctionMiB"] = plan.correction_mib
    if plan.hourly_cost is not None:
        status["hourlyCost"] = {
            "amount": money(plan.hourly_cost.amount),
            "currency": plan.hourly_cost.currency,
        }
    return status


def from_status(
    status: Mapping[str, Any], feasible: Feasible, request: Request, *, catalog: Catalog
) -> Plan | None:
    """The plan that a status speaks of, with the settings that it holds; None where its candidate is gone."""
    fit = next((fit for fit in feasible.fits if _is_of(status, fit)), None)
    if fit is None:
        return None
    cost = status.get("hourlyCost")
    plan = from_fit(
        fit,
        request,
        catalog=catalog,
        inputs_hash=str(status["inputsHash"]),
        planned_at=str(status.get("plannedAt", "")),
        price=Price(Decimal(cost["amount"]), cost["currency"]) if cost else None,
    )
    memory = status["memoryMiB"]
    settings = _settings(status, fit.settings)
    return replace(
        plan,
        engine_version=str(status["engine"]["version"]),
        image=str(status["engine"].get("image", plan.image)),
        settings=settings,
        memory=PlannedMemory(
            weights=int(memory["weights"]),
            kv_cache=int(memory["kvCache"]),
            overhead=int(memory["overhead"]),
            band=int(memory["band"]),
            total=int(memory["total"]),
        ),
        kv_tokens=fit.kv_tokens
        if settings == fit.settings
        else _kv_tokens(fit, settings, int(memory["kvCache"]), request=request, catalog=catalog),
        correction_mib=int(status.get("correctionMiB", 0)),
        tight=bool(status.get("tight", False)),
        reason=str(status.get("reason", "")),
    )


def image(engine: Engine, version: str) -> str:
    """The published image of a version: as the catalog has it, else the tag of that patch release."""
    release = version if version.count(".") > 1 else f"{version}.0"
    known = engine.images.get(version) or engine.images.get(release)
    if known is not None:
        return known
    repository = next(iter(engine.images.values())).rpartition(":")[0]
    return f"{repository}:v{release}"


def planned_memory(memory: Memory) -> PlannedMemory:
    """In MiB, rounded down; the total is the sum of what is shown."""
    shown = [size // MIB for size in (memory.weights_bytes, memory.kv_cache_bytes, memory.overhead_bytes)]
    return PlannedMemory(
        weights=shown[0],
        kv_cache=shown[1],
        overhead=shown[2],
        band=memory.band_bytes // MIB,
        total=sum(shown),
    )


def _is_of(status: Mapping[str, Any], fit: Fit) -> bool:
    checkpoint, shape = fit.candidate.checkpoint, fit.candidate.shape
    if checkpoint is None or shape is None:
        return False
    pool = status["pool"]
    return (
        status["variant"] == fit.candidate.variant.name
        and status["checkpoint"]["repo"] == checkpoint.repo
        and status["checkpoint"].get("revision") == checkpoint.revision
        and status["acceleratorsPerReplica"] == fit.candidate.tensor_parallel
        and (pool["source"], pool["name"], pool["resourceName"], pool["shape"])
        == (shape.id.source.value, shape.id.name, shape.id.resource_name, shape.id.shape)
    )


def _settings(status: Mapping[str, Any], found: Settings) -> Settings:
    """The settings that were decided; what the status does not hold follows from the request."""
    return replace(
        found,
        context_length=int(status["contextLength"]),
        max_sequences=int(status["maxSequences"]),
        max_batched_tokens=int(status["maxBatchedTokens"]),
        kv_cache_precision=KvPrecision(status["kvCachePrecision"]),
        utilization_percent=int(status["gpuMemoryUtilization"]),
    )


def _kv_tokens(fit: Fit, settings: Settings, kv_cache_mib: int, *, request: Request, catalog: Catalog) -> int:
    """What the engine prints for settings that are not those of today's fit."""
    row = Needs(request, catalog).row_of(replace(fit, settings=settings))
    held = kv_cache.held_by(
        row.layout,
        available_bytes=kv_cache_mib * MIB,
        max_model_len=settings.context_length,
        rules=versions.rules(catalog.engines[request.engine], request.engine_version),
    )
    return held.tokens or 0
