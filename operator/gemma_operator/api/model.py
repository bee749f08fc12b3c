"""Which Gemma 4: variants and precisions that are allowed, and weights of one's own.

Whether a checkpoint for a variant and precision exists is the catalog's knowledge: a pair without one is a
rejected candidate, not a refused manifest.
"""

import re
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Rule, list_atomic, list_map, unique_rule
from gemma_operator.api.types import DnsSubdomain, ImageReference, RelativePath


class Variant(StrEnum):
    """The five sizes of Gemma 4, in the default order of preference."""

    V31B = "31B"
    V26B_A4B = "26B-A4B"
    V12B = "12B"
    E4B = "E4B"
    E2B = "E2B"


class Precision(StrEnum):
    """Precision of the weights, in the default order of preference."""

    BF16 = "bf16"
    FP8 = "fp8"
    NVFP4 = "nvfp4"
    W4A16 = "w4a16"


class Tuning(StrEnum):
    """Chat model or pretrained base."""

    INSTRUCT = "Instruct"
    BASE = "Base"


EDGE_VARIANTS = frozenset({Variant.E4B, Variant.E2B})
AUDIO_VARIANTS = frozenset({Variant.V12B, Variant.E4B, Variant.E2B})


class HuggingFaceSource(ApiModel):
    """A repository on the Hugging Face hub, at a fixed commit."""

    repo: Annotated[
        str,
        StringConstraints(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$", max_length=193
        ),
    ] = Field(description="Repository, as owner/name.")
    revision: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$", max_length=40)] = Field(
        description="Commit, 40 hexadecimal digits. Branches and tags are refused, because they move."
    )


class PersistentVolumeClaimSource(ApiModel):
    """A folder on a claim of the own namespace."""

    claim_name: DnsSubdomain = Field(description="Name of the PersistentVolumeClaim, in the own namespace.")
    path: RelativePath = Field(
        default="", description="Folder within the volume, relative, without `..`. Absent: its root."
    )


class ImageSource(ApiModel):
    """A folder in an OCI image, mounted as an image volume."""

    reference: ImageReference = Field(description="The image. Prefer a digest (name@sha256:...) to a tag.")
    path: RelativePath = Field(
        default="", description="Folder within the image, relative, without `..`. Absent: its root."
    )
    pull_secret_name: DnsSubdomain | None = Field(
        default=None, description="Secret with the registry's credentials, in the own namespace."
    )


_CLUSTER_HOST = r"^http://[a-z0-9]([-a-z0-9.]*[a-z0-9])?\.svc(:[0-9]{1,5})?(/.*)?$"


def _endpoint_is_safe(source: "ObjectStoreSource") -> bool:
    endpoint = source.endpoint
    return (
        endpoint is None or endpoint.startswith("https://") or re.match(_CLUSTER_HOST, endpoint) is not None
    )


class ObjectStoreSource(ApiModel):
    """A folder in a bucket."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!self.uri.contains('..')",
            message="uri must not hold `..`: write the path of the folder itself",
            field_path=".uri",
            holds=lambda source: ".." not in source.uri,
        ),
        Rule(
            cel="!has(self.endpoint) || self.endpoint.startsWith('https://') || "
            f"self.endpoint.matches(r'{_CLUSTER_HOST}')",
            message="endpoint must be https:// (http:// only for a Service of this cluster, "
            "http://NAME.NAMESPACE.svc)",
            field_path=".endpoint",
            holds=_endpoint_is_safe,
        ),
    )

    uri: Annotated[
        str,
        StringConstraints(
            pattern=r"^(gs|s3)://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/[A-Za-z0-9_=+@:,.-]+)*/?$",
            max_length=1024,
        ),
    ] = Field(description="Folder with the checkpoint: gs://BUCKET/PATH or s3://BUCKET/PATH, without `..`.")
    secret_name: DnsSubdomain | None = Field(
        default=None,
        description="Secret with the credentials, in the own namespace. Absent: the pod's own identity.",
    )
    endpoint: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
                max_length=512,
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Address of an S3-compatible store: https://, or http:// for a Service of this cluster "
        "(*.svc).",
    )


SOURCE_MEMBERS = ("hugging_face", "persistent_volume_claim", "image", "object_store")


class WeightsSource(ApiModel):
    """Where weights come from: exactly one member."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="[has(self.huggingFace), has(self.persistentVolumeClaim), has(self.image), "
            "has(self.objectStore)].filter(present, present).size() == 1",
            message="source must have exactly one of huggingFace, persistentVolumeClaim, image, "
            "objectStore: keep one",
            field_path="",
            holds=lambda source: sum(getattr(source, member) is not None for member in SOURCE_MEMBERS) == 1,
        ),
    )

    hugging_face: HuggingFaceSource | None = Field(
        default=None, description="A repository on the Hugging Face hub, at a fixed commit."
    )
    persistent_volume_claim: PersistentVolumeClaimSource | None = Field(
        default=None, description="A folder on a PersistentVolumeClaim of the own namespace."
    )
    image: ImageSource | None = Field(
        default=None,
        description="A folder in an OCI image, mounted as an image volume (needs Kubernetes 1.34).",
    )
    object_store: ObjectStoreSource | None = Field(
        default=None, description="A folder in a bucket (gs:// or s3://)."
    )


class Adapter(ApiModel):
    """One LoRA adapter that is served beside the model."""

    name: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,252}$", max_length=253)
    ] = Field(description="What clients send as `model` to use this adapter. Differs from serving.modelName.")
    source: WeightsSource = Field(description="Where the adapter's weights come from: exactly one member.")


class ModelSpec(ApiModel):
    """What may be served. The planner takes the first that fits, in the order written."""

    rules: ClassVar[tuple[Rule, ...]] = (
        unique_rule("variants"),
        unique_rule("precisions"),
        Rule(
            cel="!has(self.source) || (has(self.variants) && self.variants.size() == 1)",
            message="source needs exactly one variant: name the one that the fine-tune was made from in "
            "model.variants",
            field_path=".variants",
            holds=lambda model: model.source is None or len(model.variants) == 1,
        ),
        Rule(
            cel="!has(self.source) || (has(self.precisions) && self.precisions.size() == 1)",
            message="source needs exactly one precision: name the one of its weights in model.precisions",
            field_path=".precisions",
            holds=lambda model: model.source is None or len(model.precisions) == 1,
        ),
        Rule(
            cel="!has(self.adapters) || self.adapters.size() == 0 || (has(self.variants) && "
            "self.variants.size() == 1)",
            message="adapters need exactly one variant: name the one that they were trained on in "
            "model.variants",
            field_path=".variants",
            holds=lambda model: not model.adapters or len(model.variants) == 1,
        ),
    )

    variants: Annotated[tuple[Variant, ...], list_atomic(), Field(min_length=1, max_length=5)] = Field(
        default=tuple(Variant),
        description="Sizes that may be served, the preferred one first: 31B, 26B-A4B, 12B, E4B, E2B. "
        "Default: all, in this order.",
    )
    precisions: Annotated[tuple[Precision, ...], list_atomic(), Field(min_length=1, max_length=4)] = Field(
        default=tuple(Precision),
        description="Weight precisions that may be served, the preferred one first: bf16, fp8, nvfp4, w4a16. "
        "Default: all, in this order. Write only bf16 to insist on unquantised weights.",
    )
    tuning: Tuning = Field(
        default=Tuning.INSTRUCT,
        description="Instruct (default) is the chat model. Base is the pretrained one, which cannot call "
        "tools.",
    )
    source: WeightsSource | None = Field(
        default=None,
        description="Weights of your own instead of the published checkpoint: a fine-tune of exactly one "
        "variant in exactly one precision. Exactly one member.",
    )
    adapters: Annotated[tuple[Adapter, ...], list_map(key="name"), Field(max_length=16)] = Field(
        default=(),
        description="LoRA adapters served beside the model, each under its own name. Needs exactly one "
        "variant.",
    )
