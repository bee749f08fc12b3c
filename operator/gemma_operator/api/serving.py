"""How the model is served: the promise to clients, and the engine behind it."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Int, Rule, list_atomic, list_map, list_set
from gemma_operator.api.owned import (
    OWNED_ARGUMENT_CEL,
    OWNED_VARIABLE_CEL,
    is_owned_argument,
    is_owned_variable,
)
from gemma_operator.api.types import ImageReference

MAX_CONTEXT_LENGTH = 262144
MAX_EDGE_CONTEXT_LENGTH = 131072  # E4B and E2B: max_position_embeddings of their config.json


class Modality(StrEnum):
    """What a request may carry beside text."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class ToolCalling(StrEnum):
    """Whether tool calls are parsed out of the answer."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class Thinking(StrEnum):
    """Whether the model thinks before it answers."""

    ON_REQUEST = "OnRequest"
    DEFAULT = "Default"
    DISABLED = "Disabled"


class SpeculativeDecoding(StrEnum):
    """Whether a drafter may be used."""

    AUTO = "Auto"
    DISABLED = "Disabled"


class KvCachePrecision(StrEnum):
    """Precision of the KV cache; a plan is never Auto."""

    AUTO = "Auto"
    BF16 = "BF16"
    FP8 = "FP8"


class EngineName(StrEnum):
    """Which model server."""

    AUTO = "Auto"
    VLLM = "VLLM"


class EnvVar(ApiModel):
    """One environment variable of the engine: a plain value, never a reference."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)] = Field(
        description="Name of the variable. Those that the operator sets itself are refused."
    )
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Its value. Secrets do not belong here."
    )


class EngineSpec(ApiModel):
    """The model server."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.image) || has(self.version)",
            message="image needs version: write the engine version that the image holds, for example "
            'version: "0.32"',
            field_path=".version",
            holds=lambda engine: engine.image is None or engine.version is not None,
            reason="FieldValueRequired",
        ),
        Rule(
            cel=OWNED_ARGUMENT_CEL,
            message="extraArgs must not hold a flag that the plan sets, a beginning of one, or a short "
            "flag: remove it and use the field for it (contextLength, concurrency, kvCachePrecision, ...), "
            "or write the long form",
            field_path=".extraArgs",
            holds=lambda engine: not any(is_owned_argument(item) for item in engine.extra_args),
            reason="FieldValueForbidden",
        ),
        Rule(
            cel=OWNED_VARIABLE_CEL,
            message="env must not hold a variable that the operator sets (tokens, caches, ports, visible "
            "devices): remove it",
            field_path=".env",
            holds=lambda engine: not any(is_owned_variable(variable.name) for variable in engine.env),
            reason="FieldValueForbidden",
        ),
    )

    name: EngineName = Field(default=EngineName.AUTO, description="Auto (default) or VLLM.")
    version: (
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?$", max_length=11)]
        | None
    ) = Field(
        default=None,
        description='Engine version as MAJOR.MINOR or MAJOR.MINOR.PATCH, quoted, without v. Default: "0.32".',
    )
    image: ImageReference | None = Field(
        default=None, description="Image of the engine instead of the published one. Needs version."
    )
    extra_args: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=4096)], ...], list_atomic(), Field(max_length=64)
    ] = Field(
        default=(),
        description="Further arguments of the engine, one word an item, long flags only. Flags that the "
        "plan sets are refused; flags that the operator does not know mark the plan unverified.",
    )
    env: Annotated[tuple[EnvVar, ...], list_map(key="name"), Field(max_length=64)] = Field(
        default=(),
        description="Further environment of the engine. Variables that the operator sets are refused.",
    )


class ServingSpec(ApiModel):
    """What clients get."""

    model_name: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,252}$", max_length=253)]
        | None
    ) = Field(
        default=None,
        description="What clients send as `model`. Default: the object's name. Stays when a re-plan "
        "changes the variant.",
    )
    context_length: Annotated[Int, Field(ge=256, le=MAX_CONTEXT_LENGTH)] | None = Field(
        default=None,
        description="Tokens in one request, prompt and answer together; E4B and E2B take 131072 at most. Absent: "
        "32768, else 16384, else 8192, the first that fits.",
    )
    concurrency: Annotated[Int, Field(ge=1, le=4096)] = Field(
        default=1,
        description="How many requests of contextLength tokens one replica holds at once. Shorter requests "
        "fit more. Default: 1.",
    )
    modalities: Annotated[tuple[Modality, ...], list_set(), Field(max_length=4)] = Field(
        default=(Modality.TEXT, Modality.IMAGE),
        description="What requests may carry: text, image, video, audio. Text is always implied. Default: "
        "text and image. Audio needs 12B, E4B or E2B.",
    )
    tool_calling: ToolCalling | None = Field(
        default=None,
        description="Whether tool calls are parsed. Default: Enabled, with model.tuning Base Disabled.",
    )
    thinking: Thinking = Field(
        default=Thinking.ON_REQUEST,
        description="OnRequest (default): off until a client asks for it. Default: on until a client "
        "switches it off. Disabled: never.",
    )
    speculative_decoding: SpeculativeDecoding = Field(
        default=SpeculativeDecoding.AUTO,
        description="Auto (default): a drafter where one is known and no setting is given up for it. "
        "Disabled: none.",
    )
    kv_cache_precision: KvCachePrecision = Field(
        default=KvCachePrecision.AUTO,
        description="Auto (default): BF16, and FP8 only where the GPU can and BF16 does not fit.",
    )
    engine: EngineSpec = Field(default=EngineSpec(), description="The model server. Not with Vertex alone.")
    startup_timeout_seconds: Annotated[Int, Field(ge=60, le=86400)] | None = Field(
        default=None,
        description="How long one replica may take to start. Absent: twice the sum of 240 seconds and what its "
        "weights take at 100 MB/s, at least 600.",
    )

    @property
    def effective_modalities(self) -> frozenset[Modality]:
        """What is served: text always is."""
        return frozenset(self.modalities) | {Modality.TEXT}
