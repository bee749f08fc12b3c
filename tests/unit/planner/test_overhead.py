"""The overhead rule against every start-up log that tells all its parts."""

import csv
import statistics
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.vllm.overhead import band_bytes, overhead_bytes

GIB = 1024**3
MODEL = packaged().engines["VLLM"].overhead


def logs():
    with (Path(__file__).parents[2] / "data" / "engine-logs.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["use_for_fit"] == "yes"]


def overhead_gib(variant, *, precision="bf16", gpus=1, tokens=2048, sequences=256, graphs=True):
    said = overhead_bytes(
        packaged().variants[variant],
        MODEL,
        precision=precision,
        tensor_parallel=gpus,
        max_batched_tokens=tokens,
        max_sequences=sequences,
        graphs_deducted=graphs,
    )
    return said / GIB


def residuals():
    """Said less reported, GiB. Graphs are counted where the log shows that the engine deducted them."""
    return {
        row["id"]: overhead_gib(
            row["model"],
            precision=row["precision"],
            gpus=int(row["tensor_parallel"]),
            # Two logs leave the batch to the card's defaults, which are these.
            tokens=int(row["batched_tokens_effective"] or 2048),
            sequences=int(row["sequences_effective"] or 256),
            graphs=row["graphs_estimate_deducted"] == "yes",
        )
        - float(row["overhead_gib"])
        for row in logs()
    }


def test_all_24_usable_logs_are_met_within_half_a_gib():
    found = residuals()
    assert len(found) == 24
    assert {name: round(error, 2) for name, error in found.items() if abs(error) > 0.5} == {}


def test_the_median_error_is_below_a_tenth_of_a_gib():
    assert statistics.median(abs(error) for error in residuals().values()) < 0.1


def test_the_rule_says_too_little_by_less_than_a_fifth_of_a_gib():
    """Too little is what makes an engine refuse; the band is 1 GiB."""
    assert min(residuals().values()) > -0.2
    assert band_bytes(MODEL) == GIB


@pytest.mark.parametrize(
    ("variant", "settings", "gib"),
    [
        # base + forward + graphs, base + sampler + graphs
        ("31B", {"tokens": 8192, "sequences": 4}, 0.25 + 8 * 0.164 + 0.26),
        ("31B", {"tokens": 8192, "sequences": 1024}, 0.25 + 3.75 + 0.83),
        ("12B", {"tokens": 2496, "sequences": 256}, 0.25 + 0.9375 + 0.83),
        ("12B", {"tokens": 8192, "sequences": 16}, 0.25 + 8 * 0.117 + 0.83),
        ("E4B", {"tokens": 8192, "sequences": 5}, 0.25 + 8 * 0.098 + 0.83),
        ("E2B", {"tokens": 8192, "sequences": 4}, 0.25 + 8 * 0.099 + 0.26),
        ("26B-A4B", {"tokens": 8192, "sequences": 2}, 0.25 + 8 * 0.11 + 0.26),
        ("26B-A4B", {"tokens": 8192, "sequences": 2, "precision": "nvfp4"}, 0.25 + 8 * 0.245 + 0.26),
        ("31B", {"gpus": 2}, 0.6 + 0.9375 + 0.96),
        ("31B", {"gpus": 8}, 0.6 + 0.9375 + 0.96),
        ("31B", {"gpus": 2, "tokens": 8192, "sequences": 2}, 0.6 + 8 * 0.164 + 0.26),
        ("31B", {"graphs": False}, 0.25 + 0.9375),
    ],
)
def test_the_rule_itself(variant, settings, gib):
    assert overhead_gib(variant, **settings) == pytest.approx(gib, abs=1e-6)
