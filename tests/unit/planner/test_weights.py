"""Weights against what engines reported after loading."""

import csv
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.weights import disk_bytes, loaded_bytes, terms

GIB = 1024**3
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in packaged().checkpoints}


def reported_loads():
    with (Path(__file__).parents[2] / "data" / "reported-loads.csv").open() as file:
        return list(csv.DictReader(file))


def loaded_gib(name, *, tensor_parallel=1, text_only=False):
    checkpoint = CHECKPOINTS[name]
    variant = packaged().variants[checkpoint.variant]
    return loaded_bytes(variant, checkpoint, tensor_parallel=tensor_parallel, text_only=text_only) / GIB


@pytest.mark.parametrize("row", reported_loads(), ids=lambda row: f"{row['checkpoint']}-{row['load_gib']}")
def test_a_load_is_within_2_percent_or_0_35_gib_of_what_was_reported(row):
    said = loaded_gib(
        row["checkpoint"], tensor_parallel=int(row["tensor_parallel"]), text_only=row["text_only"] == "yes"
    )
    reported = float(row["load_gib"])
    assert abs(said - reported) <= max(0.02 * reported, 0.35)


def test_most_loads_are_within_1_percent():
    errors = [
        abs(
            loaded_gib(
                row["checkpoint"],
                tensor_parallel=int(row["tensor_parallel"]),
                text_only=row["text_only"] == "yes",
            )
            / float(row["load_gib"])
            - 1
        )
        for row in reported_loads()
    ]
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
        ("gemma-4-26b-a4b-it-fp8-dynamic", 25.65),
        ("gemma-4-e4b-it-fp8-dynamic", 11.41),
        ("gemma-4-e2b-it-fp8-dynamic", 8.00),
        ("gemma-4-31b-it-nvfp4", 30.97),
        ("gemma-4-26b-a4b-it-nvfp4", 17.89),
        ("gemma-4-31b-it-qat-w4a16-ct", 19.47),
        ("gemma-4-26b-a4b-it-awq-4bit", 15.67),
        ("gemma-4-12b-it-qat-w4a16-ct", 8.07),
        ("gemma-4-e4b-it-qat-w4a16-ct", 9.80),
        ("gemma-4-e2b-it-qat-w4a16-ct", 7.25),
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


def test_text_only_leaves_the_towers_out():
    with_towers = loaded_gib("gemma-4-31b-it-bf16")
    without = loaded_gib("gemma-4-31b-it-bf16", text_only=True)
    assert with_towers - without == pytest.approx(575_779_436 * 2 / GIB)


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
    checkpoint = next(c for c in packaged().checkpoints if (c.variant, c.precision) == (name, "bf16"))
    found = {
        term.name: term
        for term in terms(packaged().variants[name], checkpoint, tensor_parallel=gpus, text_only=False)
    }
    replicated = found.get("keysAndValuesOnEachGpu")
    assert (replicated.parameters if replicated else 0) == parameters
    assert replicated is None or replicated.size_bytes == parameters * 2 / gpus
