"""The ground that all API models stand on: spelling, strictness, and rules that one field cannot say.

A `Rule` carries its CEL for the API server and its Python twin for objects that no server of this version
has seen (the command line, or an object stored before the rule existed); both share one message. Integers
and booleans are strict because the API server is: what it refuses, `plan -f` refuses too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, Strict
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

Reason = Literal[
    "FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"
]  # Duplicate drops the message


@dataclass(frozen=True, slots=True)
class Rule:
    """One sentence about an object: `message` says what to change when it does not hold."""

    cel: str
    message: str
    field_path: str  # below the object that the rule stands on; empty: that object itself
    holds: Callable[[Any], bool] | None  # None: about a change, which only the API server sees
    reason: Reason = "FieldValueInvalid"

    def to_validation(self) -> dict[str, str]:
        """As `x-kubernetes-validations` has it."""
        where = {"fieldPath": self.field_path} if self.field_path else {}
        return {"rule": self.cel, "message": self.message, **where, "reason": self.reason}


class ApiModel(BaseModel):
    """A part of an API object. Unknown fields are ignored: a newer CRD must not break an older operator."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        serialize_by_alias=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        own = handler.resolve_ref_schema(schema)
        if cls.rules:
            own["x-kubernetes-validations"] = [rule.to_validation() for rule in cls.rules]
        return schema


def unique_rule(field: str, *, attribute: str | None = None) -> Rule:
    """An ordered list names each value once. (A set would lose the order in server-side apply.)"""
    name = attribute or field
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(item, self.{field}.exists_one(other, other == item))",
        message=f"{field} must not name the same value twice: remove the second one",
        field_path=f".{field}",
        holds=lambda owner: len(set(getattr(owner, name))) == len(getattr(owner, name)),
    )


def list_set(**bounds: int) -> object:
    """A list without order: server-side apply merges it."""
    return Field(json_schema_extra={"x-kubernetes-list-type": "set", **_camel(bounds)})


def list_map(*, key: str, **bounds: int) -> object:
    """A list of objects told apart by `key`."""
    extra: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}
    return Field(json_schema_extra=extra | _camel(bounds))


def list_atomic(**bounds: int) -> object:
    """A list whose order has a meaning: one writer owns it whole."""
    return Field(json_schema_extra={"x-kubernetes-list-type": "atomic", **_camel(bounds)})


def _camel(bounds: Mapping[str, int]) -> dict[str, Any]:
    return {to_camel(name): value for name, value in bounds.items()}


Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
