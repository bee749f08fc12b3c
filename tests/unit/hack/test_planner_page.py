"""docs/planner.md says what the planner says, and its example adds up with a pocket calculator."""

import importlib.util
import math
import re
import sys
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "planner.md").read_text()


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "hack" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tables, golden, figures = script("planner_tables"), script("golden_plans"), script("planner_figures")


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("weights", tables.weights),
        ("overhead", tables.overheads),
        ("one plan", tables.example),
        ("golden plans", golden.section),
        *figures.SECTIONS.items(),
    ],
)
def test_a_section_is_what_the_planner_says(name, section):
    said = golden.replaced(PAGE, name, section(packaged()))
    assert said == PAGE, "run `make docs`; where a golden plan changed, give the reason in the commit"


def test_golden_plans_are_of_five_variants_twelve_cards_and_four_workloads():
    assert (len(golden.VARIANTS), len(set(golden.CARDS)), len(golden.WORKLOADS)) == (5, 12, 4)


def test_a_section_that_the_page_lacks_is_an_error():
    with pytest.raises(ValueError, match="no section 'costs'"):
        golden.replaced(PAGE, "costs", "")


def test_every_usable_log_and_every_load_is_shown():
    assert len(list(tables.compared_overheads(packaged()))) == 32
    assert len(list(tables.compared_loads(packaged()))) == 35


def test_the_errors_that_the_page_promises_hold():
    loads = list(tables.compared_loads(packaged()))
    assert all(abs(each.off_gib) <= max(0.35, 0.02 * each.reported_gib) for each in loads)
    overheads = [abs(each.off_gib) for each in tables.compared_overheads(packaged())]
    assert max(overheads) <= 0.5
    assert sorted(overheads)[len(overheads) // 2] <= 0.2


def test_the_error_that_the_page_begins_with_is_that_of_its_table():
    begins, logs = PAGE.split("## KV cache")[0], PAGE.split("<!-- overhead -->")[1]
    (said,) = re.findall(r"([\d.]+) GiB at the median", begins)
    assert f"logs; median error {said} GiB" in logs


def test_the_example_adds_up_by_hand():
    """Nothing of the planner: the figures of the table, and school arithmetic."""
    rows = {}
    for line in PAGE.split("<!-- one plan -->")[1].split("<!-- end")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and ": " in cells[0]:
            rows[cells[0]] = cells[1].replace(",", "")
    mib = {name: float(size) for name, size in rows.items() if size and not size.endswith(" B")}

    usable = 81080 * 0.92
    weights = (
        8_477_736_960 + 20_808_990_720 + 1_409_286_144 + 575_779_436 + 1_295_616  # all at two bytes
    ) * 2 + 110_100_480 * 2  # K once more as V
    weights = (weights + 262_144 * (256 + 512) * 2) / 2**20  # cosines and sines of both head sizes
    overhead = 256 + 1024 * 1.03 + max(4096 / 1024 * 0.164 * 1024, 1024 * 1.5) + 512
    block = 10 * 16 * (16 * 256 * 2 * 2) / 2**20  # ten layers, 16 tokens, 16 heads of 256, K and V, two bytes
    sliding = math.ceil(min(1023 + 2 * 4096, 32768) / 16) + 1
    request = 5 * sliding + math.ceil(32768 / 32)
    left = usable - weights - overhead

    assert mib["card: usable"] == pytest.approx(usable, abs=0.06)
    assert mib["weights: weights"] == pytest.approx(weights, abs=0.06)
    assert mib["overhead: overhead"] == pytest.approx(overhead, abs=0.06)
    assert mib["KV cache: a block of the pool"] == block == 2.5
    assert (sliding, request) == (577, 3909)
    assert rows["KV cache: a token in a sliding layer"] == f"{16 * 256 * 2 * 2} B"
    assert rows["KV cache: a token in a full layer"] == f"{4 * 512 * 2 * 2} B"
    assert mib["KV cache: needed"] == (request + 1) * block
    assert mib["KV cache: left"] == pytest.approx(left, abs=0.06)
    assert mib["verdict: to spare"] == pytest.approx(left - (request + 1) * block, abs=0.06)
    assert 5 * (math.ceil((1023 + 2 * 8192) / 16) + 1) + 1024 == 6469  # the batch that was given up
    assert 6470 * block > left
