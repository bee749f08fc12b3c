"""The KV arithmetic against what vLLM's own planners said, and what must hold for any input."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.vllm.kv_cache import Capacity, bytes_needed, capacity

DATA = Path(__file__).parents[2] / "data"
VARIANTS = ("E2B", "E4B", "12B", "26B-A4B", "31B")


def rows(name):
    with (DATA / name / "kv-capacity.csv").open() as file:
        return list(csv.DictReader(file))


def engine_settings(length, batched, *, gpus, kv_bytes):
    return {
        "max_model_len": length,
        "max_num_batched_tokens": batched,
        "tensor_parallel_size": gpus,
        "kv_cache_element_bytes": kv_bytes,
    }


def planned(row, version):
    return capacity(
        row["model"],
        max_model_len=int(row["max_model_len"]),
        max_num_batched_tokens=int(row["max_num_batched_tokens"]),
        tensor_parallel_size=int(row["tensor_parallel"]),
        kv_cache_element_bytes=int(row["kv_bytes"]),
        available_bytes=int(float(row["available_gib"]) * 2**30),
        engine_version=version,
    )


def differences(table, version_of):
    """Rows that we answer otherwise than vLLM did."""
    return [(row, said) for row in table if not agrees(said := planned(row, version_of(row)), row)]


def agrees(said: Capacity, row) -> bool:
    if row["fits"] != "True":
        return said == Capacity(fits=False, num_blocks=None, max_concurrency=None, tokens=None)
    return (
        said.fits
        and said.num_blocks == int(row["num_blocks"])
        and round(said.max_concurrency, 6) == pytest.approx(float(row["max_concurrency"]), abs=1.1e-6)
        and row.get("kv_tokens", str(said.tokens)) == str(said.tokens)
    )


@pytest.mark.parametrize("version", ["0.32", "0.32.0"])
def test_every_row_of_0_32_is_what_its_planner_said(version):
    table = rows("vllm-0.32")
    assert len(table) == 552
    assert differences(table, lambda _: version) == []


@pytest.mark.parametrize(
    "version",
    [
        "0.19.1",
        "0.20.0",
        "0.20.2",
        "0.21.0",
        "0.23.0",
        "0.25.1",
        "0.26.0",
        "0.28.0",
        "0.29.0",
        "0.30.0",
        "0.32.0",
        "0.33.0",
    ],
)
def test_every_row_of_a_version_is_what_its_planner_said(version):
    table = [row for row in rows("vllm-versions") if row["engine_version"] == version]
    assert len(table) == 170
    assert differences(table, lambda _: version) == []


def test_from_0_29_on_one_spare_block_is_needed():
    """31B, 262,144 tokens, 8192 batched: 13,637 blocks start 0.28.0, 0.29.0 needs 13,638."""
    bytes_of_13637_blocks = 35_748_577_280
    settings = engine_settings(262144, 8192, gpus=1, kv_bytes=2)
    assert (
        capacity("31B", **settings, available_bytes=bytes_of_13637_blocks, engine_version="0.28.0").num_blocks
        == 13637
    )
    assert not capacity(
        "31B", **settings, available_bytes=bytes_of_13637_blocks, engine_version="0.29.0"
    ).fits
    assert bytes_needed("31B", **settings, engine_version="0.32") == bytes_of_13637_blocks + 2_621_440


def test_without_async_scheduling_a_batch_counts_once():
    settings = engine_settings(131072, 8192, gpus=2, kv_bytes=2)
    before = bytes_needed("26B-A4B", **settings, engine_version="0.25.1")
    once = bytes_needed("26B-A4B", **settings, engine_version="0.26.0", async_scheduling=False)
    twice = bytes_needed("26B-A4B", **settings, engine_version="0.26.0")
    assert before == once < twice


@pytest.mark.parametrize(
    ("variant", "bytes_per_token"),
    [("31B", 901_120), ("26B-A4B", 225_280), ("12B", 344_064), ("E4B", 57_344), ("E2B", 18_432)],
)
def test_without_the_hybrid_manager_every_layer_keeps_everything(variant, bytes_per_token):
    """The bytes a token that vLLM's logs show then; a block holds 16 tokens of all layers."""
    said = bytes_needed(
        variant,
        max_model_len=16_000,
        max_num_batched_tokens=2048,
        tensor_parallel_size=1,
        kv_cache_element_bytes=2,
        hybrid_kv_cache=False,
        engine_version="0.28.0",
    )
    assert said == 16_000 * bytes_per_token


def test_a_shape_of_ones_own_is_taken_instead_of_a_name():
    shape = packaged().variants["E4B"]
    tiny = replace(shape, full=replace(shape.full, kv_heads=1), sliding=replace(shape.sliding, kv_heads=1))
    settings = engine_settings(8192, 2048, gpus=1, kv_bytes=2)
    assert bytes_needed(tiny, **settings) * 2 == bytes_needed("E4B", **settings)


def test_blocks_of_64_need_a_little_more_and_are_a_quarter_as_many():
    settings = engine_settings(262144, 8192, gpus=1, kv_bytes=1)
    small, large = bytes_needed("31B", **settings), bytes_needed("31B", **settings, block_size=64)
    assert 1.001 < large / small < 1.007
    available = 40 * 2**30
    quarter = capacity("31B", **settings, available_bytes=available).num_blocks // 4
    assert capacity("31B", **settings, available_bytes=available, block_size=64).num_blocks == quarter


settings_of_any_kind = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(VARIANTS),
        "max_model_len": st.integers(256, 262144),
        "max_num_batched_tokens": st.integers(256, 65536),
        "tensor_parallel_size": st.sampled_from([1, 2, 4, 8]),
        "kv_cache_element_bytes": st.sampled_from([1, 2]),
        "async_scheduling": st.booleans(),
        "hybrid_kv_cache": st.booleans(),
        "block_size": st.sampled_from([16, 32, 64]),
        "engine_version": st.sampled_from(
            ["0.19.1", "0.25.1", "0.26.0", "0.28.0", "0.29.0", "0.32.0", "0.33.0"]
        ),
    }
)


@given(settings_of_any_kind, st.integers(0, 2**38), st.integers(0, 2**36))
def test_more_bytes_are_never_fewer_blocks(settings, available, more):
    less = capacity(**settings, available_bytes=available)
    richer = capacity(**settings, available_bytes=available + more)
    assert richer.fits or not less.fits
    assert not less.fits or (
        richer.num_blocks >= less.num_blocks and richer.max_concurrency >= less.max_concurrency
    )


@given(settings_of_any_kind, st.integers(0, 2**38), st.integers(0, 100_000))
def test_a_longer_context_is_never_more_concurrency(settings, available, longer):
    short = capacity(**settings, available_bytes=available)
    long = capacity(
        **{**settings, "max_model_len": settings["max_model_len"] + longer}, available_bytes=available
    )
    assert short.fits or not long.fits
    assert not long.fits or long.max_concurrency <= short.max_concurrency


@given(settings_of_any_kind, st.integers(1, 5000))
def test_the_least_bytes_hold_the_requests_and_a_byte_less_does_not(settings, concurrency):
    needed = bytes_needed(**settings, concurrency=concurrency)
    held = capacity(**settings, available_bytes=needed)
    assert held.fits
    assert held.max_concurrency >= concurrency
    less = capacity(**settings, available_bytes=needed - 1)
    assert less.num_blocks is None or less.num_blocks == held.num_blocks - 1
    assert less.fits or concurrency == 1


@given(settings_of_any_kind)
def test_more_gpus_never_need_more_on_each(settings):
    single = bytes_needed(**{**settings, "tensor_parallel_size": 1})
    assert bytes_needed(**settings) <= single
