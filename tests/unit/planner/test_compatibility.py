"""Each known-bad combination of the catalog, and its nearest neighbour that is good."""

from dataclasses import replace

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.compatibility import Combination, known_bad, of_version

GOOD = Combination(
    variant="31B",
    precision="bf16",
    accelerator="nvidia-h100-80gb",
    compute_capability=(9, 0),
    engine_version="0.32",
    tensor_parallel=1,
)
EXPERTS = {"variant": "26B-A4B", "tensor_parallel": 4}


def found(**changes):
    entry = known_bad(packaged().incompatibilities, replace(GOOD, **changes))
    return entry.name if entry else None


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("turing-and-older", {"compute_capability": (7, 5)}, {"compute_capability": (8, 0)}),
        (
            "fp8-kv-before-ada",
            {"compute_capability": (8, 8), "kv_cache_precision": "FP8"},
            {"compute_capability": (8, 9), "kv_cache_precision": "FP8"},
        ),
        (
            "fp8-kv-before-ada",
            {"compute_capability": (8, 6), "kv_cache_precision": "FP8"},
            {"compute_capability": (8, 6), "kv_cache_precision": "BF16"},
        ),
        (
            "quantised-experts-parallel",
            {**EXPERTS, "precision": "fp8"},
            {**EXPERTS, "precision": "fp8", "tensor_parallel": 2},
        ),
        ("quantised-experts-parallel", {**EXPERTS, "precision": "nvfp4"}, {**EXPERTS, "precision": "bf16"}),
        (
            "quantised-experts-parallel",
            {**EXPERTS, "precision": "w4a16", "tensor_parallel": 8},
            {**EXPERTS, "precision": "w4a16", "variant": "31B"},
        ),
        (
            "unified-before-0.23",
            {"variant": "12B", "engine_version": "0.22.1"},
            {"variant": "12B", "engine_version": "0.23.0"},
        ),
        ("gemma4-before-0.19.1", {"engine_version": "0.19.0"}, {"engine_version": "0.19.1"}),
    ],
)
def test_a_known_bad_combination_and_its_neighbour(name, bad, good):
    assert found(**bad) == name
    assert found(**good) is None


def test_every_entry_has_a_test_above():
    assert {entry.name for entry in packaged().incompatibilities} == {
        "turing-and-older",
        "fp8-kv-before-ada",
        "quantised-experts-parallel",
        "unified-before-0.23",
        "gemma4-before-0.19.1",
    }
    assert all(entry.source and len(entry.message) <= 256 for entry in packaged().incompatibilities)


def test_an_unknown_capability_matches_nothing_that_asks_for_one():
    assert found(compute_capability=None, kv_cache_precision="FP8") is None


def test_a_cache_precision_that_is_open_matches_nothing_about_it():
    assert found(compute_capability=(8, 0)) is None


def test_entries_of_older_engines_are_left_out_for_a_newer_one():
    names = {entry.name for entry in of_version(packaged().incompatibilities, "0.32")}
    assert names == {"turing-and-older", "fp8-kv-before-ada", "quantised-experts-parallel"}
    assert len(of_version(packaged().incompatibilities, "0.18.0")) == 5
