"""What the members of each catalog entry are called, and which of them may be left out.

One function a kind of entry, in the order of `records`. A default stands here only where nearly every entry
would repeat it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gemma_operator.catalog import overheads
from gemma_operator.catalog.incompatibilities import VLLM
from gemma_operator.catalog.reading import Entry, inner
from gemma_operator.catalog.records import (
    Accelerator,
    AttentionLayers,
    BatchTier,
    BlockSizeRule,
    Checkpoint,
    Drafter,
    DrafterEvidence,
    Engine,
    EngineVersionRules,
    Experts,
    ExpertTile,
    HostDemand,
    Linears,
    MachineType,
    Variant,
)


def variant(name: str, entry: Entry) -> Variant:
    """One size of the model family."""
    return Variant(
        name=name,
        query_heads=entry.integer("queryHeads"),
        sliding=inner(entry.entry("sliding"), _layers),
        full=inner(entry.entry("full"), _layers),
        max_context_tokens=entry.integer("maxContextTokens"),
        modalities=frozenset(entry.texts("modalities")),
        largest_item_tokens=entry.integer_map("largestItemTokens"),
        takes_items_whole=entry.boolean("takesItemsWhole"),
        parameters=entry.integer_map("parameters"),
        key_as_value_parameters=entry.integer("keyAsValueParameters", 0),
        rope_dims=entry.integer("ropeDims"),
        forward_gib_per_1024_tokens=entry.number_map("forwardGibPer1024Tokens"),
        drafter=inner(entry.entry("drafter"), _drafter) if entry.has("drafter") else None,
        linears=inner(entry.entry("linears"), _linears) if entry.has("linears") else None,
    )


def _linears(entry: Entry) -> Linears:
    only = entry.integer_map("queriesOnly") if entry.has("queriesOnly") else {}
    return Linears(
        hidden=entry.integer("hidden"),
        feed_forward=tuple(inner(each, _feed_forward) for each in entry.entries("feedForward")),
        queries_only_sliding=only.get("sliding", 0),
        queries_only_full=only.get("full", 0),
        per_layer_input=entry.integer("perLayerInput", 0),
        experts=inner(entry.entry("experts"), _experts) if entry.has("experts") else None,
    )


def _feed_forward(entry: Entry) -> tuple[int, int]:
    return entry.integer("layers"), entry.integer("width")


def _experts(entry: Entry) -> Experts:
    return Experts(
        layers=entry.integer("layers"),
        count=entry.integer("count"),
        width=entry.integer("width"),
        active=entry.integer("active"),
    )


def _drafter(entry: Entry) -> Drafter:
    return Drafter(
        repo=entry.text("repo"),
        tokens=entry.integer("tokens"),
        disk_gib=entry.number("diskGib") if entry.has("diskGib") else None,
        minimum_engine_version=entry.text("minimumEngineVersion"),
        evidence=tuple(inner(each, _evidence) for each in entry.entries("evidence", ())),
    )


def _evidence(entry: Entry) -> DrafterEvidence:
    return DrafterEvidence(
        engine=entry.text("engine", VLLM),
        since=entry.text("from"),
        before=entry.text("before") if entry.has("before") else None,
        overhead_gib=entry.number("overheadGib"),
        source=entry.text("source"),
    )


def _layers(entry: Entry) -> AttentionLayers:
    return AttentionLayers(
        layers=entry.integer("layers"),
        kv_heads=entry.integer("kvHeads"),
        head_dim=entry.integer("headDim"),
        window=entry.integer("window") if entry.has("window") else None,
    )


def checkpoint(name: str, entry: Entry) -> Checkpoint:
    """Weights of one variant in one precision."""
    return Checkpoint(
        name=name,
        variant=entry.text("variant"),
        precision=entry.text("precision"),
        repo=entry.text("repo"),
        revision=entry.text("revision") if entry.has("revision") else None,
        bytes_per_parameter=entry.number_map("bytesPerParameter", {}),
        disk_gib=entry.number("diskGib") if entry.has("diskGib") else None,
        modalities=frozenset(entry.texts("modalities", ("text", "image", "video", "audio"))),
        licence=entry.text("licence", "apache-2.0"),
        gated=entry.boolean("gated", False),
        minimum_engine_versions=_minimum_versions(entry),
        minimum_compute_capability=entry.capability("minimumComputeCapability", "8.0"),
        tensor_parallel=entry.integers("tensorParallel", (1, 2, 4, 8)),
        tuning=entry.text("tuning", "Instruct"),
        source=entry.text("source"),
        chat_template=entry.text("chatTemplate", ""),
        ships_output_layer=entry.boolean("shipsOutputLayer", False),
    )


def _minimum_versions(entry: Entry) -> Mapping[str, str]:
    """A version alone is vLLM's."""
    key = "minimumEngineVersion"
    if entry.has(key) and not entry.is_text(key):
        return entry.text_map(key)
    return {VLLM: entry.text(key, "0.19.1")}


def accelerator(name: str, entry: Entry) -> Accelerator:
    """A card, or a chip that is refused."""
    return Accelerator(
        name=name,
        vendor=entry.text("vendor"),
        memory_mib=entry.integer("memoryMib") if entry.has("memoryMib") else None,
        visible_mib=entry.integer("visibleMib") if entry.has("visibleMib") else None,
        compute_capability=entry.capability("computeCapability") if entry.has("computeCapability") else None,
        utilization_percent=entry.integer("utilizationPercent") if entry.has("utilizationPercent") else None,
        products=entry.texts("products", ()),
        cloud_names=entry.texts("cloudNames", ()),
        refused=entry.text("refused", ""),
        architecture=entry.text("architecture", ""),
        slices_mib=entry.integer_map("slicesMib") if entry.has("slicesMib") else {},
    )


def machine_type(name: str, entry: Entry) -> MachineType:
    """A cloud's machine."""
    return MachineType(
        name=name,
        accelerator=entry.text("accelerator"),
        accelerators=entry.integer("accelerators"),
        memory_mib=entry.integer("memoryMib") if entry.has("memoryMib") else None,
        host_cpu_millis=entry.integer("hostCpuMillis") if entry.has("hostCpuMillis") else None,
        host_memory_mib=entry.integer("hostMemoryMib") if entry.has("hostMemoryMib") else None,
    )


def engine(name: str, entry: Entry) -> Engine:
    """A model server."""
    return Engine(
        name=name,
        images=entry.text_map("images"),
        default_version=entry.text("defaultVersion"),
        known_versions=frozenset(entry.texts("knownVersions")),
        rules=tuple(inner(rule, _rules) for rule in entry.entries("rules")),
        batch_tiers=tuple(inner(tier, _batch_tier) for tier in entry.entries("batchTiers")),
        small_accelerators=entry.text_map("smallAccelerators"),
        overhead=inner(entry.entry("overhead"), overheads.overhead),
        block_size=entry.integer("blockSize"),
        block_sizes=tuple(inner(rule, _block_size) for rule in entry.entries("blockSizes")),
        items_per_prompt=entry.integer("itemsPerPrompt"),
        whole_items=inner(entry.entry("wholeItems"), _whole_items)
        if entry.has("wholeItems")
        else ("0.0", {}),
        expert_tiles=tuple(inner(each, _expert_tile) for each in entry.entries("expertTiles", ())),
        replica=inner(entry.entry("replica"), _host_demand),
        adapter_rank=entry.integer("adapterRank"),
    )


def _rules(entry: Entry) -> EngineVersionRules:
    return EngineVersionRules(
        since=entry.text("since"),
        in_flight_batches=entry.integer("inFlightBatches"),
        spare_blocks=entry.integer("spareBlocks"),
        utilization_percent=entry.integer("utilizationPercent"),
        graph_estimate_deducted=entry.boolean("graphEstimateDeducted"),
        printed_tokens_by_group=entry.boolean("printedTokensByGroup"),
        queries_only=entry.boolean("queriesOnly", False),
        output_layer_compared=entry.boolean("outputLayerCompared", False),
    )


def _batch_tier(entry: Entry) -> BatchTier:
    return BatchTier(
        since=entry.text("since"),
        minimum_visible_mib=entry.integer("minimumVisibleMib"),
        batched_tokens=entry.integer("batchedTokens"),
        sequences=entry.integer("sequences"),
    )


def _block_size(entry: Entry) -> BlockSizeRule:
    return BlockSizeRule(
        since=entry.text("since"),
        compute_capability_major=entry.integer("computeCapabilityMajor"),
        kv_cache_precision=entry.text("kvCachePrecision"),
        block_size=entry.integer("blockSize"),
    )


def _whole_items(entry: Entry) -> tuple[str, Mapping[str, int]]:
    return entry.text("since"), entry.integer_map("tokens")


def _expert_tile(entry: Entry) -> ExpertTile:
    return ExpertTile(
        since=entry.text("since"),
        precision=entry.text("precision"),
        below_capability=entry.capability("belowCapability") if entry.has("belowCapability") else None,
        tile=entry.integer("tile"),
    )


def _host_demand(entry: Entry) -> HostDemand:
    return HostDemand(
        cpu_millis=entry.integer("cpuMillis"),
        cpu_millis_per_accelerator=entry.integer("cpuMillisPerAccelerator"),
        memory_mib=entry.integer("memoryMib"),
        memory_mib_per_accelerator=entry.integer("memoryMibPerAccelerator"),
        ephemeral_mib=entry.integer("ephemeralMib"),
    )
