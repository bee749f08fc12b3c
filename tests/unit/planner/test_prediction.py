"""A measurement is off where it is further from the plan than the band, either way, and of this very plan."""

from dataclasses import replace

import pytest

from gemma_operator.planner import prediction
from plans import a_plan

PLAN = a_plan()  # 100,000 tokens in 40,000 MiB, a band of 1,024 MiB: 2,560 tokens


def measured(tokens, *, predicted=PLAN.kv_tokens):
    return {"kvCacheTokens": tokens, "predictedKvCacheTokens": predicted}


@pytest.mark.parametrize("tokens", [100_000, 100_000 - 2560, 100_000 + 2560])
def test_inside_the_band_all_is_as_planned(tokens):
    assert prediction.off(PLAN, measured(tokens)) == ""


def test_beyond_it_the_words_hold_both_figures_and_the_memory_between():
    assert prediction.off(PLAN, measured(90_000)) == (
        "the engine's KV cache holds 90,000 tokens, 100,000 were planned: 3.9 GiB less on each GPU, "
        "and the band is 1.0 GiB"
    )
    assert "3.9 GiB more" in prediction.off(PLAN, measured(110_000))
    assert prediction.off(PLAN, measured(100_000 - 2563)) != ""


def test_what_another_plan_predicted_is_not_held_against_this_one():
    assert prediction.off(PLAN, measured(50_000, predicted=60_000)) == ""


def test_without_a_measurement_or_a_prediction_nothing_is_said():
    assert prediction.off(PLAN, None) == ""
    assert prediction.off(replace(PLAN, kv_tokens=0), measured(1, predicted=0)) == ""
