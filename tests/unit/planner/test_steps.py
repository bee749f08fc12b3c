"""The order of the settings, as the API promises it."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import steps
from gemma_operator.planner.vllm import versions

ENGINE = packaged().engines["VLLM"]
PICTURES = frozenset({"text", "image"})
FILMS = frozenset({"text", "image", "video"})


def test_a_context_that_was_left_open_starts_at_32768():
    assert steps.contexts(None) == (32768, 16384, 8192)
    assert steps.contexts(5000) == (5000,)


@pytest.mark.parametrize(
    ("default", "floor", "expected"),
    [
        (16384, 0, (16384, 8192, 4096, 2048)),
        (8192, 0, (8192, 4096, 2048)),
        (2048, 0, (2048,)),
        (8192, 2496, (8192, 4096, 2496)),
        (2048, 2496, (2496,)),
        (8192, 4096, (8192, 4096)),
        (2048, 3000, (3000,)),
    ],
)
def test_the_batch_comes_down_from_the_default_to_its_floor(default, floor, expected):
    assert steps.batched_tokens(default, floor) == expected


@pytest.mark.parametrize(
    ("default", "concurrency", "expected"),
    [
        (1024, 1, (1024, 256, 128, 64, 32, 16)),
        (256, 1, (256, 128, 64, 32, 16)),
        (1024, 100, (1024, 256, 128, 100)),
        (256, 16, (256, 128, 64, 32, 16)),
        (256, 256, (256,)),
        (256, 300, (300,)),
        (1024, 4096, (4096,)),
    ],
)
def test_sequences_come_down_to_the_concurrency(default, concurrency, expected):
    assert steps.sequences(default, concurrency) == expected


@pytest.mark.parametrize(
    ("variant", "modalities", "floor"),
    [
        ("31B", frozenset({"text"}), 1),
        ("31B", PICTURES, 1120),
        ("31B", FILMS, 2496),
        ("26B-A4B", FILMS, 2496),
        ("12B", FILMS, 2496),
        ("E4B", FILMS, 1),
        ("E2B", FILMS, 1),
    ],
)
def test_who_takes_items_whole_needs_a_batch_that_holds_the_largest(variant, modalities, floor):
    assert steps.batch_floor(packaged().variants[variant], modalities, 1) == floor


def test_a_batch_is_never_smaller_than_the_sequences():
    assert steps.batch_floor(packaged().variants["E4B"], PICTURES, 3000) == 3000


@pytest.mark.parametrize(
    ("accelerator", "visible_mib", "version", "expected"),
    [
        ("nvidia-l4", 22558, "0.32", (2048, 256)),
        ("nvidia-l40s", 45465, "0.32", (2048, 256)),
        ("nvidia-a100-80gb", 81152, "0.32", (2048, 256)),
        ("nvidia-h100-80gb", 81080, "0.32", (8192, 1024)),
        ("some-card", 71680, "0.32", (8192, 1024)),
        ("some-card", 71679, "0.32", (2048, 256)),
        ("nvidia-h200", 143155, "0.32", (8192, 1024)),
        ("some-card", 163839, "0.32", (8192, 1024)),
        ("nvidia-b200", 163840, "0.32", (16384, 1024)),
        ("nvidia-b200", 182591, "0.27.1", (8192, 1024)),
        ("nvidia-b200", 182591, "0.28.0", (16384, 1024)),
        ("nvidia-gb10", 122572, "0.32", (8192, 1024)),
    ],
)
def test_the_default_batch_of_a_card(accelerator, visible_mib, version, expected):
    tier = versions.batch_tier(ENGINE, version=version, accelerator=accelerator, visible_mib=visible_mib)
    assert (tier.batched_tokens, tier.sequences) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.19.1", (1, 0, 90, False, True)),
        ("0.20.0", (1, 0, 92, True, True)),
        ("0.20.1", (1, 0, 92, True, False)),
        ("0.25.1", (1, 0, 92, True, False)),
        ("0.26", (2, 0, 92, True, False)),
        ("0.28.9", (2, 0, 92, True, False)),
        ("0.29.0", (2, 1, 92, True, False)),
        ("0.32", (2, 1, 92, True, False)),
        ("0.40.0", (2, 1, 92, True, False)),
        ("0.18.0", (1, 0, 90, False, True)),
    ],
)
def test_the_rules_of_a_version(version, expected):
    rules = versions.rules(ENGINE, version)
    assert (
        rules.in_flight_batches,
        rules.spare_blocks,
        rules.utilization_percent,
        rules.graph_estimate_deducted,
        rules.printed_tokens_by_group,
    ) == expected


def test_rules_start_where_the_first_gemma_4_engine_does():
    assert [rule.since for rule in ENGINE.rules] == [
        "0.19.1",
        "0.20.0",
        "0.20.1",
        "0.26.0",
        "0.29.0",
        "0.30.0",
    ]
    tiers = [(tier.since, tier.minimum_visible_mib) for tier in ENGINE.batch_tiers]
    assert tiers == [("0.28.0", 160 * 1024), ("0.19.1", 70 * 1024), ("0.19.1", 0)]


@pytest.mark.parametrize(
    ("version", "capability", "precision", "expected"),
    [
        ("0.32", (9, 0), "FP8", 64),
        ("0.31.0", (9, 0), "FP8", 64),
        ("0.30.0", (9, 0), "FP8", 16),
        ("0.32", (9, 0), "BF16", 16),
        ("0.32", (8, 9), "FP8", 16),
        ("0.32", (12, 0), "FP8", 16),
        ("0.32", None, "FP8", 16),
    ],
)
def test_hopper_with_an_fp8_cache_takes_blocks_of_64(version, capability, precision, expected):
    found = versions.block_size(ENGINE, version=version, capability=capability, kv_precision=precision)
    assert found == expected


def test_a_version_that_was_not_run_is_not_known():
    assert versions.is_known(ENGINE, "0.32")
    assert versions.is_known(ENGINE, "0.32.0")
    assert not versions.is_known(ENGINE, "0.32.1")
    assert not versions.is_known(ENGINE, "0.34")


def test_what_is_no_version_is_an_error():
    with pytest.raises(ValueError, match="not a version: 'latest'"):
        versions.parse("latest")
