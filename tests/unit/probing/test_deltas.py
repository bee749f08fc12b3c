"""Counters that outlive engines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.probing.deltas import Delta, since
from gemma_operator.probing.exposition import EngineSample


def a_sample(prompt: int = 0, generated: int = 0, **requests: int) -> EngineSample:
    return EngineSample(prompt_tokens=prompt, generation_tokens=generated, requests=requests)


def test_the_first_sight_is_the_baseline():
    assert since(None, a_sample(100, 900, stop=5)) == Delta(requests={"stop": 0})


def test_growth_is_counted():
    assert since(a_sample(1, 2, stop=3), a_sample(11, 22, stop=4, abort=1)) == Delta(
        prompt_tokens=10, generation_tokens=20, requests={"stop": 1, "abort": 1}
    )


def test_a_fall_is_a_restart_and_the_new_value_counts_from_zero():
    assert since(a_sample(100, 900), a_sample(30, 40)) == Delta(
        prompt_tokens=30, generation_tokens=40, restarted=True
    )


def test_one_counter_that_fell_restarts_all_of_them():
    delta = since(a_sample(10, 900, stop=1), a_sample(30, 40, stop=2))
    assert delta == Delta(prompt_tokens=30, generation_tokens=40, requests={"stop": 2}, restarted=True)


def test_a_reason_that_vanished_is_a_restart():
    assert since(a_sample(1, 1, abort=2), a_sample(1, 1)).restarted


@given(st.lists(st.lists(st.integers(min_value=0, max_value=1000), max_size=8), max_size=6))
def test_the_sum_is_what_every_engine_did_after_its_first_sight(lives: list[list[int]]):
    """Each life is one engine process; its first own scrape is the baseline only for the very first."""
    total, expected, previous, seen_first = 0, 0, None, False
    for life in lives:
        count = 0
        for step, increment in enumerate(life):
            count += increment
            current = a_sample(generated=count)
            fell = previous is not None and count < previous.generation_tokens
            if not seen_first:
                seen_first = True
            elif fell or step > 0:
                expected += count if fell else count - previous.generation_tokens
            else:
                expected += count - previous.generation_tokens  # grew past its old self: cannot be told apart
            total += since(previous, current).generation_tokens
            previous = current
    assert total == expected
    assert total >= 0
