"""A command line is read as the engine's own parser reads it."""

import pytest

from gemma_operator.engines import command_line

KNOWN = frozenset(
    {"--max-num-seqs", "--enforce-eager", "--no-enforce-eager", "--json-arg", "--max-model-len"}
)


def read(*words):
    return list(command_line.read(words, known=KNOWN))


@pytest.mark.parametrize(
    "words", [("--max-num-seqs", "4"), ("--max-num-seqs=4",), ("--max_num_seqs", "4"), ("--max-num=4",)]
)
def test_every_spelling_of_a_flag_is_the_same_flag(words):
    (flag,) = read(*words)
    assert (flag.name, flag.value, flag.known) == ("max-num-seqs", "4", True)


def test_a_beginning_of_two_flags_is_neither():
    (flag,) = read("--max=4")
    assert not flag.known


def test_a_switch_has_no_value_and_does_not_eat_the_next_flag():
    switch, other = read("--enforce-eager", "--max-num-seqs", "4")
    assert (switch.value, switch.switched_on, other.value) == (None, True, "4")


def test_a_switch_can_be_said_no_to():
    (flag,) = read("--no-enforce-eager")
    assert (flag.name, flag.switched_on, flag.known) == ("enforce-eager", False, True)


def test_a_key_of_a_json_flag_is_still_that_flag():
    (flag,) = read("--json-arg.inner.key", "0.5")
    assert (flag.name, flag.value, flag.known) == ("json-arg", "0.5", True)
    assert flag.key == "inner.key"


def test_a_dot_in_a_value_is_no_key():
    (flag,) = read("--max-model-len=25.6k")
    assert (flag.name, flag.value) == ("max-model-len", "25.6k")


def test_words_before_the_first_flag_are_nobodys():
    assert [flag.name for flag in read("google/gemma-4-31B-it", "--enforce-eager")] == ["enforce-eager"]
