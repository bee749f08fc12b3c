"""docs/sandbox.md tells what the code can be told, and nothing else."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.cli import sandbox as command
from gemma_operator.sandbox.simulator import instructions
from gemma_operator.sandbox.simulator.instructions import Fault, Orders

PAGE = (Path(__file__).parents[3] / "docs/sandbox.md").read_text()
FIGURES = {
    "startup-seconds": Orders().startup_seconds,
    "token-seconds": Orders().token_seconds,
    "memory-needed-gib": Orders().memory_needed_gib,
    "memory-available-gib": Orders().memory_available_gib,
}


def table(head):
    """The rows of the table that begins with this cell."""
    rows = re.search(rf"\| {re.escape(head)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE)[1]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows.splitlines()]


def test_every_annotation_is_told_with_its_default():
    told = {row[0].strip("`"): row[1] for row in table("`sandbox.gemma-operator.io/…`")}
    assert told.keys() == instructions._READERS.keys()
    assert {key: float(told[key]) for key in FIGURES} == FIGURES
    assert instructions.PREFIX in PAGE


def test_every_fault_is_told_with_the_reason_that_the_operator_gives():
    told = {row[0].strip("`"): row[2] for row in table("fault")}
    assert told.keys() == set(Fault)
    reasons = {re.match(r"`(\w+)`", reason)[1] for reason in told.values()}
    assert reasons <= set(Reason)


def test_the_modules_own_table_names_every_annotation():
    rows = [line for line in instructions.__doc__.splitlines() if line.startswith("| `")][1:]
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
    assert named == instructions._READERS.keys()


def test_every_command_is_told():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    told = {row[0].strip("`").rpartition(" ")[2] for row in table("command")}
    assert told == commands.choices.keys()


@pytest.mark.parametrize("option", ["--assets", "--fleet", "--name", "--as-operator", "--all"])
def test_an_option_that_is_told_is_there(option):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = {word for each in commands.choices.values() for a in each._actions for word in a.option_strings}
    assert option in known
    assert option in PAGE
