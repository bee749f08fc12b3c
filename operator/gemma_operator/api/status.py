"""What the operator says about a GemmaDeployment. The whole stays below 8 KiB and holds no float."""

from typing import Annotated

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Bool, Int, list_atomic, list_map
from gemma_operator.api.types import Currency, MoneyAmount

Text = Annotated[str, StringConstraints(max_length=512)]
Word = Annotated[str, StringConstraints(max_length=253)]
Size = Annotated[Int, Field(ge=0)]


class ConditionStatus(ApiModel):
    """One condition, as Kubernetes has it."""

    type: Annotated[str, StringConstraints(max_length=63)] = Field(description="What the condition is about.")
    status: Annotated[str, StringConstraints(pattern="^(True|False|Unknown)$", max_length=7)] = Field(
        description="True, False or Unknown."
    )
    observed_generation: Size | None = Field(default=None, description="The generation that this is said of.")
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="When status changed last."
    )
    reason: Annotated[str, StringConstraints(max_length=63)] = Field(
        description="One word of a closed list, see the project's docs/conditions.md."
    )
    message: Text = Field(default="", description="A sentence for people, with the remedy.")


class PlannedEngine(ApiModel):
    """Engine of the plan."""

    name: Word = Field(description="Name of the engine.")
    version: Word = Field(description="Version of the engine.")
    image: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Image of the engine."
    )


class PlannedCheckpoint(ApiModel):
    """Checkpoint of the plan."""

    repo: Text = Field(description="Repository or place of the weights.")
    revision: Word | None = Field(default=None, description="Its revision; absent where unknown.")


class PlannedPool(ApiModel):
    """Pool of the plan: its whole identity."""

    source: Word = Field(description="Who says which nodes belong to it.")
    name: Word = Field(description="Its name.")
    resource_name: Word = Field(description="The extended resource that is asked for.")
    shape: Word = Field(description="Hash of what its nodes have in common.")


class PlannedMemory(ApiModel):
    """Memory of each GPU, in MiB."""

    weights: Size = Field(description="Weights.")
    kv_cache: Size = Field(description="What the engine will reserve for the KV cache.")
    overhead: Size = Field(description="Activations, CUDA graphs, sampler and runtime.")
    band: Size = Field(description="How far the estimate may be off either way.")
    total: Size = Field(description="Weights, KV cache and overhead, without the band.")


class Cost(ApiModel):
    """Money an hour."""

    amount: MoneyAmount = Field(description="Decimal number.")
    currency: Currency = Field(description="ISO 4217 code.")


class Plan(ApiModel):
    """What was decided."""

    backend: Word = Field(description="Kubernetes or Vertex.")
    engine: PlannedEngine = Field(description="Engine of the plan.")
    variant: Word = Field(description="Size of the model.")
    precision: Word = Field(description="Precision of the weights.")
    checkpoint: PlannedCheckpoint = Field(description="The weights.")
    pool: PlannedPool = Field(description="Where replicas run.")
    accelerator: Word = Field(description="Accelerator, by catalog name.")
    accelerators_per_replica: Size = Field(description="GPUs of one replica.")
    context_length: Size = Field(description="Tokens in one request.")
    max_sequences: Size = Field(description="Requests that a replica works on at once.")
    max_batched_tokens: Size = Field(description="Tokens that a replica works on in one step.")
    kv_cache_precision: Word = Field(description="BF16 or FP8.")
    gpu_memory_utilization: Annotated[Int, Field(ge=1, le=100)] = Field(
        description="Share of each GPU that the engine takes, in percent."
    )
    memory_mib: PlannedMemory = Field(alias="memoryMiB", description="Memory of each GPU, in MiB.")
    correction_mib: Int | None = Field(
        default=None,
        alias="correctionMiB",
        description="Measured minus predicted memory of each GPU, from an engine that refused to start.",
    )
    tight: Bool = Field(
        default=False, description="Fits only inside the band: the engine may refuse to start."
    )
    unverified: Bool = Field(
        default=False, description="Rests on a GPU, an engine version or flags that nobody has checked."
    )
    hourly_cost: Cost | None = Field(
        default=None, description="Price of one replica an hour; absent where none is known."
    )
    reason: Text = Field(default="", description="Why this plan, and what was given up for it.")
    inputs_hash: Word = Field(description="Hash of what the planner was asked.")
    planned_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = Field(
        default=None, description="When it was decided."
    )


class Alternative(ApiModel):
    """A candidate that was not taken."""

    backend: Word = Field(description="Kubernetes or Vertex.")
    variant: Word = Field(description="Size of the model.")
    precision: Word = Field(description="Precision of the weights.")
    pool: Word | None = Field(default=None, description="Pool, as source/name.")
    accelerator: Word | None = Field(default=None, description="Accelerator, by catalog name.")
    accelerators_per_replica: Size | None = Field(default=None, description="GPUs of one replica.")
    code: Annotated[str, StringConstraints(max_length=63)] = Field(description="Why not, in one word.")
    message: Annotated[str, StringConstraints(max_length=256)] = Field(description="Why not, with numbers.")


class Endpoint(ApiModel):
    """Where clients go."""

    url: Annotated[str, StringConstraints(max_length=1024)] = Field(description="Base URL, ends in /v1.")
    model: Word = Field(description="What to send as `model`.")
    api: Word = Field(default="OpenAI", description="Protocol.")


class Measured(ApiModel):
    """What a running engine reported."""

    kv_cache_tokens: Size | None = Field(default=None, description="Tokens that the KV cache holds.")
    predicted_kv_cache_tokens: Size | None = Field(
        default=None, description="Tokens that the plan predicted."
    )


class StartupPhase(ApiModel):
    """How long one part of the last start took."""

    phase: Annotated[str, StringConstraints(max_length=63)] = Field(description="Name of the phase.")
    seconds: Size = Field(description="How long it took.")


class VertexStatus(ApiModel):
    """What exists at Vertex AI; the finalizer reads nothing else."""

    project: Word | None = Field(default=None, description="Project of the resources.")
    region: Word | None = Field(default=None, description="Region of the resources.")
    operation: Text | None = Field(default=None, description="Operation that runs.")
    endpoint: Text | None = Field(default=None, description="Resource name of the endpoint.")
    model: Text | None = Field(default=None, description="Resource name of the model.")
    deployed_model: Word | None = Field(default=None, description="Id of the deployed model.")
    display_name: Word | None = Field(default=None, description="Display name that endpoint and model carry.")


class GemmaDeploymentStatus(ApiModel):
    """What the operator saw and decided."""

    observed_generation: Annotated[Int, Field(ge=-1)] | None = Field(
        default=None, description="The generation that this status is about; -1: not looked at yet."
    )
    conditions: Annotated[tuple[ConditionStatus, ...], list_map(key="type"), Field(max_length=16)] = Field(
        default=(),
        description="Ready, Planned, Provisioned, Healthy; Reconciling, Stalled and Suspended while true.",
    )
    replicas: Size | None = Field(default=None, description="Replicas that exist.")
    ready_replicas: Size | None = Field(default=None, description="Replicas that have generated a token.")
    selector: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Label selector of the pods, as a string."
    )
    plan: Plan | None = Field(default=None, description="What was decided.")
    alternatives: Annotated[tuple[Alternative, ...], list_atomic(), Field(max_length=10)] = Field(
        default=(), description="Candidates that were not taken, as of plannedAt, and why."
    )
    endpoint: Endpoint | None = Field(default=None, description="Where clients go.")
    measured: Measured | None = Field(default=None, description="What a running engine reported.")
    startup: Annotated[tuple[StartupPhase, ...], list_map(key="phase"), Field(max_length=16)] = Field(
        default=(), description="How long the parts of the last start took."
    )
    vertex: VertexStatus | None = Field(default=None, description="What exists at Vertex AI.")
    last_handled_replan_at: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The last replan-requested-at that was acted on."
    )
    last_handled_refresh_at: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="The last refresh-requested-at that was acted on."
    )
