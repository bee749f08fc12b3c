"""What no log shows makes a plan tight, and only where it would not fit."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.values import Candidate
from unit.planner.shapes import a_pool, a_request

CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in packaged().checkpoints}


def fit(card, *, modalities=("text",), gpus=1, version="0.32", **flags):
    found = CHECKPOINTS["gemma-4-e4b-it-bf16"]
    request = a_request(
        "E4B",
        precisions=("bf16",),
        context_length=8192,
        modalities=frozenset(modalities),
        engine_version=version,
        engine_overrides=tuple((name.replace("_", "-"), value) for name, value in flags.items()),
    )
    candidate = Candidate(packaged().variants["E4B"], found, "bf16", a_pool(card), gpus)
    return Fitting(request, packaged()).fit(candidate)


def test_a_second_table_of_words_that_does_not_fit_is_a_doubt():
    """E4B has 5.25 GiB of per-layer words; with text alone they are an input of what is compiled."""
    found = fit("nvidia-l4")
    assert found.memory.kv_cache_bytes < 5.25 * 2**30
    assert found.tight
    (said,) = [words for words in found.unverified if "second table of words" in words]
    assert "5.2 GiB" in said


@pytest.mark.parametrize(
    "asked",
    [
        {"modalities": ("text", "image")},
        {"gpus": 2},
        {"version": "0.28.0"},
        {"enforce_eager": "true"},
    ],
)
def test_it_is_none_where_it_is_not_compiled_or_was_not_seen(asked):
    assert not any("second table" in words for words in fit("nvidia-l4", **asked).unverified)


def test_it_is_none_where_it_fits():
    found = fit("nvidia-l40s")
    assert (found.tight, found.unverified) == (False, ())


def test_graphs_of_flashinfer_are_a_doubt_whatever_is_left():
    found = fit("nvidia-l40s", attention_backend="flashinfer")
    assert found.tight
    assert any("FLASHINFER" in words for words in found.unverified)
