"""GemmaDeployment: its spec put together from its parts, and the rules that speak of more than one part."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gemma_operator.api.access import AccessSpec, CredentialsSpec
from gemma_operator.api.base import ApiModel, Bool, Int, Rule
from gemma_operator.api.hardware import HardwareSpec
from gemma_operator.api.meta import ObjectMeta
from gemma_operator.api.model import AUDIO_VARIANTS, EDGE_VARIANTS, ModelSpec, Tuning
from gemma_operator.api.placement import Backend, CacheType, PlacementSpec, WeightsSpec
from gemma_operator.api.pod import PodSpec
from gemma_operator.api.scaling import AutoscalingSpec, RolloutSpec
from gemma_operator.api.serving import MAX_EDGE_CONTEXT_LENGTH, Modality, ServingSpec, ToolCalling
from gemma_operator.api.status import GemmaDeploymentStatus
from gemma_operator.api.vertex import VertexSpec

_HAS_BACKENDS = "has(self.placement) && has(self.placement.backends)"
_ON_VERTEX = f"({_HAS_BACKENDS} && 'Vertex' in self.placement.backends)"
_IN_CLUSTER = f"(!({_HAS_BACKENDS}) || 'Kubernetes' in self.placement.backends)"
_NO_VARIANTS = "!has(self.model) || !has(self.model.variants)"


def _edge_context_fits(spec: "GemmaDeploymentSpec") -> bool:
    only_edge = EDGE_VARIANTS.issuperset(spec.model.variants)
    return not only_edge or (spec.serving.context_length or 0) <= MAX_EDGE_CONTEXT_LENGTH


def _audio_has_a_variant(spec: "GemmaDeploymentSpec") -> bool:
    return Modality.AUDIO not in spec.serving.modalities or not AUDIO_VARIANTS.isdisjoint(spec.model.variants)


def _belongs_to_kubernetes(cel_presence: str, *, path: str, attribute: str) -> Rule:
    return Rule(
        cel=f"{_IN_CLUSTER} || !({cel_presence})",
        message=f"{path} belongs to Kubernetes, but placement.backends lists Vertex alone: remove {path}, "
        "or list Kubernetes",
        field_path=f".{path}",
        holds=lambda spec: spec.in_cluster or not spec.writes(attribute),
        reason="FieldValueForbidden",
    )


class GemmaDeploymentSpec(ApiModel):
    """What is wanted. Everything has a default: `spec: {}` serves the best variant that fits somewhere."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.model) || !has(self.model.tuning) || self.model.tuning != 'Base' || "
            "!has(self.serving) || !has(self.serving.toolCalling) || self.serving.toolCalling != 'Enabled'",
            message="toolCalling: Enabled needs model.tuning: Instruct; the base model cannot call tools: "
            "remove toolCalling, or choose Instruct",
            field_path=".serving.toolCalling",
            holds=lambda spec: (
                spec.model.tuning is not Tuning.BASE or spec.serving.tool_calling is not ToolCalling.ENABLED
            ),
        ),
        Rule(
            cel=f"{_NO_VARIANTS} || self.model.variants.exists(v, !(v in ['E4B', 'E2B'])) || "
            "!has(self.serving) || !has(self.serving.contextLength) || self.serving.contextLength <= "
            f"{MAX_EDGE_CONTEXT_LENGTH}",
            message=f"contextLength must not be above {MAX_EDGE_CONTEXT_LENGTH} when only E4B and E2B are "
            "allowed: lower it, or allow a larger variant in model.variants",
            field_path=".serving.contextLength",
            holds=_edge_context_fits,
        ),
        Rule(
            cel="!has(self.serving) || !has(self.serving.modalities) || !('audio' in "
            f"self.serving.modalities) || {_NO_VARIANTS} || self.model.variants.exists(v, v in ['12B', "
            "'E4B', 'E2B'])",
            message="modality audio needs 12B, E4B or E2B: add one of them to model.variants, or remove "
            "audio",
            field_path=".serving.modalities",
            holds=_audio_has_a_variant,
        ),
        Rule(
            cel="!has(self.model) || !has(self.model.source) || !has(self.model.source.persistentVolumeClaim) || "
            "!has(self.weights) || !has(self.weights.cache) || !has(self.weights.cache.type) || "
            "self.weights.cache.type == 'None'",
            message="weights that lie on a claim are not brought anywhere: remove weights.cache, or "
            "model.source.persistentVolumeClaim",
            field_path=".weights.cache",
            holds=lambda spec: (
                spec.model.source is None
                or spec.model.source.persistent_volume_claim is None
                or spec.weights.cache.type is CacheType.NONE
            ),
            reason="FieldValueForbidden",
        ),
        Rule(
            cel=f"!{_ON_VERTEX} || has(self.vertex)",
            message="placement.backends lists Vertex: add vertex with project and region, or remove Vertex "
            "from backends",
            field_path=".vertex",
            holds=lambda spec: not spec.on_vertex or spec.vertex is not None,
            reason="FieldValueRequired",
        ),
        Rule(
            cel=f"!has(self.vertex) || {_ON_VERTEX}",
            message="vertex is only for the Vertex backend: add Vertex to placement.backends, or remove "
            "vertex",
            field_path=".vertex",
            holds=lambda spec: spec.vertex is None or spec.on_vertex,
            reason="FieldValueForbidden",
        ),
        _belongs_to_kubernetes("has(self.hardware)", path="hardware", attribute="hardware"),
        _belongs_to_kubernetes("has(self.weights)", path="weights", attribute="weights"),
        _belongs_to_kubernetes(
            "has(self.serving) && has(self.serving.engine)", path="serving.engine", attribute="serving.engine"
        ),
        Rule(
            cel="!has(self.autoscaling) || !has(self.autoscaling.minReplicas) || "
            f"self.autoscaling.minReplicas > 0 || !{_IN_CLUSTER} || has(self.autoscaling.wakeSource)",
            message="minReplicas 0 needs autoscaling.wakeSource for the Kubernetes backend: add it, or "
            "write minReplicas: 1",
            field_path=".autoscaling.minReplicas",
            holds=lambda spec: (
                spec.autoscaling is None
                or spec.autoscaling.min_replicas > 0
                or not spec.in_cluster
                or spec.autoscaling.wake_source is not None
            ),
        ),
        Rule(
            cel="!has(self.autoscaling) || !has(self.autoscaling.minReplicas) || "
            f"self.autoscaling.minReplicas > 0 || !{_ON_VERTEX} || (has(self.vertex) && "
            "has(self.vertex.scaleToZero))",
            message="minReplicas 0 needs vertex.scaleToZero for the Vertex backend: add it, or write "
            "minReplicas: 1",
            field_path=".autoscaling.minReplicas",
            holds=lambda spec: (
                spec.autoscaling is None
                or spec.autoscaling.min_replicas > 0
                or not spec.on_vertex
                or (spec.vertex is not None and spec.vertex.scale_to_zero is not None)
            ),
        ),
    )

    model: ModelSpec = Field(default=ModelSpec(), description="Which Gemma 4 may be served.")
    serving: ServingSpec = Field(default=ServingSpec(), description="What clients get.")
    hardware: HardwareSpec = Field(
        default=HardwareSpec(), description="Which GPUs of the cluster may be used. Not with Vertex alone."
    )
    placement: PlacementSpec = Field(default=PlacementSpec(), description="Where the endpoint may live.")
    weights: WeightsSpec = Field(
        default=WeightsSpec(), description="How weights reach the engine. Not with Vertex alone."
    )
    pod: PodSpec = Field(default=PodSpec(), description="What is added to each engine pod.")
    access: AccessSpec | None = Field(
        default=None, description="Who may call. Absent: the own namespace, without a key."
    )
    credentials: CredentialsSpec | None = Field(default=None, description="Credentials for fetching weights.")
    vertex: VertexSpec | None = Field(
        default=None,
        description="The Vertex AI endpoint; present if and only if placement.backends lists Vertex.",
    )
    replicas: Annotated[Int, Field(ge=0, le=1000, json_schema_extra={"x-crd-default": 1})] = Field(
        default=1,
        description="How many replicas. 0: nothing runs and nothing is claimed. Not looked at with "
        "autoscaling.",
    )
    autoscaling: AutoscalingSpec | None = Field(
        default=None, description="Scaling by load. Absent: replicas says it."
    )
    rollout: RolloutSpec = Field(default=RolloutSpec(), description="How one generation follows another.")
    suspend: Annotated[Bool, Field(json_schema_extra={"x-crd-default": False})] = Field(
        default=False,
        description="Whether to hold: planned and shown, nothing made; what runs is drained and removed, "
        "the plan is kept.",
    )

    @property
    def in_cluster(self) -> bool:
        """Whether the Kubernetes backend is listed."""
        return Backend.KUBERNETES in self.placement.backends

    @property
    def on_vertex(self) -> bool:
        """Whether the Vertex backend is listed."""
        return Backend.VERTEX in self.placement.backends

    @property
    def tool_calling(self) -> ToolCalling:
        """What toolCalling comes to: written, else as the tuning allows."""
        if self.serving.tool_calling is not None:
            return self.serving.tool_calling
        return ToolCalling.DISABLED if self.model.tuning is Tuning.BASE else ToolCalling.ENABLED

    def writes(self, path: str) -> bool:
        """Whether the user's yaml holds this part at all, even with nothing but defaults in it."""
        owner: ApiModel = self
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        return last in owner.model_fields_set


class GemmaDeployment(ApiModel):
    """A managed Gemma 4 endpoint."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.spec.model) || !has(self.spec.model.adapters) || "
            "self.spec.model.adapters.all(a, a.name != (has(self.spec.serving) && "
            "has(self.spec.serving.modelName) ? self.spec.serving.modelName : self.metadata.name))",
            message="an adapter must not have the name that the model itself is served under "
            "(serving.modelName, else metadata.name): rename the adapter",
            field_path=".spec.model.adapters",
            holds=lambda deployment: (
                deployment.model_name not in {a.name for a in deployment.spec.model.adapters}
            ),
        ),
    )

    api_version: Literal["gemma-operator.io/v1alpha1"] = "gemma-operator.io/v1alpha1"
    kind: Literal["GemmaDeployment"] = "GemmaDeployment"
    metadata: ObjectMeta
    spec: GemmaDeploymentSpec = Field(description="What is wanted. May be empty: everything has a default.")
    status: GemmaDeploymentStatus | None = Field(
        default=None, description="What the operator saw and decided."
    )

    @property
    def model_name(self) -> str:
        """What clients send as `model`."""
        return self.spec.serving.model_name or self.metadata.name

    @property
    def namespace(self) -> str:
        """The namespace, also for a manifest that leaves it to the context."""
        return self.metadata.namespace or "default"
