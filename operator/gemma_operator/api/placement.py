"""Where an endpoint may live, and where weights are kept."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from gemma_operator.api.base import ApiModel, Int, Rule, list_atomic, unique_rule
from gemma_operator.api.types import DnsSubdomain


class Backend(StrEnum):
    """Who runs the model server."""

    KUBERNETES = "Kubernetes"
    VERTEX = "Vertex"


class PlacementSpec(ApiModel):
    """Which backends, in which order."""

    rules: ClassVar[tuple[Rule, ...]] = (unique_rule("backends"),)

    backends: Annotated[tuple[Backend, ...], list_atomic(), Field(min_length=1, max_length=2)] = Field(
        default=(Backend.KUBERNETES,),
        description="Kubernetes and Vertex, the preferred one first. The next one is used only when "
        "nothing feasible is left on the first, or its capacity wait is over. Default: Kubernetes.",
    )
    capacity_timeout_seconds: Annotated[Int, Field(ge=0, le=604800)] = Field(
        default=0,
        description="How long to wait for capacity before the next candidate is taken. 0 (default): for "
        "ever.",
    )


class CacheType(StrEnum):
    """Where weights outlive a pod."""

    NONE = "None"
    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    NODE = "Node"


class WeightsCache(ApiModel):
    """Where weights outlive a pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.claimName) == (has(self.type) && self.type == 'PersistentVolumeClaim')",
            message="claimName belongs to type: PersistentVolumeClaim and is needed there: write both or "
            "neither",
            field_path=".claimName",
            holds=lambda cache: (
                (cache.claim_name is not None) == (cache.type is CacheType.PERSISTENT_VOLUME_CLAIM)
            ),
        ),
    )

    type: CacheType = Field(
        default=CacheType.NONE,
        description="None (default): each pod downloads. PersistentVolumeClaim: a claim of the own "
        "namespace. Node: a folder of the node.",
    )
    claim_name: DnsSubdomain | None = Field(
        default=None, description="The claim, if and only if type is PersistentVolumeClaim."
    )


class WeightsSpec(ApiModel):
    """How weights reach the engine."""

    cache: WeightsCache = Field(
        default=WeightsCache(), description="Where weights outlive a pod. Default: nowhere."
    )
