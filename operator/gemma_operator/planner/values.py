"""The planner's own words: what is asked, what was found, and what is decided.

Verdicts are codes and numbers; text is made in `planner.explain`, only for what is shown. A `Plan` is
the truth of a placed deployment: it is written into the Deployment's annotation and the status, read
back from either, and nothing about it is derived a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gemma_operator.catalog.records import Checkpoint, Price, Variant
from gemma_operator.hardware.records import PoolId, PoolShape, Toleration
from gemma_operator.planner.own_weights import OwnWeights

#: Features of a server, as compatibility.yaml names them.
#: Modalities of a server without towers.
TEXT_ONLY: Final = frozenset({"text"})
TOOL_CALLING: Final = "tool-calling"
THINKING: Final = "thinking"
THINKING_ON_REQUEST: Final = "thinking-on-request"
LORA: Final = "lora"
DRAFTING: Final = "speculative-decoding"
OWN_IMAGE: Final = "own-image"
#: A sum that is asked for whatever image would be run.
NO_IMAGE: Final = "no-image"
#: Those of a `spec: {}`.
DEFAULT_FEATURES: Final = frozenset({TOOL_CALLING, THINKING, THINKING_ON_REQUEST})


class KvPrecision(Enum):
    """How the engine keeps its KV cache."""

    BF16 = "BF16"
    FP8 = "FP8"

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return 1 if self is KvPrecision.FP8 else 2


@dataclass(frozen=True, slots=True)
class Request:
    """Everything of a GemmaDeployment that can change its plan, except the number of replicas.

    Lists keep the user's order of preference. None means "left open".
    """

    namespace: str
    backends: tuple[str, ...]
    variants: tuple[str, ...]
    precisions: tuple[str, ...]
    tuning: str
    context_length: int | None
    concurrency: int
    modalities: frozenset[str]
    kv_cache_precision: str
    speculative_decoding: str
    engine: str
    engine_version: str
    #: Accounted flags from extraArgs, as the engine's module read them (e.g. utilization, eager).
    engine_overrides: tuple[tuple[str, str], ...]
    pools: tuple[str, ...] | None
    accelerators: tuple[str, ...] | None
    max_accelerators: int
    spot: str
    shared_accelerators: bool
    node_selector: tuple[tuple[str, str], ...]
    tolerations: tuple[Toleration, ...]
    cpu_millis: int | None
    memory_bytes: int | None
    ephemeral_bytes: int | None
    #: The user's own image of the engine; None: the catalog's.
    engine_image: str | None = None
    #: What the server does beside answering, as compatibility.yaml names it.
    features: frozenset[str] = DEFAULT_FEATURES
    #: Which of them the user wrote, so that a plan need not speak of what a default brings.
    named_features: frozenset[str] = frozenset()
    #: LoRA adapters that are served beside the model.
    adapters: int = 0
    own_weights: OwnWeights | None = None
    #: Weights lie on the pod's own disk; False where a claim or a folder of the node holds them.
    weights_in_pod: bool = True
    #: No modality is limited to 0, as by a bare `vllm serve`: towers are built whatever is asked.
    every_tower: bool = False

    def built_modalities(self, variant: Variant) -> frozenset[str]:
        """Those for which the engine builds what leads them into the model."""
        return variant.modalities if self.every_tower else self.modalities


@dataclass(frozen=True, slots=True)
class Drafting:
    """A small model that proposes tokens, which the model itself then accepts or not."""

    repo: str
    #: Proposed in one step.
    tokens: int


@dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA adapters that may be used at once, and the highest rank that one may have."""

    count: int
    rank: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting that the engine's capacity depends on; all are emitted, none is left to a default."""

    context_length: int
    max_sequences: int
    max_batched_tokens: int
    kv_cache_precision: KvPrecision
    tensor_parallel: int
    utilization_percent: int
    #: Items a prompt by modality (image, video, audio); 0 where a modality is not served.
    modality_limits: tuple[tuple[str, int], ...]
    async_scheduling: bool = True
    enforce_eager: bool = False
    drafting: Drafting | None = None
    adapters: Adapters | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What one GPU of a replica holds, in bytes. `total` leaves the band out."""

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int
    #: The estimate may be off by this much.
    band_bytes: int
    #: What the engine may use: utilization times what torch sees of the card.
    usable_bytes: int

    @property
    def total_bytes(self) -> int:
        """Weights, KV cache and overhead."""
        return self.weights_bytes + self.kv_cache_bytes + self.overhead_bytes


class Code(Enum):
    """Why a candidate was rejected, or why a fit has no room. Shown in status.alternatives."""

    NO_CHECKPOINT = "NoCheckpoint"
    CONTEXT_TOO_LONG = "ContextTooLong"
    MODALITY_MISSING = "ModalityMissing"
    UNKNOWN_MEMORY = "UnknownMemory"
    POOL_REFUSED = "PoolRefused"
    POOL_NOT_ALLOWED = "PoolNotAllowed"
    ACCELERATOR_NOT_ALLOWED = "AcceleratorNotAllowed"
    SPOT = "Spot"
    SHARED = "Shared"
    TAINTED = "Tainted"
    INCOMPATIBLE = "Incompatible"
    NODE_TOO_SMALL = "NodeTooSmall"
    WEIGHTS_TOO_LARGE = "WeightsTooLarge"
    KV_CACHE_TOO_SMALL = "KvCacheTooSmall"
    NO_ROOM = "NoRoom"
    LATER_IN_ORDER = "LaterInOrder"
    BACKEND_NOT_AVAILABLE = "BackendNotAvailable"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve: a checkpoint of a variant on so many devices of a pool's node."""

    variant: Variant
    #: None where no checkpoint of the precision exists: rejected, but named.
    checkpoint: Checkpoint | None
    precision: str
    #: None where the verdict does not depend on a pool.
    shape: PoolShape | None
    tensor_parallel: int
    backend: str = "Kubernetes"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a candidate cannot serve: a code, and the numbers and words that the text needs."""

    candidate: Candidate
    code: Code
    details: Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A setting that was taken below its first choice, in numbers."""

    setting: str
    wanted: int | str
    taken: int | str


@dataclass(frozen=True, slots=True)
class Fit:
    """A candidate that can serve, with the settings nearest to the engine's defaults."""

    candidate: Candidate
    settings: Settings
    memory: Memory
    kv_tokens: int
    given_up: tuple[GivenUp, ...]
    #: Fits only inside the band: it may refuse to start, and says so.
    tight: bool
    unverified: tuple[str, ...]
    #: What works there, but less than one might think.
    limits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Feasible:
    """Every candidate's verdict, independent of room; cached by (request, shapes, catalog digest)."""

    fits: tuple[Fit, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True)
class ReplicaDemand:
    """What one replica takes from a node, normalised as NodeRecord.allocatable."""

    resource_name: str
    accelerators: int
    cpu_millis: int
    memory_bytes: int
    ephemeral_bytes: int


@dataclass(frozen=True, slots=True)
class PlannedMemory:
    """status.plan.memoryMiB: MiB on each GPU."""

    weights: int
    kv_cache: int
    overhead: int
    band: int
    total: int


@dataclass(frozen=True, slots=True)
class LeftPool:
    """A pool that brought no node within `placement.capacityTimeoutSeconds`; see `planner.left`."""

    pool: PoolId
    after_seconds: int
    #: Replicas that had room there when it was left.
    room: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A decided plan, as status.plan holds it; `planner.plan` turns it into JSON and back."""

    backend: str
    engine: str
    engine_version: str
    image: str
    variant: str
    precision: str
    checkpoint_name: str
    repo: str
    revision: str | None
    pool: PoolId
    #: Labels a pod selects and taints it tolerates, so that the plan can be rendered with no fleet at hand.
    pool_selector: tuple[tuple[str, str], ...]
    pool_tolerations: tuple[Toleration, ...]
    accelerator: str
    settings: Settings
    demand: ReplicaDemand
    memory: PlannedMemory
    correction_mib: int
    kv_tokens: int
    weights_on_disk_bytes: int
    tight: bool
    unverified: tuple[str, ...]
    hourly_cost: Price | None
    reason: str
    inputs_hash: str
    planned_at: str
    #: A path inside the image or the template itself; empty: the one that the checkpoint brings.
    chat_template: str = ""
    #: What config.json must say, as `own_weights.told_shape` names it.
    shape: tuple[tuple[str, int], ...] = ()
    #: Pools that were left before this one was planned.
    left: tuple[LeftPool, ...] = ()

    @property
    def accelerators_per_replica(self) -> int:
        """GPUs of one replica."""
        return self.demand.accelerators
