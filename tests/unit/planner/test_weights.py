"""Weights against what engines reported after loading."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.vllm import versions
from gemma_operator.planner.weights import disk_bytes, loaded_bytes, terms

GIB = 1024**3
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in packaged().checkpoints}
DATA = Path(__file__).parents[2] / "data"


def rows_of(name):
    with (DATA / name).open() as file:
        return list(csv.DictReader(file))


def rules_of(version):
    return versions.rules(packaged().engines["VLLM"], version or "0.25.1")


ALL = frozenset({"text", "image", "video", "audio"})
TEXT = frozenset({"text"})


def loaded_gib(name, *, tensor_parallel=1, modalities=ALL, version="0.25.1"):
    checkpoint = CHECKPOINTS[name]
    variant = packaged().variants[checkpoint.variant]
    size = loaded_bytes(
        variant,
        checkpoint,
        tensor_parallel=tensor_parallel,
        modalities=modalities,
        rules=rules_of(version),
    )
    return size / GIB


def said_of(row):
    version = re.search(r"0[.]\d+([.]\d+)?", row["engine_version"])
    return loaded_gib(
        row["checkpoint"],
        tensor_parallel=int(row["tensor_parallel"]),
        modalities=ALL if row["modalities"] == "all" else frozenset(row["modalities"].split()),
        version=version and version[0],
    )


def terms_of(name, *, tensor_parallel, modalities=ALL, version="0.32"):
    checkpoint = CHECKPOINTS[name]
    return {
        term.name: term
        for term in terms(
            packaged().variants[checkpoint.variant],
            checkpoint,
            tensor_parallel=tensor_parallel,
            modalities=modalities,
            rules=rules_of(version),
        )
    }


@pytest.mark.parametrize(
    "row", rows_of("reported-loads.csv"), ids=lambda row: f"{row['checkpoint']}-{row['load_gib']}"
)
def test_a_load_is_within_2_percent_or_0_35_gib_of_what_was_reported(row):
    reported = float(row["load_gib"])
    assert abs(said_of(row) - reported) <= max(0.02 * reported, 0.35)


def test_most_loads_are_within_1_percent():
    errors = [abs(said_of(row) / float(row["load_gib"]) - 1) for row in rows_of("reported-loads.csv")]
    assert sorted(errors)[len(errors) // 2] < 0.01


@pytest.mark.parametrize(
    ("name", "gib"),
    [
        ("gemma-4-31b-it-bf16", 58.83),
        ("gemma-4-26b-a4b-it-bf16", 48.47),
        ("gemma-4-12b-it-bf16", 22.68),
        ("gemma-4-e4b-it-bf16", 15.08),
        ("gemma-4-e2b-it-bf16", 9.73),
        ("gemma-4-31b-it-fp8-dynamic", 31.45),
        ("gemma-4-26b-a4b-it-fp8-dynamic", 25.71),
        ("gemma-4-e4b-it-fp8-dynamic", 11.41),
        ("gemma-4-e2b-it-fp8-dynamic", 8.00),
        ("gemma-4-31b-it-nvfp4", 30.97),
        ("gemma-4-26b-a4b-it-nvfp4", 17.89),
        ("gemma-4-31b-it-qat-w4a16-ct", 19.47),
        ("gemma-4-26b-a4b-it-awq-4bit", 16.39),
        ("gemma-4-12b-it-qat-w4a16-ct", 8.07),
        ("gemma-4-e4b-it-qat-w4a16-ct", 9.69),
        ("gemma-4-e2b-it-qat-w4a16-ct", 7.19),
        ("gemma-4-31b-it-fp8-block", 31.88),
        ("gemma-4-26b-a4b-it-nvfp4-redhat", 15.67),
        ("gemma-4-12b-it-nvfp4-redhat", 9.05),
    ],
)
def test_the_sum_itself(name, gib):
    assert loaded_gib(name) == pytest.approx(gib, abs=0.005)


def test_towers_are_on_every_gpu():
    """31B NVFP4 on two GPUs printed 16.3 GiB; with towers shared out it would be 15.7."""
    assert loaded_gib("gemma-4-31b-it-nvfp4", tensor_parallel=2) == pytest.approx(16.21, abs=0.01)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [
        ("31b", 575_743_536),
        ("e2b", 168_544_768 + 307_183_392),
        ("12b", 0),  # nothing of it is a tower
    ],
)
def test_text_alone_leaves_the_towers_out(variant, parameters):
    name = f"gemma-4-{variant}-it-bf16"
    less = loaded_gib(name) - loaded_gib(name, modalities=TEXT)
    assert less * GIB == pytest.approx(parameters * 2)


@pytest.mark.parametrize(
    ("served", "left_out"),
    [
        ("image", {"audioTower"}),
        ("video", {"audioTower"}),
        ("audio", {"visionTower"}),
        ("image audio", set()),
    ],
)
def test_a_tower_is_built_for_one_of_its_modalities(served, left_out):
    parameters = packaged().variants["E4B"].parameters
    less = loaded_gib("gemma-4-e4b-it-bf16") - loaded_gib(
        "gemma-4-e4b-it-bf16", modalities=TEXT | frozenset(served.split())
    )
    assert less * GIB == pytest.approx(2 * sum(parameters[tower] for tower in left_out))


@pytest.mark.parametrize(
    ("variant", "version", "gib"),
    [
        ("e2b", "0.28.0", 0),
        ("e2b", "0.29.0", 0.75),
        ("e4b", "0.32", 1.25),
        ("31b", "0.32", 0),  # one table of words: the engine sees that both are equal
    ],
)
def test_a_copy_of_the_embedding_stays_where_the_engine_does_not_see_what_it_is(variant, version, gib):
    name = f"gemma-4-{variant}-it-qat-w4a16-ct"
    checkpoint = replace(CHECKPOINTS[name], ships_output_layer=True)
    sizes = [
        loaded_bytes(
            packaged().variants[checkpoint.variant],
            each,
            tensor_parallel=1,
            modalities=ALL,
            rules=rules_of(version),
        )
        for each in (checkpoint, replace(checkpoint, ships_output_layer=False))
    ]
    assert (sizes[0] - sizes[1]) / GIB == gib


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_more_gpus_hold_less_each_but_never_a_clean_share(name):
    loads = [loaded_gib(name, tensor_parallel=gpus) for gpus in (1, 2, 4, 8)]
    assert loads == sorted(loads, reverse=True)
    assert all(load > loads[0] / gpus for load, gpus in zip(loads[1:], (2, 4, 8), strict=True))


def test_the_files_are_what_the_parameters_make():
    bf16 = CHECKPOINTS["gemma-4-31b-it-bf16"]
    assert disk_bytes(packaged().variants["31B"], bf16) == 2 * 31_273_088_876


@pytest.mark.parametrize(
    ("name", "gpus", "parameters"),
    [
        ("31B", 4, 0),  # 4 global heads
        ("31B", 8, 10 * 5376 * 512 * 4),  # keys alone: values are their copies
        ("12B", 2, 8 * 3840 * 512),
        ("E4B", 8, 20 * 2560 * 256 * 2 * 6 + 4 * 2560 * 512 * 2 * 6),
    ],
)
def test_every_gpu_holds_at_least_one_kv_head(name, gpus, parameters):
    found = terms_of(f"gemma-4-{name.lower()}-it-bf16", tensor_parallel=gpus, version="0.25.1")
    replicated = found.get("keysAndValuesOnEachGpu")
    assert (replicated.parameters if replicated else 0) == parameters
    assert replicated is None or replicated.size_bytes == parameters * 2 / gpus


ATTENTION = ("attention", "keysCopiedAsValues", "keysAndValuesOnEachGpu")
#: Small buffers that are no parameters, and norms of layers that are not built.
BUFFERS_BYTES = 12 * 2**10
#: What a quantised class has beside its parameters: words that tell a shape or a scale of a whole tensor.
WORDS_BYTES = 128 * 2**10
#: Scales of FP8, four bytes a row: the most that they are of a class, on 8 GPUs.
ROW_SCALES = 0.0065
#: In blocks the engine has 1.0002 bytes a parameter, and what Marlin makes of them is reckoned.
SPREAD_BLOCKS = 0.0155
BUILT = rows_of("vllm-0.32/weights.csv")
NAMING = {"engine_version", "checkpoint", "tensor_parallel", "modalities", "refused"}
CLASSES = [name for name in BUILT[0] if name not in NAMING]


@pytest.mark.parametrize(
    "row", BUILT, ids=lambda row: f"{row['checkpoint']}-{row['tensor_parallel']}-{row['modalities']}"
)
def test_each_class_has_the_bytes_that_vllms_own_model_is_built_with(row):
    """hack/weights_grid.py built them; a class is exact in BF16, within its scales where it is quantised."""
    found = terms_of(
        row["checkpoint"],
        tensor_parallel=int(row["tensor_parallel"]),
        modalities=ALL if row["modalities"] == "all" else frozenset(row["modalities"].split()),
    )
    for name in CLASSES:
        parts = ATTENTION if name == "attention" else (name,)
        said = sum(found[part].size_bytes for part in parts if part in found)
        assert abs(said - int(row[name])) <= allowed_bytes(CHECKPOINTS[row["checkpoint"]], name, said), name


def allowed_bytes(checkpoint, name, said):
    if name in ("other", "audioTower", "visionTower"):
        return BUFFERS_BYTES
    if name not in checkpoint.bytes_per_parameter:
        return 0
    if checkpoint.precision != "fp8":
        return WORDS_BYTES
    return said * (SPREAD_BLOCKS if "block" in checkpoint.name else ROW_SCALES)


def test_every_checkpoint_was_built_but_one_whose_config_is_not_known():
    built = {row["checkpoint"] for row in BUILT if row["refused"] == "0"}
    instruct = {name for name, checkpoint in CHECKPOINTS.items() if checkpoint.tuning == "Instruct"}
    assert instruct - built == {"gemma-4-12b-it-nvfp4-redhat"}


@pytest.mark.parametrize(
    ("variant", "version", "mib"),
    [("E2B", "0.29.0", 0), ("E2B", "0.30.0", 36), ("E4B", "0.32", 105), ("31B", "0.32", 0)],
)
def test_keys_and_values_that_no_layer_reads_are_not_loaded_from_0_30_on(variant, version, mib):
    name = f"gemma-4-{variant.lower()}-it-bf16"
    less = loaded_gib(name, version="0.25.1") - loaded_gib(name, version=version)
    assert less * 1024 == mib


def loaded_by(checkpoint, *, version, capability, tensor_parallel=2):
    """Through the rules of the engine, as a plan is."""
    engine, found = packaged().engines["VLLM"], CHECKPOINTS[checkpoint]
    tile = versions.expert_tile(engine, version=version, capability=capability, precision=found.precision)
    size = loaded_bytes(
        packaged().variants[found.variant],
        found,
        tensor_parallel=tensor_parallel,
        modalities=ALL,
        rules=rules_of(version),
        expert_tile=tile,
    )
    return size / GIB


FP8_EXPERTS = "gemma-4-26b-a4b-it-fp8-dynamic"


def test_experts_that_marlin_pads_load_what_a_log_says():
    """26B-A4B FP8 on two GPUs without FP8 of their own, 14.61 GiB each: LMCache/LMCache#4358."""
    assert abs(loaded_by(FP8_EXPERTS, version="0.26.0", capability=(8, 6)) - 14.61) <= 0.1


@pytest.mark.parametrize(
    ("capability", "version", "gpus", "more"),
    [
        ((8, 6), "0.25.1", 2, 32 / 352),  # 704 / 2 columns become 384
        ((8, 6), "0.32", 1, 0),  # 704 is a multiple of 64
        ((8, 9), "0.32", 2, 0),  # the card has FP8
        ((8, 6), "0.24.0", 2, 0),  # refused there, not padded
    ],
)
def test_only_experts_that_are_no_multiple_of_a_tile_are_padded(capability, version, gpus, more):
    padded = loaded_by(FP8_EXPERTS, version=version, capability=capability, tensor_parallel=gpus)
    plain = loaded_gib(FP8_EXPERTS, tensor_parallel=gpus, version=version)
    checkpoint = CHECKPOINTS[FP8_EXPERTS]
    experts = packaged().variants["26B-A4B"].parameters["experts"] / gpus
    expected = experts * checkpoint.bytes_per_parameter["experts"] * more / GIB
    assert padded - plain == pytest.approx(expected, abs=0.001)
