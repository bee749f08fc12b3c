"""How many bytes of weights each GPU holds after loading, from parameter counts by class of module.

`load = sum of parameters times bytes + positions + copies`. Under tensor parallelism the linears and the
embeddings are shared out; towers, norms, the router and the tables of positions are on every GPU (vLLM
model_executor/models/gemma4_mm.py builds the towers with AutoModel.from_config on each rank), and so is at least one
KV head (QKVParallelLinear replicates them). What shows that it is right: tests/data/reported-loads.csv, and vLLM's
own models in tests/data/vllm-0.32/weights.csv.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.records import Checkpoint, EngineVersionRules, Variant

BF16_BYTES: Final = 2.0
ATTENTION: Final = "attention"
EMBEDDING: Final = "embedding"
EXPERTS: Final = "experts"
#: The second table of words, by which the engine no longer sees what an output layer is a copy of.
PER_LAYER_EMBEDDING: Final = "perLayerEmbedding"
#: Classes that tensor parallelism shares out; every other one is on each GPU.
SHARED_OUT: Final = frozenset(
    {ATTENTION, "mlp", EXPERTS, EMBEDDING, PER_LAYER_EMBEDDING, "perLayerProjection", "patchEmbedder"}
)
#: Classes that a server builds only for these modalities, one of which is enough: where each of them is limited to 0,
#: the engine puts nothing in the tower's place (`_mark_tower_model` in vLLM model_executor/models/interfaces.py, called
#: by gemma4_mm.py once for images and videos and once for audio: so in the wheels of 0.19.1, 0.20.2, 0.21.0, 0.24.0,
#: 0.29.0, 0.32.0 and 0.33.0).
TOWERS: Final[Mapping[str, frozenset[str]]] = {
    "visionTower": frozenset({"image", "video"}),
    "audioTower": frozenset({"audio"}),
}
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the sum: parameters of one kind, what each takes, and among how many GPUs they are shared out."""

    name: str
    parameters: int
    bytes_each: float
    shares: int = 1

    @property
    def size_bytes(self) -> float:
        """On each GPU."""
        return self.parameters * self.bytes_each / self.shares


def terms(
    variant: Variant,
    checkpoint: Checkpoint,
    *,
    tensor_parallel: int,
    modalities: frozenset[str],
    rules: EngineVersionRules,
    expert_tile: int = 1,
) -> Iterator[Term]:
    """What `loaded_bytes` adds up."""
    dropped = {ATTENTION: _unread(variant)} if rules.queries_only else {}
    for module, counted in variant.parameters.items():
        if module in TOWERS and not TOWERS[module] & modalities:
            continue
        parameters = counted - dropped.get(module, 0)
        shares = tensor_parallel if module in SHARED_OUT else 1
        yield Term(module, parameters, checkpoint.bytes_per_parameter.get(module, BF16_BYTES), shares)
    copies = checkpoint.bytes_per_parameter.get(ATTENTION, BF16_BYTES)
    shares = min(tensor_parallel, variant.full.kv_heads)
    yield Term("keysCopiedAsValues", variant.key_as_value_parameters, copies, shares)
    if replicated := _replicated(variant, tensor_parallel):
        yield Term("keysAndValuesOnEachGpu", replicated, copies, tensor_parallel)
    if padded := _padded(variant, tensor_parallel, expert_tile):
        each = checkpoint.bytes_per_parameter.get(EXPERTS, BF16_BYTES)
        yield Term("expertsPadded", padded, each, tensor_parallel)
    if _keeps_output_layer(variant, checkpoint, rules):
        yield Term("outputLayer", variant.parameters[EMBEDDING], BF16_BYTES, tensor_parallel)
    yield Term("positions", variant.max_context_tokens * variant.rope_dims, BF16_BYTES)


def _keeps_output_layer(variant: Variant, checkpoint: Checkpoint, rules: EngineVersionRules) -> bool:
    """Whether the copy of the embedding that the checkpoint ships as `lm_head.weight` stays in memory.

    The engine loads it, compares it with the embedding and lets it go where both are equal, but only in a model with
    one table of words: vLLM 0.29.0, model_executor/model_loader/weight_tying.py, `len(embeddings) != 1`.
    """
    return (
        checkpoint.ships_output_layer
        and rules.output_layer_compared
        and PER_LAYER_EMBEDDING in variant.parameters
    )


def _padded(variant: Variant, gpus: int, tile: int) -> int:
    """Columns of zeroes that a kernel adds to experts whose width on each GPU is no multiple of its tile."""
    experts = variant.linears.experts if variant.linears is not None else None
    if experts is None or tile == 1:
        return 0
    width = experts.width // gpus
    return variant.parameters[EXPERTS] * (-width % tile) // width


def _unread(variant: Variant) -> int:
    """Keys and values that the checkpoint ships for layers that read another layer's."""
    if variant.linears is None:
        return 0
    shared = (
        (variant.sliding, variant.linears.queries_only_sliding),
        (variant.full, variant.linears.queries_only_full),
    )
    return sum(
        number * variant.linears.hidden * layers.head_dim * layers.kv_heads * 2 for layers, number in shared
    )


def _replicated(variant: Variant, gpus: int) -> int:
    """Parameters of keys and values that too many GPUs hold, beyond those that `attention` shares out.

    Every GPU holds at least one head. Where full layers use keys as values, their projection is there once.
    """
    if variant.linears is None:
        return 0
    once = variant.key_as_value_parameters > 0
    return sum(
        layers.layers * variant.linears.hidden * layers.head_dim * parts * max(0, gpus - layers.kv_heads)
        for layers, parts in ((variant.sliding, 2), (variant.full, 1 if once else 2))
    )


def loaded_bytes(
    variant: Variant,
    checkpoint: Checkpoint,
    *,
    tensor_parallel: int,
    modalities: frozenset[str],
    rules: EngineVersionRules,
    expert_tile: int = 1,
) -> int:
    """Bytes of weights on each GPU; towers of what is not among `modalities` are left out."""
    sum_of = terms(
        variant,
        checkpoint,
        tensor_parallel=tensor_parallel,
        modalities=modalities,
        rules=rules,
        expert_tile=expert_tile,
    )
    return int(sum(term.size_bytes for term in sum_of))


def disk_bytes(variant: Variant, checkpoint: Checkpoint) -> int:
    """Bytes of the checkpoint's files, as the hub lists them or else as its parameters make them."""
    if checkpoint.disk_gib is not None:
        return int(checkpoint.disk_gib * GIB)
    parts = sum(
        parameters * checkpoint.bytes_per_parameter.get(module, BF16_BYTES)
        for module, parameters in variant.parameters.items()
    )
    again = variant.parameters[EMBEDDING] * BF16_BYTES if checkpoint.ships_output_layer else 0
    return int(parts + again)
