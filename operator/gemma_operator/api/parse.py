"""From what stands in a yaml file or in the cluster to a model, with an error that a person can act on.

The API server refuses the same things at the same fields (tests/bad_manifests holds both to it); this is for
the command line without a cluster, and for objects that were stored under an older CRD. A field is named as
the yaml spells it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from gemma_operator.api.accelerator_pool import AcceleratorPool
from gemma_operator.api.base import ApiModel, Rule
from gemma_operator.api.deployment import GemmaDeployment
from gemma_operator.api.implemented import not_implemented_fields
from gemma_operator.api.schema import Schema, structural_schema
from gemma_operator.errors import InvalidSpec

__all__ = ["not_implemented_fields", "parse_deployment", "parse_pool", "unknown_fields"]

_Root = TypeVar("_Root", GemmaDeployment, AcceleratorPool)
# How pydantic calls what yaml calls otherwise.
_PLAIN_WORDS = {
    "missing": "Required value is missing",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "tuple_type": "must be a list",
    "string_type": "must be a string: put it in quotes",
    "int_type": "must be an integer",
    "bool_type": "must be a boolean, true or false without quotes",
}
# "Tuple should have at least 1 item after validation, not 0": yaml knows no tuples.
_COUNTED = re.compile(r"^(?:Tuple|Dictionary) should have (at .*?) after validation")


def parse_deployment(obj: Mapping[str, Any]) -> GemmaDeployment:
    """The GemmaDeployment in `obj`, or InvalidSpec with the first field that is wrong."""
    return _parse(GemmaDeployment, obj)


def parse_pool(obj: Mapping[str, Any]) -> AcceleratorPool:
    """The AcceleratorPool in `obj`, or InvalidSpec with the first field that is wrong."""
    return _parse(AcceleratorPool, obj)


def unknown_fields(obj: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields of the spec that this version does not know, which parsing ignores and strict servers refuse."""
    model = AcceleratorPool if obj.get("kind") == AcceleratorPool.__name__ else GemmaDeployment
    return tuple(_unknown(obj.get("spec"), _schema(model)["properties"]["spec"], "spec"))


def _parse(model: type[_Root], obj: Mapping[str, Any]) -> _Root:
    _refuse_another_kind(model, obj)
    if obj.get("spec") is None:
        raise InvalidSpec("spec", "Required value is missing: write `spec: {}` for all defaults")
    obj = {**obj, "spec": _without_nulls(obj["spec"])}
    _refuse_duplicates(obj["spec"], _schema(model)["properties"]["spec"], "spec")
    # Our own status is not the user's fault: one that a newer operator wrote must not stop this one.
    for candidate in (obj, {key: value for key, value in obj.items() if key != "status"}):
        try:
            parsed = model.model_validate(candidate)
        except ValidationError as error:
            wrong = next((item for item in error.errors() if item["loc"][:1] != ("status",)), None)
            if wrong is not None:
                raise _invalid(model, wrong["loc"], kind=wrong["type"], message=wrong["msg"]) from None
        else:
            break
    for path, rule in _broken_rules(parsed, ""):
        raise InvalidSpec((path + rule.field_path).lstrip("."), rule.message)
    return parsed


def _refuse_another_kind(model: type[ApiModel], obj: Mapping[str, Any]) -> None:
    for key in ("apiVersion", "kind"):
        wanted = "gemma-operator.io/v1alpha1" if key == "apiVersion" else model.__name__
        if obj.get(key, wanted) != wanted:
            raise InvalidSpec(key, f"must be {wanted}, not {obj[key]}")


def _invalid(model: type[ApiModel], loc: Sequence[str | int], *, kind: str, message: str) -> InvalidSpec:
    """What is wrong, and what the field is for: its description says what may stand there."""
    path = purpose = ""
    node: Schema = _schema(model)
    for step in loc:
        if isinstance(step, int):
            path, node = f"{path}[{step}]", node.get("items", {})
        elif step in node.get("properties", {}):
            path, node = f"{path}.{step}", node["properties"][step]
        elif isinstance(node.get("additionalProperties"), dict):
            path, node = f"{path}.{step}", node["additionalProperties"]
        elif kind == "missing" and not node.get("x-kubernetes-int-or-string"):
            path = f"{path}.{step}"  # metadata and its name, which the CRD leaves to the server
        purpose = node.get("description", purpose)
    text = _PLAIN_WORDS.get(kind, _COUNTED.sub(r"must have \1", message))
    if node.get("x-kubernetes-int-or-string"):
        text = "must be an integer or a quoted quantity"
    return InvalidSpec(path.lstrip("."), f"{text}. {purpose}".rstrip())


def _broken_rules(node: object, path: str) -> Iterator[tuple[str, Rule]]:
    """Depth first, the outer rule before the inner: as the reader meets them."""
    if isinstance(node, ApiModel):
        for rule in type(node).rules:
            if rule.holds is not None and not rule.holds(node):
                yield path, rule
        for name, field in type(node).model_fields.items():
            yield from _broken_rules(getattr(node, name), f"{path}.{field.alias or name}")
    elif isinstance(node, tuple):
        for index, item in enumerate(node):
            yield from _broken_rules(item, f"{path}[{index}]")


def _without_nulls(node: object) -> object:
    """The API server prunes a null where nothing may be null, which is everywhere but in a list."""
    if isinstance(node, Mapping):
        return {key: _without_nulls(child) for key, child in node.items() if child is not None}
    if isinstance(node, list):
        return [_without_nulls(item) for item in node]
    return node


def _refuse_duplicates(node: object, schema: Schema, path: str) -> None:
    """Sets and maps name each thing once, as the API server has it."""
    if isinstance(node, Mapping):
        for name, child in schema.get("properties", {}).items():
            if name in node:
                _refuse_duplicates(node[name], child, f"{path}.{name}")
    elif isinstance(node, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        unique = schema.get("x-kubernetes-list-type") in {"set", "map"}
        seen: list[object] = []
        for index, item in enumerate(node):
            identity = [item.get(key) for key in keys] if keys and isinstance(item, Mapping) else item
            if unique and identity in seen:
                raise InvalidSpec(f"{path}[{index}]", "Duplicate value: remove one of the two")
            seen.append(identity)
            _refuse_duplicates(item, schema.get("items", {}), f"{path}[{index}]")


def _unknown(node: object, schema: Schema, path: str) -> Iterator[str]:
    if isinstance(node, Mapping) and "properties" in schema:
        for name, child in node.items():
            if name in schema["properties"]:
                yield from _unknown(child, schema["properties"][name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _unknown(item, schema.get("items", {}), f"{path}[{index}]")


@cache
def _schema(model: type[ApiModel]) -> Schema:
    return structural_schema(model)
