"""What a GemmaDeployment asks, read once for each generation.

Parsing and hashing cost about a millisecond; a deployment is looked at many times for each time that its
spec changes. A spec that cannot be read is an answer too: `error` says why.

A spec that leaves engine or version open takes the operator's default, and keeps the one that it was planned with:
another default is no other input, since it would roll everything that runs out at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gemma_operator.api import names
from gemma_operator.api.parse import parse_deployment
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.engines.registry import ENGINES, engine_named
from gemma_operator.errors import InvalidSpec
from gemma_operator.planner.plan import from_annotation
from gemma_operator.planner.request import from_spec, inputs_hash
from gemma_operator.planner.values import Request
from gemma_operator.settings import OperatorSettings

#: Name and version of the engine that a spec gets where it names none.
Default = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec as models and as the planner's request; `request` is None where it cannot be read."""

    deployment: GemmaDeployment | None
    request: Request | None
    inputs_hash: str
    unknown_arguments: tuple[str, ...]
    error: str = ""


@dataclass(slots=True)
class _Known:
    """One generation, read with each default that it was asked for."""

    generation: int
    by_default: dict[Default, Inputs] = field(default_factory=dict)


class InputsOf:
    """Inputs by uid and generation; what went is forgotten. `carried`: the annotations of the child Deployment."""

    def __init__(
        self,
        settings: OperatorSettings,
        *,
        carried: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda _obj: {},
    ) -> None:
        self._default = (settings.default_engine, settings.default_engine_version)
        self._carried = carried
        self._known: dict[str, _Known] = {}

    def __call__(self, obj: Mapping[str, Any]) -> Inputs:
        """The inputs of a GemmaDeployment as the server stores it."""
        now = self._with(obj, self._default)
        if now.request is None or _asks_anew(obj):
            return now
        carried = self._carried(obj)
        said: Mapping[str, Any] = (obj.get("status") or {}).get("plan") or {}
        if now.inputs_hash in (carried.get(names.INPUTS_HASH), said.get("inputsHash")):
            return now
        for default, hash_ in _planned_with(carried, said):
            if default[0] in ENGINES:
                then = self._with(obj, default)
                if then.inputs_hash == hash_:
                    return then
        return now

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._known.pop(uid, None)

    def _with(self, obj: Mapping[str, Any], default: Default) -> Inputs:
        uid, generation = obj["metadata"]["uid"], obj["metadata"].get("generation", 0)
        known = self._known.get(uid)
        if known is None or known.generation != generation:
            known = self._known[uid] = _Known(generation)
        if default not in known.by_default:
            known.by_default[default] = _read(obj, default)
        return known.by_default[default]


def _asks_anew(obj: Mapping[str, Any]) -> bool:
    """The user wants a plan as it would be made today."""
    value = (obj["metadata"].get("annotations") or {}).get(names.REPLAN_REQUESTED_AT, "")
    handled = (obj.get("status") or {}).get("lastHandledReplanAt", "")
    return bool(value) and value[: names.REQUEST_MAX_LENGTH] != handled


def _planned_with(carried: Mapping[str, str], said: Mapping[str, Any]) -> Iterator[tuple[Default, str]]:
    """What the standing plans were made with: the Deployment's, else the one that the status speaks of."""
    plan = from_annotation(carried.get(names.PLAN, ""))
    if plan is not None:
        yield (plan.engine, plan.engine_version), plan.inputs_hash
    engine: Mapping[str, Any] = said.get("engine") or {}
    if engine:
        yield (str(engine.get("name")), str(engine.get("version"))), str(said.get("inputsHash"))


def _read(obj: Mapping[str, Any], default: Default) -> Inputs:
    try:
        deployment = parse_deployment(obj)
    except InvalidSpec as error:
        return Inputs(None, None, "", (), str(error))
    wanted = deployment.spec.serving.engine
    name = default[0] if wanted.name == "Auto" else wanted.name.value
    variables = [(variable.name, variable.value) for variable in wanted.env]
    extra = engine_named(name).extra_arguments(
        wanted.extra_args, version=wanted.version or default[1], environment=variables
    )
    request = from_spec(
        obj["metadata"]["namespace"],
        deployment.spec,
        engine_overrides=extra.overrides,
        default_engine=default[0],
        default_version=default[1],
    )
    return Inputs(deployment, request, inputs_hash(request), extra.unknown)
