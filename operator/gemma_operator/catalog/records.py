"""What is known, as values: the shapes that the catalog's yaml files are read into.

Every figure stands in a yaml file with its source beside it; nothing here knows a model or a card.
Sizes are MiB as the driver reports them, bytes where an engine counts bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gemma_operator.catalog.incompatibilities import Incompatibility
from gemma_operator.catalog.overheads import OverheadModel
from gemma_operator.catalog.prices import NO_PRICES, Prices
from gemma_operator.catalog.prices import Price as Price  # noqa: PLC0414 - records is where values are imported from


@dataclass(frozen=True, slots=True)
class AttentionLayers:
    """The layers of one kind that own a KV cache. `window` is None where a layer sees everything."""

    layers: int
    kv_heads: int
    head_dim: int
    window: int | None


@dataclass(frozen=True, slots=True)
class Experts:
    """Layers of many small feed-forwards, of which a router picks some for each token."""

    layers: int
    count: int
    width: int
    active: int  # of `count`, on one token


@dataclass(frozen=True, slots=True)
class Linears:
    """Widths of the linear layers of a variant's language model."""

    hidden: int
    #: (layers, width) of the dense feed-forwards.
    feed_forward: tuple[tuple[int, int], ...]
    #: Layers that read another layer's KV cache and have no keys and values of their own.
    queries_only_sliding: int = 0
    queries_only_full: int = 0
    #: Width of the per-layer embedding; 0 where there is none.
    per_layer_input: int = 0
    experts: Experts | None = None


@dataclass(frozen=True, slots=True)
class DrafterEvidence:
    """Start-ups that showed what the engine takes for a drafter, from one version on and before another."""

    engine: str
    since: str
    before: str | None
    #: On each GPU, beside its weights.
    overhead_gib: float
    source: str


@dataclass(frozen=True, slots=True)
class Drafter:
    """A small model that proposes tokens for a variant; it has no KV cache of its own."""

    repo: str
    #: Proposed in one step.
    tokens: int
    #: As published; None: nothing tells it.
    disk_gib: float | None
    minimum_engine_version: str
    #: No plan takes it with a version that none of these names.
    evidence: tuple[DrafterEvidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Variant:
    """One size of the model family: its shape, and how many parameters each class of module holds."""

    name: str
    query_heads: int
    sliding: AttentionLayers
    full: AttentionLayers
    max_context_tokens: int
    modalities: frozenset[str]
    #: Tokens of the largest item of a modality, for variants that take an item whole in one batch.
    largest_item_tokens: Mapping[str, int]
    #: The engine refuses to start when an item of a served modality is larger than its batch.
    takes_items_whole: bool
    #: Parameters by module class, under the names that planner/weights.py knows; others are on each GPU.
    parameters: Mapping[str, int]
    #: Copies of K projections that the engine makes where a checkpoint has attention_k_eq_v.
    key_as_value_parameters: int
    rope_dims: int
    #: GiB of activations in a forward pass of 1024 tokens: `default`, and by precision where kernels differ.
    forward_gib_per_1024_tokens: Mapping[str, float]
    drafter: Drafter | None = None
    #: None: not told, so adapters cannot be reckoned.
    linears: Linears | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of one variant in one precision, at one place of a hub."""

    name: str
    variant: str
    precision: str
    repo: str
    revision: str | None
    #: Bytes a parameter by module class; a class that is not named is BF16.
    bytes_per_parameter: Mapping[str, float]
    #: As listed by the hub; None: what its parameters make.
    disk_gib: float | None
    modalities: frozenset[str]
    licence: str
    gated: bool
    #: By engine; one that is not named has no minimum.
    minimum_engine_versions: Mapping[str, str]
    #: Compute capability from which the engine has kernels for it, e.g. (7, 5).
    minimum_compute_capability: tuple[int, int]
    tensor_parallel: tuple[int, ...]
    tuning: str
    source: str
    #: For the engine, where the checkpoint's own is stale or missing; empty: the checkpoint's own.
    chat_template: str = ""
    #: The files hold the embedding a second time, as the output layer that is tied to it.
    ships_output_layer: bool = False


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A card, or a kind of chip that is recognised only to be refused with a reason."""

    name: str
    vendor: str
    #: As the driver reports it; None for chips whose memory is their host's.
    memory_mib: int | None
    #: What torch sees of it; None: memory less the engine's stated margin.
    visible_mib: int | None
    compute_capability: tuple[int, int] | None
    #: What the engine may use where the memory is shared with the host; None: the engine's default.
    utilization_percent: int | None
    #: Product names as GFD writes them, without `-SHARED` and `-MIG-…`.
    products: tuple[str, ...]
    #: The names that cloud labels give it (gke-accelerator, instance-gpu-name, …).
    cloud_names: tuple[str, ...]
    #: Why no engine of this operator runs on it; empty where one does.
    refused: str
    #: Of the host that it is built together with (`arm64` for Grace); empty where it is found in any.
    architecture: str = ""
    #: Memory of MIG profiles by name, as GFD printed it: a name tells more than the slice has.
    slices_mib: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineVersionRules:
    """What changes with the version of an engine; each rule starts at `since`."""

    since: str
    in_flight_batches: int
    spare_blocks: int
    utilization_percent: int
    graph_estimate_deducted: bool
    #: What the engine prints as its KV tokens: blocks of one group, or else concurrency times length.
    printed_tokens_by_group: bool
    #: Layers that read another layer's KV cache are built without K and V projections.
    queries_only: bool = False
    #: An output layer that a checkpoint ships is loaded and compared with the embedding, not passed over.
    output_layer_compared: bool = False


@dataclass(frozen=True, slots=True)
class BatchTier:
    """The engine's own defaults on a card of which torch sees at least so much, from a version on."""

    since: str
    minimum_visible_mib: int
    batched_tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class BlockSizeRule:
    """KV blocks of another size than the engine's usual one."""

    since: str
    compute_capability_major: int
    kv_cache_precision: str
    block_size: int


@dataclass(frozen=True, slots=True)
class HostDemand:
    """What a replica asks of its node beside accelerators, where the user says nothing."""

    cpu_millis: int
    cpu_millis_per_accelerator: int
    memory_mib: int
    memory_mib_per_accelerator: int
    #: Without the weights, which come on top while they lie in the pod's own volume.
    ephemeral_mib: int


@dataclass(frozen=True, slots=True)
class ExpertTile:
    """Experts whose width on each GPU is raised to a multiple of `tile` when their kernel takes them up."""

    since: str
    precision: str
    below_capability: tuple[int, int] | None  # None: every card
    tile: int


@dataclass(frozen=True, slots=True)
class Engine:
    """A model server: where its image lies, which versions are known, what its planner does."""

    name: str
    images: Mapping[str, str]
    default_version: str
    known_versions: frozenset[str]
    rules: tuple[EngineVersionRules, ...]
    batch_tiers: tuple[BatchTier, ...]
    #: Accelerators that count as small whatever their memory, and the version from which they do.
    small_accelerators: Mapping[str, str]
    overhead: OverheadModel
    block_size: int
    block_sizes: tuple[BlockSizeRule, ...]
    items_per_prompt: int  # of a served modality
    #: Since which version a batch must hold a whole item of variants that take items whole, and its tokens by modality.
    whole_items: tuple[str, Mapping[str, int]]
    expert_tiles: tuple[ExpertTile, ...]
    replica: HostDemand
    #: The highest rank of an adapter that buffers are kept for.
    adapter_rank: int


@dataclass(frozen=True, slots=True)
class MachineType:
    """A cloud's machine: how many accelerators of which kind one node has."""

    name: str
    accelerator: str
    accelerators: int
    #: A machine with a fraction of a card: its real memory.
    memory_mib: int | None
    #: What a node of it has to give beside its accelerators, where a list tells.
    host_cpu_millis: int | None = None
    host_memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that is known. Lists keep the order of the files: it is part of the order of choice."""

    variants: Mapping[str, Variant]
    checkpoints: tuple[Checkpoint, ...]
    accelerators: Mapping[str, Accelerator]
    machine_types: Mapping[str, MachineType]
    engines: Mapping[str, Engine]
    incompatibilities: tuple[Incompatibility, ...]
    #: Hash of every file that was read: part of the key under which verdicts are cached.
    digest: str
    prices: Prices = NO_PRICES
