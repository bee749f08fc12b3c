"""AcceleratorPool: what a platform team declares about nodes that are not there yet or cannot be read."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Bool, Int, Rule, list_atomic, list_map
from gemma_operator.api.hardware import Toleration
from gemma_operator.api.meta import ObjectMeta
from gemma_operator.api.status import ConditionStatus
from gemma_operator.api.types import (
    CatalogName,
    Currency,
    LabelValue,
    MoneyAmount,
    Quantity,
    ResourceName,
    label_keys_rule,
)


class HourlyPrice(ApiModel):
    """Price of one node."""

    amount: MoneyAmount = Field(description='Decimal number as a string, for example "2.48".')
    currency: Currency = Field(description="ISO 4217 code, for example USD.")


class AcceleratorPoolSpec(ApiModel):
    """What every node of the pool has."""

    rules: ClassVar[tuple[Rule, ...]] = (label_keys_rule("nodeSelector", attribute="node_selector"),)

    accelerator: CatalogName = Field(
        description="Accelerator, by catalog name (nvidia-l4, nvidia-h100-80gb, ...)."
    )
    accelerators_per_node: Annotated[Int, Field(ge=1, le=16)] = Field(
        description="Accelerators of one node, 1 to 16."
    )
    accelerator_memory_mib: Annotated[Int, Field(ge=1024, le=4194304)] | None = Field(
        default=None,
        alias="acceleratorMemoryMiB",
        description="Memory of one accelerator in MiB, as its driver reports it. May be left out for a "
        "catalog name.",
    )
    compute_capability: (
        Annotated[str, StringConstraints(pattern=r"^[0-9]{1,2}\.[0-9]$", max_length=4)] | None
    ) = Field(
        default=None,
        description='CUDA compute capability, quoted, for example "9.0". May be left out for a catalog name.',
    )
    resource_name: ResourceName = Field(
        default="nvidia.com/gpu", description="Extended resource that pods ask for. Default: nvidia.com/gpu."
    )
    max_nodes: Annotated[Int, Field(ge=0, le=10000)] = Field(
        default=0, description="How many nodes the pool can grow to. 0 (default): it does not grow."
    )
    node_selector: Annotated[dict[str, LabelValue], Field(min_length=1, max_length=32)] = Field(
        description="Labels that tell the pool's nodes from all others; at least one."
    )
    tolerations: Annotated[tuple[Toleration, ...], list_atomic(), Field(max_length=32)] = Field(
        default=(), description="Taints of the pool's nodes that its pods tolerate."
    )
    spot: Bool = Field(
        default=False, description="Whether its nodes may be taken away at any time. Default: false."
    )
    cpu_per_node: Quantity | None = Field(
        default=None, description="Allocatable CPU of one node. Absent: not a limit."
    )
    memory_per_node: Quantity | None = Field(
        default=None, description="Allocatable memory of one node, for example 220Gi. Absent: not a limit."
    )
    ephemeral_storage_per_node: Quantity | None = Field(
        default=None, description="Allocatable scratch space of one node. Absent: not a limit."
    )
    hourly_price: HourlyPrice | None = Field(default=None, description="Price of one node an hour.")


class AcceleratorPoolStatus(ApiModel):
    """What was seen of the pool."""

    observed_generation: Annotated[Int, Field(ge=-1)] | None = Field(
        default=None, description="The generation that this status is about; -1: not looked at yet."
    )
    conditions: Annotated[tuple[ConditionStatus, ...], list_map(key="type"), Field(max_length=8)] = Field(
        default=(), description="Ready; Overlapping while nodes belong to an earlier pool."
    )
    nodes: Annotated[Int, Field(ge=0)] | None = Field(default=None, description="Nodes seen.")


class AcceleratorPool(ApiModel):
    """A pool that has no node yet, or cannot be read from labels."""

    api_version: Literal["gemma-operator.io/v1alpha1"] = "gemma-operator.io/v1alpha1"
    kind: Literal["AcceleratorPool"] = "AcceleratorPool"
    metadata: ObjectMeta
    spec: AcceleratorPoolSpec = Field(description="What every node of the pool has.")
    status: AcceleratorPoolStatus | None = Field(default=None, description="What was seen of the pool.")
