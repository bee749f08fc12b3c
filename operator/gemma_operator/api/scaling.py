"""How many replicas, and how one generation follows another."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Int, Rule


class WakeSource(ApiModel):
    """What tells that a deployment at zero is wanted."""

    prometheus_query: Annotated[str, StringConstraints(min_length=1, max_length=4096)] = Field(
        description="PromQL expression; a value above 0 wakes the deployment."
    )


class AutoscalingSpec(ApiModel):
    """Bounds and signals of scaling."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="(has(self.minReplicas) ? self.minReplicas : 1) <= self.maxReplicas",
            message="minReplicas must not be above maxReplicas: raise maxReplicas or lower minReplicas",
            field_path=".minReplicas",
            holds=lambda autoscaling: autoscaling.min_replicas <= autoscaling.max_replicas,
        ),
    )

    min_replicas: Annotated[Int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Lower bound. 0 needs wakeSource (Kubernetes) or vertex.scaleToZero (Vertex). Default: "
        "1.",
    )
    max_replicas: Annotated[Int, Field(ge=1, le=1000)] = Field(description="Upper bound.")
    waiting_requests_per_replica: Annotated[Int, Field(ge=1, le=100000)] | None = Field(
        default=None, description="Waiting requests a replica above which replicas are added."
    )
    kv_cache_utilization_percent: Annotated[Int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Use of the KV cache above which replicas are added."
    )
    scale_down_delay_seconds: Annotated[Int, Field(ge=0, le=86400)] | None = Field(
        default=None,
        description="How long load must be low before a replica goes. Absent: reckoned from the start-up.",
    )
    wake_source: WakeSource | None = Field(
        default=None, description="What wakes a deployment at zero; needed in the cluster with minReplicas 0."
    )


class RolloutStrategy(StrEnum):
    """How one generation follows another."""

    AUTO = "Auto"
    SURGE = "Surge"
    RECREATE = "Recreate"


class RolloutSpec(ApiModel):
    """How one generation follows another."""

    strategy: RolloutStrategy = Field(
        default=RolloutStrategy.AUTO,
        description="Auto (default): Surge where a spare replica's GPUs are free, else Recreate. Surge: a new "
        "replica serves before an old one goes. Recreate: one replica goes before its successor starts.",
    )
    drain_seconds: Annotated[Int, Field(ge=0, le=3600)] | None = Field(
        default=None,
        description="How long a replica that goes may finish its requests. Default: 60.",
    )
