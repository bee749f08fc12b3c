"""The Vertex AI endpoint. Present if and only if `placement.backends` lists Vertex."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Bool, Int, Rule, list_set

ScalePeriod = Annotated[Int, Field(ge=300, le=28800)]


class DeletionPolicy(StrEnum):
    """What happens to the cloud's resources when the object goes."""

    DELETE = "Delete"
    ABANDON = "Abandon"


class ScaleToZero(ApiModel):
    """Scaling to zero (preview at Vertex)."""

    idle_scaledown_seconds: ScalePeriod | None = Field(
        default=None,
        description="Idle time before the last replica goes, 300 to 28800. Absent: Vertex's own.",
    )
    min_scaleup_seconds: ScalePeriod | None = Field(
        default=None,
        description="How long a woken replica stays at least, 300 to 28800. Absent: Vertex's own.",
    )


class VertexSpec(ApiModel):
    """Project, region and machines at Vertex AI."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.project == oldSelf.project",
            message="project cannot be changed while the vertex block stays: make a new GemmaDeployment, "
            "then delete this one",
            field_path=".project",
            holds=None,
        ),
        Rule(
            cel="self.region == oldSelf.region",
            message="region cannot be changed while the vertex block stays: make a new GemmaDeployment, "
            "then delete this one",
            field_path=".region",
            holds=None,
        ),
    )

    project: Annotated[
        str, StringConstraints(pattern=r"^([a-z][-a-z0-9.:]{4,61}[a-z0-9]|[0-9]{6,20})$", max_length=63)
    ] = Field(description="Google Cloud project, by id or number. Cannot be changed.")
    region: Annotated[str, StringConstraints(pattern=r"^[a-z]+(-[a-z]+[0-9]{1,2})?$", max_length=40)] = Field(
        description="Region, for example us-central1. Cannot be changed."
    )
    endpoint: (
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$", max_length=253)] | None
    ) = Field(
        default=None,
        description="An endpoint that exists already, by id or resource name. Absent: one is made.",
    )
    machine_types: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$", max_length=63)], ...],
        list_set(),
        Field(max_length=16),
    ] = Field(
        default=(),
        description="Machine types that may be used, for example g2-standard-48. Absent: all known.",
    )
    service_account: (
        Annotated[
            str,
            StringConstraints(
                pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?@[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253
            ),
        ]
        | None
    ) = Field(default=None, description="Service account of the model server, as e-mail address.")
    accept_eula: Bool = Field(
        default=False, description="Whether the model's licence terms are accepted. Default: false."
    )
    scale_to_zero: ScaleToZero | None = Field(
        default=None, description="Scaling to zero while idle. Absent: never."
    )
    deletion_policy: DeletionPolicy = Field(
        default=DeletionPolicy.DELETE,
        description="Delete (default): endpoint and model go with the object. Abandon: they stay and are "
        "billed on.",
    )
