"""docs/hardware.md is what the planner says, and says what it is asked for."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.cli import main

ROOT = Path(__file__).parents[3]
_SPEC = importlib.util.spec_from_file_location("hardware_table", ROOT / "hack" / "hardware_table.py")
table = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(table)
PAGE = (ROOT / "docs" / "hardware.md").read_text()


def rows(variant):
    section = PAGE.split(f"## {variant}\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line]
    return lines[0], lines[2:]


def test_the_page_is_what_the_planner_says():
    assert table.page(packaged()) == PAGE, "run `make docs`, and give the reason in the commit"


@pytest.mark.parametrize("variant", table.VARIANTS)
def test_every_card_precision_and_context_has_its_cell(variant):
    head, cells = rows(variant)
    assert head[2:] == list(table.CARDS.values())
    told = {(row[0], row[1]) for row in cells}
    for precision in table.PRECISIONS:
        assert (precision, "") in told or all((precision, title) in told for title in table.CONTEXTS.values())
    words = re.compile(r"no|-|([1248] tight\*? / )?[1248] (yes|tight)\*?")
    assert all(words.fullmatch(cell) for row in cells for cell in row[2:])


def test_more_tokens_never_need_fewer_gpus():
    for variant in table.VARIANTS:
        _, cells = rows(variant)
        for column in range(2, len(table.CARDS) + 2):
            for precision in table.PRECISIONS:
                said = [row[column] for row in cells if row[0] == precision and row[column] != "-"]
                needed = [int(cell.split()[-2]) if cell != "no" else 99 for cell in said]
                assert needed == sorted(needed)


def test_what_common_tables_get_wrong_is_named():
    wrong = " ".join(PAGE.split("## Where common tables are wrong")[1].split())
    assert re.search(r"31B in BF16 takes 5[89]\.\d GiB", wrong)
    longest = [int(each.replace(",", "")) for each in re.findall(r"([\d,]+) tokens", wrong)]
    assert longest
    assert max(longest) < 32768


@pytest.mark.parametrize("variant", ["26B-A4B", "E2B"])
def test_a_cell_is_what_the_calculator_answers(variant, capsys):
    """Asked one number of GPUs after another, as somebody who doubts the page would."""
    (head, cells), cards = rows(variant), {title: card for card, title in table.CARDS.items()}
    contexts = {title: length for length, title in table.CONTEXTS.items()}
    for precision, context, *of_cards in cells:
        for title, cell in zip(head[2:], of_cards, strict=True):
            if cell != "-":
                asked = ("--precision", precision, "--context", str(contexts[context]), "--gpu", cards[title])
                asked += ("--modalities", "text,image")
                said = calculated(capsys, "--variant", variant, *asked)
                assert said == cell, (precision, context, title)


def calculated(capsys, *words):
    """The first number of GPUs that will do, and before it the first that may."""
    found = []
    for gpus in ("1", "2", "4", "8"):
        main(["memory", *words, "--gpus", gpus, "-o", "json"])
        answer = json.loads(capsys.readouterr().out)
        mark = "*" if answer["kvCachePrecision"] == "FP8" else ""
        if answer["fits"] == "yes" or (answer["fits"] == "tight" and not found):
            found.append(f"{gpus} {answer['fits']}{mark}")
        if answer["fits"] == "yes":
            break
    return " / ".join(found) or "no"
