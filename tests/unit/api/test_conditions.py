"""Conditions: what flips a time, what is dropped, and that the page and the enum are one."""

import re
from pathlib import Path

from gemma_operator.api import conditions, operations
from gemma_operator.api.conditions import Condition, ConditionType, Reason
from gemma_operator.api.remedies import REMEDIES

ROOT = Path(__file__).parents[3]
EARLY = "2026-01-01T00:00:00Z"
LATE = "2026-01-01T00:05:00Z"


def test_the_page_is_the_enum():
    assert (ROOT / "docs/conditions.md").read_text() == conditions.page()


def test_the_page_for_operations_has_a_remedy_for_every_reason():
    assert (ROOT / "docs/operations.md").read_text() == operations.page()
    assert set(REMEDIES) == {reason.value for reason in Reason}


def test_every_reason_is_said_somewhere():
    package = ROOT / "operator/gemma_operator"
    code = [path.read_text() for path in package.rglob("*.py") if path.name != "reasons.py"]
    said = {word for text in code for word in re.findall(r"\bReason\.([A-Z_]+)\b", text)}
    assert {reason.name for reason in Reason} == said


def test_every_word_is_camel_case_and_means_something():
    for word in (*ConditionType, *Reason):
        assert word.value.isalnum()
        assert word.value[0].isupper()
        assert word.meaning.endswith(".")


def test_a_time_moves_only_when_the_status_flips():
    first = conditions.merge([], [conditions.not_ready(Reason.STARTING_UP, "loading")], now_iso=EARLY)
    same = conditions.merge(first, [conditions.not_ready(Reason.NOT_PROVED, "no token")], now_iso=LATE)
    flipped = conditions.merge(same, [conditions.ready(Reason.SERVING)], now_iso=LATE)

    assert same[0]["lastTransitionTime"] == EARLY
    assert same[0]["reason"] == "NotProved"
    assert flipped[0]["lastTransitionTime"] == LATE


def test_merging_the_same_twice_changes_nothing():
    wanted = [
        conditions.stalled(Reason.CONFLICT, "rename it", generation=3),
        conditions.not_ready(Reason.CONFLICT, "x", generation=3),
    ]
    once = conditions.merge([], wanted, now_iso=EARLY)

    assert conditions.merge(once, list(reversed(wanted)), now_iso=LATE) == once


def test_a_condition_that_is_not_wanted_is_dropped():
    before = conditions.merge(
        [], [conditions.reconciling(Reason.WAITING_FOR_CAPACITY, "no room")], now_iso=EARLY
    )

    after = conditions.merge(before, [conditions.ready(Reason.SERVING)], now_iso=LATE)

    assert [condition["type"] for condition in after] == ["Ready"]


def test_conditions_stand_in_one_order_whatever_order_they_came_in():
    wanted = [
        conditions.stalled(Reason.NOTHING_FITS, "x"),
        conditions.healthy(),
        conditions.provisioned(),
        conditions.planned("x"),
        conditions.ready(Reason.SERVING),
    ]

    merged = conditions.merge([], wanted, now_iso=EARLY)

    assert [c["type"] for c in merged] == ["Ready", "Planned", "Provisioned", "Healthy", "Stalled"]


def test_a_message_is_cut_to_what_the_server_takes():
    merged = conditions.merge([], [conditions.not_ready(Reason.CRASH_LOOP, "x" * 600)], now_iso=EARLY)

    assert len(merged[0]["message"]) == 512
    assert merged[0]["message"].endswith("x…")


def test_no_message_holds_a_secret_whoever_wrote_it():
    """The last door: a text that went past every other scrubber still goes through here."""
    told = f"the hub said: Authorization: Bearer hf_{'x' * 34} is not known"
    merged = conditions.merge([], [conditions.not_ready(Reason.CRASH_LOOP, told)], now_iso=EARLY)

    assert "hf_x" not in merged[0]["message"]
    assert merged[0]["message"].endswith("is not known")


def test_stamp_says_all_of_one_generation():
    stamped = conditions.stamp([conditions.ready(Reason.SERVING), conditions.healthy()], generation=7)

    assert [condition.observed_generation for condition in stamped] == [7, 7]


def test_a_condition_of_an_unreadable_past_gets_the_time_of_now():
    merged = conditions.merge(
        [{"type": "Ready", "status": "True"}],
        [Condition(ConditionType.READY, "True", Reason.SERVING)],
        now_iso=LATE,
    )

    assert merged[0]["lastTransitionTime"] == LATE
