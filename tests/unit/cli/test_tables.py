"""Tables in a pipe, on a wide terminal and on a narrow one."""

import sys

import pytest

from gemma_operator.cli import tables

HEADER = ("NAME", "MESSAGE")
SENTENCE = "the taint dedicated is not tolerated: add a toleration to hardware.tolerations"


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns."""

    def wide(columns):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return wide


def test_a_pipe_gets_one_line_a_row_whatever_a_shell_exports(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert tables.text(HEADER, [("l4", SENTENCE)]).splitlines() == ["NAME   MESSAGE", f"l4     {SENTENCE}"]


def test_a_terminal_wraps_the_last_column_beside_the_others(terminal):
    terminal(60)
    header, first, *more = tables.text(HEADER, [("l4", SENTENCE)]).splitlines()
    assert header == "NAME   MESSAGE"
    assert first.startswith("l4     the taint")
    assert all(line.startswith(" " * 7) and len(line) <= 60 for line in more)
    assert " ".join([first[7:], *(line.strip() for line in more)]) == SENTENCE


def test_a_narrow_terminal_puts_the_last_column_beneath(terminal):
    terminal(80)
    pool = "karpenter-nodepool/gpu-spot-with-a-long-name-of-sixty-two-characters-x"
    lines = tables.text(HEADER, [(pool, SENTENCE), ("l4", "")]).splitlines()
    assert [lines[0], lines[2], lines[-1]] == ["NAME", pool, "l4"]
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(line.strip() for line in lines[3:-1]) == SENTENCE


def test_what_fits_is_not_wrapped(terminal):
    terminal(100)
    assert len(tables.text(HEADER, [("l4", SENTENCE)]).splitlines()) == 2


def test_a_cell_that_is_not_known_is_a_dash():
    assert [tables.word(value) for value in (None, "", True, False, 0)] == ["-", "-", "yes", "no", "0"]
