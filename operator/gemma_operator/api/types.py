"""Bounded strings and quantities that several parts of the API share.

Patterns are written for Go's RE2, which the API server runs, and for pydantic's engine alike: no look-around.
"""

import re
from typing import Annotated

from pydantic import Field, StrictInt, StringConstraints

from gemma_operator.api.base import ApiModel, Rule

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
DnsSubdomain = Annotated[
    str,
    StringConstraints(
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253
    ),
]
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)
]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
CatalogName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]
# Inside a volume, an image or a bucket: relative, and no segment begins with two dots.
RelativePath = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\.?[A-Za-z0-9_-][A-Za-z0-9._-]*(/\.?[A-Za-z0-9_-][A-Za-z0-9._-]*)*/?)?$", max_length=1024
    ),
]
ImageReference = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$", max_length=512)
]
ResourceName = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        max_length=253,
    ),
]
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]{1,2})?$"
# An unquoted 0.5 is a float, and no int-or-string: yaml and JSON readers do not agree on what it says.
Quantity = Annotated[
    Annotated[StrictInt, Field(ge=0, le=2**53 - 1)]
    | Annotated[str, StringConstraints(pattern=QUANTITY_PATTERN, max_length=32)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]

MoneyAmount = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$", max_length=16)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$", max_length=3)]

LABEL_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
_LABEL_KEY = re.compile(LABEL_KEY_PATTERN)
LABEL_KEY_MAX_LENGTH = 317  # a DNS subdomain, a slash and a name


class LocalObjectReference(ApiModel):
    """The name of an object in the deployment's own namespace."""

    name: DnsSubdomain = Field(description="Name of the object, in the namespace of the GemmaDeployment.")


class SecretKeySelector(ApiModel):
    """One key of one Secret of the own namespace."""

    name: DnsSubdomain = Field(description="Name of the Secret, in the namespace of the GemmaDeployment.")
    key: SecretKey = Field(description="Key within the Secret's data.")


class SecretKeySource(ApiModel):
    """A value that stands in a Secret, never in the object itself."""

    secret_key_ref: SecretKeySelector = Field(description="Which key of which Secret holds the value.")


def label_keys_rule(field: str, *, attribute: str) -> Rule:
    """The keys of a map are label keys; an OpenAPI schema can only speak of values."""
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(k, k.size() <= {LABEL_KEY_MAX_LENGTH} && "
        f"k.matches(r'{LABEL_KEY_PATTERN}'))",
        message=f"{field} has a key that is no label key: write NAME or PREFIX/NAME, letters, digits, `-`, "
        "`_` and `.`",
        field_path=f".{field}",
        holds=lambda owner: all(
            len(key) <= LABEL_KEY_MAX_LENGTH and _LABEL_KEY.match(key) for key in getattr(owner, attribute)
        ),
    )
