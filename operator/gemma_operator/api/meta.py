"""Of Kubernetes' ObjectMeta, what this operator reads. The API server checks it; the CRDs leave it out."""

from pydantic import Field

from gemma_operator.api.base import ApiModel


class ObjectMeta(ApiModel):
    """Identity of an object."""

    name: str = Field(description="Name of the object.")
    namespace: str | None = Field(default=None, description="Its namespace; none for cluster-scoped kinds.")
    uid: str = Field(default="", description="Empty for an object that no server has seen.")
    generation: int = Field(default=0, description="Counts changes of the spec.")
    resource_version: str = Field(default="", description="Opaque.")
    creation_timestamp: str | None = Field(default=None, description="RFC 3339.")
    deletion_timestamp: str | None = Field(default=None, description="RFC 3339; present while being deleted.")
    finalizers: tuple[str, ...] = Field(default=(), description="Who must still clean up.")
    labels: dict[str, str] = Field(default={}, description="Labels.")
    annotations: dict[str, str] = Field(default={}, description="Annotations.")
