"""From what pydantic says of a model to what a structural schema of Kubernetes may say.

References are put in place, nulls and titles dropped, defaults kept only where the field asks for it
(`x-crd-default`): stored defaults freeze, the model's own do not. Kept out: everything that is not a schema,
see `crd`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

# Order of the keys of one node in the output; a key that stands nowhere here is an error, not a guess.
_KEY_ORDER = (
    "description",
    "type",
    "format",
    "enum",
    "default",
    "anyOf",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "items",
    "additionalProperties",
    "required",
    "properties",
    "x-kubernetes-validations",
)
_DROPPED = {"title", "default", "x-crd-default", "const", "$ref", "$defs"}


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of `model`, without references."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(schema, schema.get("$defs", {}))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    node = _without_null(_inline(node, definitions), definitions)
    converted: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "x-crd-default" in node:
        converted["default"] = node["x-crd-default"]
    if "const" in node:
        converted["enum"] = [node["const"]]
    if "description" in converted:
        converted["description"] = " ".join(converted["description"].split())
    if converted.get("x-kubernetes-int-or-string"):
        _write_int_or_string(converted)
    if "items" in converted:
        converted["items"] = _convert(converted["items"], definitions)
    if isinstance(converted.get("additionalProperties"), dict):
        converted["additionalProperties"] = _convert(converted["additionalProperties"], definitions)
    if "properties" in converted:
        converted["properties"] = {
            name: _convert(child, definitions) for name, child in converted["properties"].items()
        }
    return {key: converted[key] for key in sorted(converted, key=_KEY_ORDER.index)}


def _inline(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """What stands beside a reference (the field's own description) wins over what it points at.

    An enum's description speaks of the class, not of the field, so it is left out.
    """
    if "$ref" not in node:
        return dict(node)
    target = dict(definitions[node["$ref"].rpartition("/")[2]])
    if "enum" in target:
        target.pop("description", None)
    return target | {key: value for key, value in node.items() if key != "$ref"}


def _without_null(node: Schema, definitions: Mapping[str, Any]) -> Schema:
    """`X | None` is an optional X: absent and null are not the same, and null is not stored."""
    members = [member for member in node.get("anyOf", ()) if member != {"type": "null"}]
    if len(members) != 1:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return _without_null(_inline(members[0], definitions), definitions) | rest


def _write_int_or_string(node: Schema) -> None:
    """Both members of `int | str` put their bounds on the node; a bound looks only at its own type."""
    for member in node.pop("anyOf"):
        node.update({key: value for key, value in member.items() if key != "type"})
    node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
