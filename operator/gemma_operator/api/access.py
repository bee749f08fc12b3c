"""Who may call the endpoint, and with which credentials weights are fetched."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Int, Rule, list_atomic, list_set
from gemma_operator.api.types import DnsLabel, DnsSubdomain, SecretKeySource

ApiGroup = Annotated[
    str,
    StringConstraints(
        pattern=r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253
    ),
]
ObjectKind = Annotated[
    str, StringConstraints(pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", max_length=63)
]
Port = Annotated[Int, Field(ge=1, le=65535)]
Hostname = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253
    ),
]


class ParentReference(ApiModel):
    """A Gateway or listener, as Gateway API's ParentReference has it."""

    group: ApiGroup = Field(
        default="gateway.networking.k8s.io",
        description="API group of the parent. Default: gateway.networking.k8s.io.",
    )
    kind: ObjectKind = Field(default="Gateway", description="Kind of the parent. Default: Gateway.")
    namespace: DnsLabel | None = Field(
        default=None, description="Namespace of the parent. Absent: the own one."
    )
    name: DnsSubdomain = Field(description="Name of the parent.")
    section_name: DnsSubdomain | None = Field(
        default=None, description="Listener of the Gateway. Absent: every one."
    )
    port: Port | None = Field(default=None, description="Port of the listener. Absent: every one.")


class FailureMode(StrEnum):
    """What a gateway does when the endpoint picker does not answer."""

    FAIL_CLOSE = "FailClose"
    FAIL_OPEN = "FailOpen"


class EndpointPickerPort(ApiModel):
    """Port of the endpoint picker."""

    number: Port = Field(description="Port number.")


class EndpointPickerReference(ApiModel):
    """The extension that picks a replica, as InferencePool v1 has it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.port) || (has(self.kind) && self.kind != 'Service')",
            message="a picker of kind Service needs its port: add port, for example port: {number: 9002}",
            field_path=".port",
            holds=lambda reference: reference.port is not None or reference.kind != "Service",
            reason="FieldValueRequired",
        ),
    )

    group: ApiGroup = Field(default="", description='API group of the picker. Default: "", the core group.')
    kind: ObjectKind = Field(default="Service", description="Kind of the picker. Default: Service.")
    name: DnsSubdomain = Field(description="Name of the picker, in the own namespace.")
    port: EndpointPickerPort | None = Field(
        default=None, description="Port of the picker; needed for a Service."
    )
    failure_mode: FailureMode = Field(
        default=FailureMode.FAIL_CLOSE,
        description="FailClose (default) or FailOpen, when the picker does not answer.",
    )


class InferencePoolSpec(ApiModel):
    """Routing by load and cache through an InferencePool."""

    endpoint_picker_ref: EndpointPickerReference = Field(description="The extension that picks a replica.")


class GatewaySpec(ApiModel):
    """An HTTPRoute for the endpoint."""

    parent_refs: Annotated[tuple[ParentReference, ...], list_atomic(), Field(min_length=1, max_length=16)] = (
        Field(description="Gateways that the route attaches to. Their namespaces are allowed to call.")
    )
    hostnames: Annotated[tuple[Hostname, ...], list_set(), Field(max_length=16)] = Field(
        default=(), description="Host names of the route. Absent: all of the listener."
    )
    inference_pool: InferencePoolSpec | None = Field(
        default=None, description="An InferencePool behind the route instead of the Service."
    )


class AccessSpec(ApiModel):
    """Who may call the endpoint."""

    api_key: SecretKeySource | None = Field(
        default=None, description="Key that clients must send as Bearer token."
    )
    allowed_namespaces: Annotated[tuple[DnsLabel, ...], list_set(), Field(max_length=64)] = Field(
        default=(),
        description="Namespaces whose pods may call, beside the own one and those of the gateway's parents.",
    )
    gateway: GatewaySpec | None = Field(default=None, description="An HTTPRoute for the endpoint.")


class CredentialsSpec(ApiModel):
    """Credentials for fetching weights."""

    hugging_face_token: SecretKeySource | None = Field(
        default=None,
        description="Token of the Hugging Face hub, for gated and private "
        "repositories; Google's Gemma 4 ones ask for none.",
    )
