"""What a GemmaDeployment asks of the planner, without anything that cannot change its plan.

The hash of a request is the planner's memory of what it was asked: a plan stays while the hash stays, so
nothing may be in it that moves by itself, the number of replicas least of all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from typing import Final

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.api.hardware import Toleration as TolerationSpec
from gemma_operator.api.placement import CacheType
from gemma_operator.hardware import quantities
from gemma_operator.hardware.records import Toleration
from gemma_operator.planner.own_weights import OwnWeights
from gemma_operator.planner.values import (
    DRAFTING,
    LORA,
    THINKING,
    THINKING_ON_REQUEST,
    TOOL_CALLING,
    Request,
)

AUTO_ENGINE: Final = "VLLM"
#: Lists in which the order says nothing: they are sorted, so that writing them otherwise re-plans nothing.
_SETS: Final = frozenset({"pools", "accelerators", "node_selector", "tolerations", "engine_overrides"})
#: Fields that came after plans had been made: left out while they say what they said before they came.
_LATER: Final = frozenset(
    {"features", "named_features", "adapters", "own_weights", "weights_in_pod", "every_tower"}
)


def from_spec(
    namespace: str,
    spec: GemmaDeploymentSpec,
    *,
    engine_overrides: Iterable[tuple[str, str]] = (),
    default_engine: str = AUTO_ENGINE,
    default_version: str = "0.32",
) -> Request:
    """The planner's request.

    `engine_overrides` are extraArgs as the engine's module read them; a name that the planner does not reckon
    with marks the plan unverified.
    """
    serving, hardware = spec.serving, spec.hardware
    resources = spec.pod.resources
    engine = str(serving.engine.name)
    return Request(
        namespace=namespace,
        backends=tuple(str(backend) for backend in spec.placement.backends),
        variants=tuple(str(variant) for variant in spec.model.variants),
        precisions=tuple(str(precision) for precision in spec.model.precisions),
        tuning=str(spec.model.tuning),
        context_length=serving.context_length,
        concurrency=serving.concurrency,
        modalities=frozenset(str(modality) for modality in serving.effective_modalities),
        kv_cache_precision=str(serving.kv_cache_precision),
        speculative_decoding=str(serving.speculative_decoding),
        engine=default_engine if engine == "Auto" else engine,
        engine_version=serving.engine.version or default_version,
        engine_overrides=tuple(engine_overrides),
        pools=tuple(hardware.pools) or None,
        accelerators=tuple(hardware.accelerators) or None,
        max_accelerators=hardware.max_accelerators_per_replica,
        spot=str(hardware.spot),
        shared_accelerators=str(hardware.shared_accelerators) == "Allowed",
        node_selector=tuple(sorted(hardware.node_selector.items())),
        tolerations=tuple(_toleration(each) for each in hardware.tolerations),
        cpu_millis=None if resources.cpu is None else quantities.millis_up(resources.cpu),
        memory_bytes=None if resources.memory is None else quantities.whole_up(resources.memory),
        ephemeral_bytes=(
            None if resources.ephemeral_storage is None else quantities.whole_up(resources.ephemeral_storage)
        ),
        engine_image=serving.engine.image,
        features=_features(spec),
        named_features=_named_features(spec),
        adapters=len(spec.model.adapters),
        own_weights=_own_weights(spec),
        weights_in_pod=_weights_in_pod(spec),
    )


def inputs_hash(request: Request) -> str:
    """16 hexadecimal digits over everything of the request; equal in every process and version of Python."""
    document = {
        field.name: _plain(field.name, getattr(request, field.name))
        for field in fields(request)
        if field.name not in _LATER or getattr(request, field.name) != field.default
    }
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _own_weights(spec: GemmaDeploymentSpec) -> OwnWeights | None:
    source = spec.model.source
    if source is None:
        return None
    if source.hugging_face is not None:
        return OwnWeights(source.hugging_face.repo, source.hugging_face.revision)
    if source.persistent_volume_claim is not None:
        claim = source.persistent_volume_claim
        return OwnWeights(f"{claim.claim_name}/{claim.path}".rstrip("/"), None)
    return None


def _weights_in_pod(spec: GemmaDeploymentSpec) -> bool:
    source = spec.model.source
    on_a_claim = source is not None and source.persistent_volume_claim is not None
    return spec.weights.cache.type is CacheType.NONE and not on_a_claim


def _features(spec: GemmaDeploymentSpec) -> frozenset[str]:
    """What the server does beside answering. A base model has neither a chat template nor tags."""
    serving, features = spec.serving, set()
    if str(spec.model.tuning) != "Base":
        if serving.tool_calling is None or str(serving.tool_calling) == "Enabled":
            features.add(TOOL_CALLING)
        if str(serving.thinking) != "Disabled":
            features.add(THINKING)
        if str(serving.thinking) == "OnRequest":
            features.add(THINKING_ON_REQUEST)
    if spec.model.adapters:
        features.add(LORA)
    return frozenset(features)


def _named_features(spec: GemmaDeploymentSpec) -> frozenset[str]:
    named = {TOOL_CALLING} if spec.serving.tool_calling is not None else set()
    if "thinking" in spec.serving.model_fields_set:
        named |= {THINKING, THINKING_ON_REQUEST}
    # not among the features: whether there is a drafter, the plan decides
    drafting = "speculative_decoding" in spec.serving.model_fields_set
    wished = {DRAFTING} if drafting and str(spec.serving.speculative_decoding) == "Auto" else set()
    return (frozenset(named) & _features(spec)) | wished


def _toleration(toleration: TolerationSpec) -> Toleration:
    return Toleration(
        key=toleration.key,
        operator=str(toleration.operator),
        value=toleration.value,
        effect=str(toleration.effect) if toleration.effect is not None else "",
    )


def _plain(name: str, value: object) -> object:
    """A value as JSON has it; sets and lists without an order are sorted."""
    if isinstance(value, frozenset):
        return sorted(str(item) for item in value)
    if isinstance(value, OwnWeights):
        return [value.repo, value.revision]
    if isinstance(value, Toleration):
        return [value.key, value.operator, value.value, value.effect]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        items = [_plain("", item) for item in value]
        return sorted(items, key=json.dumps) if name in _SETS else items
    return value
