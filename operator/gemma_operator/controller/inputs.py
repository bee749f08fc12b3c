"""What a GemmaDeployment asks, read once for each generation.

Parsing and hashing cost about a millisecond; a deployment is looked at many times for each time that its
spec changes. A spec that cannot be read is an answer too: `error` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemma_operator.api.parse import parse_deployment
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.engines.registry import engine_named
from gemma_operator.errors import InvalidSpec
from gemma_operator.planner.request import from_spec, inputs_hash
from gemma_operator.planner.values import Request
from gemma_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True)
class Inputs:
    """The spec as models and as the planner's request; `request` is None where it cannot be read."""

    deployment: GemmaDeployment | None
    request: Request | None
    inputs_hash: str
    unknown_arguments: tuple[str, ...]
    error: str = ""


class InputsOf:
    """Inputs by uid and generation; what went is forgotten."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._known: dict[str, tuple[int, Inputs]] = {}

    def __call__(self, obj: Mapping[str, Any]) -> Inputs:
        """The inputs of a GemmaDeployment as the server stores it."""
        uid, generation = obj["metadata"]["uid"], obj["metadata"].get("generation", 0)
        known = self._known.get(uid)
        if known is None or known[0] != generation:
            known = (generation, self._read(obj))
            self._known[uid] = known
        return known[1]

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._known.pop(uid, None)

    def _read(self, obj: Mapping[str, Any]) -> Inputs:
        try:
            deployment = parse_deployment(obj)
        except InvalidSpec as error:
            return Inputs(None, None, "", (), str(error))
        wanted = deployment.spec.serving.engine
        name = self._settings.default_engine if wanted.name == "Auto" else wanted.name.value
        version = wanted.version or self._settings.default_engine_version
        variables = [(variable.name, variable.value) for variable in wanted.env]
        extra = engine_named(name).extra_arguments(wanted.extra_args, version=version, environment=variables)
        request = from_spec(
            obj["metadata"]["namespace"],
            deployment.spec,
            engine_overrides=extra.overrides,
            default_engine=self._settings.default_engine,
            default_version=self._settings.default_engine_version,
        )
        return Inputs(deployment, request, inputs_hash(request), extra.unknown)
