"""Which hardware may be used. Names are the user's words; `hardware` finds what they stand for."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Int, Rule, list_atomic, list_set
from gemma_operator.api.types import (
    LABEL_KEY_PATTERN,
    CatalogName,
    LabelValue,
    label_keys_rule,
)


class PoolSource(StrEnum):
    """Who says which nodes belong together."""

    ACCELERATOR_POOL = "accelerator-pool"
    KARPENTER_NODEPOOL = "karpenter-nodepool"
    COMPUTE_CLASS = "compute-class"
    GKE_NODEPOOL = "gke-nodepool"
    AKS_AGENTPOOL = "aks-agentpool"
    EKS_NODEGROUP = "eks-nodegroup"
    LKE_POOL = "lke-pool"
    OKE_POOL = "oke-pool"
    GROUP = "group"


class Spot(StrEnum):
    """Whether nodes that may be taken away are used."""

    FORBIDDEN = "Forbidden"
    ALLOWED = "Allowed"
    REQUIRED = "Required"


class SharedAccelerators(StrEnum):
    """Whether time-sliced or MPS-shared devices are used."""

    FORBIDDEN = "Forbidden"
    ALLOWED = "Allowed"


class TolerationOperator(StrEnum):
    """As Kubernetes has it."""

    EQUAL = "Equal"
    EXISTS = "Exists"


class TaintEffect(StrEnum):
    """As Kubernetes has it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A toleration as Pods have it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.key) && self.key != '' || (has(self.operator) && self.operator == 'Exists')",
            message="a toleration without key needs operator: Exists, which tolerates every taint",
            field_path=".operator",
            holds=lambda toleration: bool(toleration.key) or toleration.operator is TolerationOperator.EXISTS,
            reason="FieldValueRequired",
        ),
        Rule(
            cel="!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''",
            message="a toleration with operator Exists takes no value: remove value, or write operator: "
            "Equal",
            field_path=".value",
            holds=lambda toleration: (
                toleration.operator is not TolerationOperator.EXISTS or not toleration.value
            ),
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            message="tolerationSeconds needs effect: NoExecute",
            field_path=".tolerationSeconds",
            holds=lambda toleration: (
                toleration.toleration_seconds is None or toleration.effect is TaintEffect.NO_EXECUTE
            ),
        ),
    )

    key: Annotated[str, StringConstraints(pattern=f"^$|{LABEL_KEY_PATTERN}", max_length=317)] = Field(
        default="", description="Key of the taint. Empty, with operator Exists: every taint."
    )
    operator: TolerationOperator = Field(
        default=TolerationOperator.EQUAL, description="Equal (default) compares the value, Exists does not."
    )
    value: LabelValue = Field(default="", description="Value of the taint, with operator Equal.")
    effect: TaintEffect | None = Field(default=None, description="Effect of the taint. Absent: every effect.")
    toleration_seconds: Annotated[Int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="How long a NoExecute taint is tolerated. Absent: for ever."
    )


PoolName = Annotated[
    str,
    StringConstraints(
        pattern=r"^((" + "|".join(PoolSource) + r")/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        max_length=253,
    ),
]


class HardwareSpec(ApiModel):
    """What the planner may choose from."""

    rules: ClassVar[tuple[Rule, ...]] = (label_keys_rule("nodeSelector", attribute="node_selector"),)

    pools: Annotated[tuple[PoolName, ...], list_set(), Field(max_length=32)] = Field(
        default=(),
        description="Node pools that may be used, as name or source/name (gke-nodepool/l4, "
        "accelerator-pool/h100, ...). A name selects every pool of that name. Absent or empty: all.",
    )
    accelerators: Annotated[tuple[CatalogName, ...], list_set(), Field(max_length=32)] = Field(
        default=(),
        description="Accelerators that may be used, by catalog name (nvidia-l4, nvidia-h100-80gb, ...). "
        "Absent or empty: all.",
    )
    max_accelerators_per_replica: Annotated[Int, Field(ge=1, le=8)] = Field(
        default=8,
        description="Ceiling of GPUs in one replica. Replicas take 1, 2, 4 or 8, so 3 means 2. Default: 8.",
    )
    spot: Spot = Field(
        default=Spot.FORBIDDEN,
        description="Forbidden (default), Allowed or Required. A node of unknown kind counts as not spot.",
    )
    shared_accelerators: SharedAccelerators = Field(
        default=SharedAccelerators.FORBIDDEN,
        description="Whether time-sliced or MPS-shared GPUs may be used. A MIG slice is a whole device and "
        "always may. Default: Forbidden.",
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default={}, description="Labels that a node must have before pools are formed of what is left."
    )
    tolerations: Annotated[tuple[Toleration, ...], list_atomic(), Field(max_length=32)] = Field(
        default=(),
        description="Taints tolerated beside those of GPUs and, unless spot is Forbidden, of spot nodes.",
    )
