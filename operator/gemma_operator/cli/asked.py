"""A GemmaDeployment from a file, as the planner is asked: read and refused as the API server would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.api.deployment import GemmaDeployment
from gemma_operator.api.parse import not_implemented_fields, parse_deployment
from gemma_operator.cli import documents, fields
from gemma_operator.engines.registry import engine_named
from gemma_operator.errors import InvalidSpec, UsageError
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.values import Request
from gemma_operator.settings import OperatorSettings

KIND: Final = "GemmaDeployment"
_DEFAULTS: Final = OperatorSettings()
#: Names that the API server takes, of an object and of a namespace (RFC 1123).
_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_NAMESPACE: Final = re.compile(_LABEL)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a GemmaDeployment asks of the planner."""

    deployment: GemmaDeployment
    namespace: str
    request: Request
    #: Engine arguments that no list knows: the plan is unverified.
    unknown_arguments: tuple[str, ...]

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.deployment.metadata.name


def from_file(path: str, settings: OperatorSettings = _DEFAULTS, *, namespace: str | None = None) -> Asked:
    """The one GemmaDeployment of a file, with the operator's settings; `namespace` is of one that names none."""
    found = [obj for obj in documents.objects(path) if obj.get("kind") == KIND]
    if len(found) != 1:
        names = ", ".join(str((obj.get("metadata") or {}).get("name", "?")) for obj in found)
        raise UsageError(
            f"{path} holds {len(found)} GemmaDeployments{f' ({names})' if names else ''}: give one"
        )
    try:
        fields.refuse_unknown(found[0])
        question = from_object(found[0], settings, namespace=namespace)
    except InvalidSpec as error:
        raise UsageError(f"{path}: {error}") from error
    _refuse_names(path, question)
    return question


def _refuse_names(path: str, question: Asked) -> None:
    namespace, name = question.key
    if not _NAME.fullmatch(name):
        raise UsageError(f"{path}: metadata.name: {name!r} is no name: lower-case letters, digits, - and .")
    if not _NAMESPACE.fullmatch(namespace):
        raise UsageError(f"{path}: namespace {namespace!r} is no name: lower-case letters, digits and -")


def from_object(
    obj: Mapping[str, Any], settings: OperatorSettings = _DEFAULTS, *, namespace: str | None = None
) -> Asked:
    """The question in a GemmaDeployment; InvalidSpec names the field that is wrong or not there yet."""
    deployment = parse_deployment(obj)
    missing = not_implemented_fields(deployment.spec)
    if missing:
        raise InvalidSpec(f"spec.{missing[0]}", "this version has no part that does it yet")
    engine = deployment.spec.serving.engine
    name = settings.default_engine if engine.name == "Auto" else engine.name.value
    variables = [(variable.name, variable.value) for variable in engine.env]
    extra = engine_named(name).extra_arguments(
        engine.extra_args, version=engine.version or settings.default_engine_version, environment=variables
    )
    written = str((obj.get("metadata") or {}).get("namespace") or "")
    if written and namespace and written != namespace:
        raise UsageError(f"--namespace {namespace}: the GemmaDeployment says metadata.namespace {written}")
    asks_in = written or namespace or "default"
    request = from_spec(
        asks_in,
        deployment.spec,
        engine_overrides=extra.overrides,
        default_engine=settings.default_engine,
        default_version=settings.default_engine_version,
    )
    return Asked(deployment, asks_in, request, extra.unknown)
