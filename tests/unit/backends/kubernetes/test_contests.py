"""How often a child that others change is written, when, and for how long that is remembered."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.backends.kubernetes.contests import MOST_WRITES, Contests
from gemma_operator.backends.kubernetes.differences import Changed
from snapshots import NOW

WINDOW = 600


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def note(contests, moment, *, admitted, requests=1, sent="x"):
    now, changed = at(moment), Changed()
    contests.note("owner", "child", sent=sent, now=now, changed=changed, admitted=admitted, requests=requests)


def tried(*moments, admitted=False, requests=1, sent="x"):
    contests = Contests(window_seconds=WINDOW)
    for moment in moments:
        note(contests, moment, admitted=admitted, requests=requests, sent=sent)
    return contests


def seen(contests, moment):
    return contests.of("owner", now=at(moment)).get("child")


def moments_of(contests, *, admitted, requests=1, until=7200):
    """Every moment at which somebody who does nothing but wait tries again."""
    moment, moments = 0.0, []
    while moment <= until:
        note(contests, moment, admitted=admitted, requests=requests)
        moments.append(moment)
        moment += max(1.0, seen(contests, moment).wait_seconds)
    return moments


@pytest.mark.parametrize(
    ("admitted", "first"),
    [(True, [0, 15, 60, 180, 480, 780, 1080]), (False, [0, 1, 2, 122, 422, 722, 1022])],
    ids=["admission", "another writer, a second later each time"],
)
def test_the_waits_grow_and_then_stay(admitted, first):
    assert moments_of(Contests(window_seconds=WINDOW), admitted=admitted)[:7] == first


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
    contests.note("owner", "child", sent="y", now=at(4), changed=Changed(), admitted=False)
    assert not seen(contests, 4).stubborn


def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_a_window():
    assert seen(tried(0, 1, 2), -86400).wait_seconds == WINDOW


def test_what_belongs_to_an_owner_goes_with_it():
    contests = tried(0)
    assert contests.is_again("owner", "child", sent="x")
    assert contests.forget("owner") == ("child",)
    assert not contests.is_again("owner", "child", sent="x")
