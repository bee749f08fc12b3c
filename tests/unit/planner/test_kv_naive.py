"""Off every table: the closed formula against the long way, and against a grid that vLLM 0.32's planner answered."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_operator.planner.vllm.kv_cache import bytes_needed, capacity
from unit.planner import naive_kv

GRID = Path(__file__).parents[2] / "data/vllm-0.32/kv-grid.csv"
#: (layers, KV heads, head size, window) of layers that own a KV cache: transformers 5.24.0, configuration_gemma4.py.
SHAPES = {
    "E2B": ((12, 1, 256, 512), (3, 1, 512, None)),
    "E4B": ((20, 2, 256, 512), (4, 2, 512, None)),
    "12B": ((40, 8, 256, 1024), (8, 1, 512, None)),
    "26B-A4B": ((25, 8, 256, 1024), (5, 2, 512, None)),
    "31B": ((50, 16, 256, 1024), (10, 4, 512, None)),
}
GIB = 2**30


def the_long_way(
    variant, *, version, available, gpus, length, batched, element_bytes, asynchronous, hybrid, block
):
    minor = int(version.split(".")[1])
    specs = naive_kv.layers(*SHAPES[variant], gpus=gpus, element_bytes=element_bytes, block_size=block)
    return naive_kv.plan(
        specs,
        available_bytes=available,
        max_model_len=length,
        max_in_flight_tokens=batched * (2 if asynchronous and minor >= 26 else 1),
        hybrid=hybrid,
        null_block=minor >= 29,
    )


def by_formula(
    variant, *, version, available, gpus, length, batched, element_bytes, asynchronous, hybrid, block
):
    said = capacity(
        variant,
        max_model_len=length,
        max_num_batched_tokens=batched,
        tensor_parallel_size=gpus,
        kv_cache_element_bytes=element_bytes,
        available_bytes=available,
        async_scheduling=asynchronous,
        hybrid_kv_cache=hybrid,
        block_size=block,
        engine_version=version,
    )
    return said.fits, said.num_blocks, said.max_concurrency


ASKED = st.fixed_dictionaries(
    {
        "variant": st.sampled_from(sorted(SHAPES)),
        "version": st.sampled_from(
            ["0.19.1", "0.20.1", "0.22.1", "0.25.1", "0.26.0", "0.28.0", "0.29.0", "0.31", "0.32", "0.33.0"]
        ),
        "gpus": st.sampled_from([1, 2, 4, 8]),  # query heads divide by no other
        "length": st.integers(1, 262144),
        "batched": st.integers(1, 40000),
        "element_bytes": st.sampled_from([1, 2]),
        "asynchronous": st.booleans(),
        "hybrid": st.booleans(),
        "block": st.sampled_from([16, 32, 64, 128]),
    }
)


@settings(max_examples=400)
@given(ASKED, st.floats(0, 200))
def test_any_settings_with_any_fraction_of_a_gib(asked, gib):
    available = int(gib * GIB)
    assert by_formula(available=available, **asked) == the_long_way(available=available, **asked)


@settings(max_examples=200)
@given(ASKED, st.integers(-2, 2))
def test_around_the_byte_at_which_it_starts_to_fit(asked, off):
    edge = bytes_needed(
        asked["variant"],
        max_model_len=asked["length"],
        max_num_batched_tokens=asked["batched"],
        tensor_parallel_size=asked["gpus"],
        kv_cache_element_bytes=asked["element_bytes"],
        async_scheduling=asked["asynchronous"],
        hybrid_kv_cache=asked["hybrid"],
        block_size=asked["block"],
        engine_version=asked["version"],
    )
    found = by_formula(available=edge + off, **asked)
    assert found == the_long_way(available=edge + off, **asked)
    assert found[0] is (off >= 0)


def grid():
    with GRID.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("variant", SHAPES)
def test_every_row_of_the_grid_is_what_its_planner_said(variant):
    rows = [row for row in grid() if row["model"] == variant]
    assert len(rows) > 500
    wrong = []
    for row in rows:
        said = capacity(
            variant,
            max_model_len=int(row["max_model_len"]),
            max_num_batched_tokens=int(row["max_num_batched_tokens"]),
            tensor_parallel_size=int(row["tensor_parallel"]),
            kv_cache_element_bytes=int(row["kv_bytes"]),
            available_bytes=int(float(row["available_gib"]) * GIB),
            async_scheduling=row["async_scheduling"] == "True",
            hybrid_kv_cache=row["hybrid_kv"] == "True",
            engine_version=row["engine_version"],
        )
        shown = (str(said.fits), "" if said.num_blocks is None else str(said.num_blocks))
        if shown != (row["fits"], row["num_blocks"]) or str(said.tokens or "") != row["kv_tokens"]:
            wrong.append((row, said))
    assert wrong == []
