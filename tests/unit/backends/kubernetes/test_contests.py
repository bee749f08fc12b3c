"""How often a child that others change is written, when, and for how long that is remembered."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.backends.kubernetes.contests import MOST_WRITES, Contests, Try
from snapshots import NOW

WINDOW = 600


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def note(contests, moment, *, sent="x", **known):
    contests.note("owner", "Service/chat", Try(sent, **known), uid=f"uid-{moment}", now=at(moment))


def tried(*moments, **known):
    contests = Contests(window_seconds=WINDOW)
    for moment in moments:
        note(contests, moment, **known)
    return contests


def seen(contests, moment):
    return contests.of("owner", now=at(moment)).get("Service/chat")


def moments_of(contests, *, until=7200, **known):
    """Every moment at which somebody who does nothing but wait tries again."""
    moment, moments = 0.0, []
    while moment <= until:
        note(contests, moment, **known)
        moments.append(moment)
        moment += max(1.0, seen(contests, moment).wait_seconds)
    return moments


@pytest.mark.parametrize(
    ("known", "first"),
    [
        ({"admitted": True}, [0, 15, 60, 180, 480, 780, 1080]),
        ({}, [0, 1, 2, 122, 422, 722, 1022]),
        ({"gone": True}, [0, 1, 2, 122, 422, 722, 1022]),
    ],
    ids=["admission", "another writer, a second later each time", "one who deletes, as often"],
)
def test_the_waits_grow_and_then_stay(known, first):
    assert moments_of(Contests(window_seconds=WINDOW), **known)[:7] == first


@given(
    pauses=st.lists(st.floats(0, 900), min_size=1, max_size=60),
    admitted=st.booleans(),
    requests=st.sampled_from([1, 3]),
)
def test_no_window_holds_more_writes_than_the_budget(pauses, admitted, requests):
    contests, moment, moments = Contests(window_seconds=WINDOW), 0.0, []
    for pause in pauses:
        note(contests, moment, admitted=admitted, requests=requests)
        moments.append(moment)
        moment += max(pause, seen(contests, moment).wait_seconds if seen(contests, moment) else 0)
    for start in moments:
        within = [moment for moment in moments if start <= moment < start + WINDOW]
        assert len(within) * requests <= MOST_WRITES


def test_a_first_repair_is_no_contest():
    assert not seen(tried(0, 100), 100).stubborn
    assert seen(tried(0, 100, 110), 110).stubborn


def test_what_admission_answers_is_one_at_once_and_stays_one_at_rest():
    contests = tried(0, admitted=True)
    assert seen(contests, 0).stubborn
    assert seen(contests, 10 * WINDOW) is not None


def test_a_repair_that_stands_is_believed_after_a_while():
    contests = tried(0, 1, 2)
    assert seen(contests, 2).settles_seconds == 30
    assert seen(contests, 40).settles_seconds == 0


def test_what_is_long_ago_is_forgotten():
    assert seen(tried(0, 1, 2), 2 + WINDOW + 1) is None


def test_another_manifest_begins_anew():
    contests = tried(0, 1, 2, 3)
    note(contests, 4, sent="y", gone=True)
    assert not seen(contests, 4).stubborn


def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_window():
    assert seen(tried(0, 1, 2), -86400).wait_seconds == WINDOW


def test_what_belongs_to_an_owner_goes_with_it():
    contests = tried(0)
    assert contests.is_again("owner", "Service/chat", sent="x")
    assert contests.forget("owner") == ("uid-0",)
    assert not contests.is_again("owner", "Service/chat", sent="x")


def test_what_was_deleted_once_stays_so_told_until_nobody_did_for_a_window():
    contests = tried(0, gone=True)
    note(contests, 10)
    assert seen(contests, 10).gone, "one who deletes and changes in turns is not made anew at once each time"
    note(contests, 11 + WINDOW)
    assert not seen(contests, 11 + WINDOW).gone


def test_what_we_delete_ourselves_is_no_contest():
    contests = tried(0, 1, 2, gone=True)
    contests.removed("owner", "Service/chat")
    assert not contests.is_again("owner", "Service/chat", sent="x")
    note(contests, 3)
    assert not seen(contests, 3).stubborn
