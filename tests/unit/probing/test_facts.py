"""What the facts of one replica say, and how they change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import (
    FailureKind,
    Heard,
    ProbeResult,
    ReplicaFacts,
    Verdict,
    after_hearing,
    after_probe,
    after_scrape,
    counts_as_proved,
    serves_users,
    verdict,
)

MODEL = "chat"
A_TOKEN = ProbeResult(None, model=MODEL, tokens=1, seconds=0.1)


class Life:
    """One replica's story, told event by event; each takes ten seconds."""

    def __init__(self) -> None:
        self.facts = ReplicaFacts(pod_uid="pod")
        self.now_seconds = 0.0

    def proves(self) -> Life:
        return self._probe(A_TOKEN)

    def fails(self, kind: FailureKind, times: int = 1) -> Life:
        for _ in range(times):
            self._probe(ProbeResult(kind, detail="why"))
        return self

    def shows(self, generated: int = 0, *, models: frozenset[str] = frozenset({MODEL}), **figures) -> Life:
        sample = EngineSample(generation_tokens=generated, models=models, **figures)
        self.facts = after_scrape(self.facts, sample, now_seconds=self.now_seconds, model_name=MODEL)
        self.now_seconds += 10
        return self

    def _probe(self, result: ProbeResult) -> Life:
        self.facts = after_probe(self.facts, result, now_seconds=self.now_seconds)
        self.now_seconds += 10
        return self

    @property
    def verdict(self) -> Verdict:
        return verdict(self.facts)

    @property
    def counts(self) -> bool:
        return counts_as_proved(self.facts)


def test_nothing_seen_is_unknown():
    assert verdict(None) is Verdict.UNKNOWN
    assert Life().verdict is Verdict.UNKNOWN
    assert not counts_as_proved(None)


def test_a_token_proves_even_at_second_zero_of_the_clock():
    life = Life().proves()
    assert life.facts.proved_at_seconds == 0.0
    assert (life.verdict, life.counts) == (Verdict.PROVED, True)


def test_a_scrape_alone_proves_nothing():
    life = Life().shows(1000, running=3)
    assert (life.verdict, life.counts) == (Verdict.UNKNOWN, False)


def test_real_traffic_between_two_scrapes_is_proof():
    life = Life().shows(1000).shows(1001)
    assert (life.verdict, life.facts.proved_model) == (Verdict.PROVED, MODEL)
    assert life.facts.proved_at_seconds == 10.0


@pytest.mark.parametrize("models", [frozenset({"other"}), frozenset({MODEL, "other"}), frozenset()])
def test_traffic_of_another_model_is_no_proof(models):
    assert Life().shows(10, models=models).shows(500, models=models).verdict is Verdict.UNKNOWN


def test_our_own_token_is_no_traffic():
    life = Life().shows(10).proves()
    before = life.facts.proved_at_seconds
    assert life.shows(11).facts.proved_at_seconds == before
    assert life.shows(11).facts.proved_at_seconds == before
    assert life.shows(12).facts.proved_at_seconds > before


def without_an_answer(kind):
    """What a replica is that a new pod would not cure."""
    return Verdict.OUT_OF_REACH if kind is FailureKind.UNREACHABLE else Verdict.FAILING


@pytest.mark.parametrize("kind", FailureKind)
def test_one_failure_is_no_wedge_but_does_not_count(kind):
    life = Life().proves().fails(kind)
    assert (life.verdict, life.counts) == (without_an_answer(kind), False)


@pytest.mark.parametrize("kind", FailureKind)
def test_two_failures_wedge_what_a_new_pod_cures(kind):
    cured = {FailureKind.TIMEOUT, FailureKind.STATUS, FailureKind.NO_TOKEN, FailureKind.BROKEN}
    expected = Verdict.WEDGED if kind in cured else without_an_answer(kind)
    assert Life().proves().fails(kind, times=2).verdict is expected


@pytest.mark.parametrize("kind", FailureKind)
def test_what_was_never_proved_is_failing(kind):
    life = Life().fails(kind, times=10)
    assert (life.verdict, life.counts) == (without_an_answer(kind), False)


def test_a_full_queue_that_moves_is_not_wedged():
    life = Life().shows(100).proves()
    for generated in (400, 700, 1000):
        life.fails(FailureKind.TIMEOUT).shows(generated, running=4, waiting=200)
    assert (life.verdict, life.counts) == (Verdict.PROVED, True)


def test_a_full_queue_that_stops_is_wedged():
    life = Life().shows(100).proves().fails(FailureKind.TIMEOUT).shows(400, running=4, waiting=200)
    life.fails(FailureKind.TIMEOUT).shows(400, running=4, waiting=200)
    assert life.verdict is Verdict.FAILING
    life.fails(FailureKind.TIMEOUT).shows(400, running=4, waiting=200)
    assert (life.verdict, life.counts) == (Verdict.WEDGED, False)


def test_slow_but_alive_one_long_prefill_takes_blocks_and_is_busy():
    life = Life().shows(100, running=1, waiting=1, kv_usage=0.1).proves()
    life.shows(101, running=1, waiting=1, kv_usage=0.1)
    for usage in (0.2, 0.3, 0.4):
        life.fails(FailureKind.TIMEOUT).shows(101, running=1, waiting=1, kv_usage=usage)
        assert (life.verdict, life.counts) == (Verdict.BUSY, True)


def test_a_prompt_that_was_read_is_progress():
    life = Life().shows(5, running=1, prompt_tokens=7).fails(FailureKind.TIMEOUT)
    assert life.shows(5, running=1, prompt_tokens=900).verdict is Verdict.BUSY


def test_busy_without_a_proof_does_not_count():
    life = Life().shows(0, running=1, kv_usage=0.1).fails(FailureKind.TIMEOUT)
    life.shows(0, running=1, kv_usage=0.2)
    assert (life.verdict, life.counts) == (Verdict.BUSY, False)


def test_running_none_with_some_waiting_is_wedged_whatever_was_generated_before():
    life = Life().shows(100).shows(900, running=4, waiting=9)
    for _ in range(2):
        life.fails(FailureKind.TIMEOUT).shows(900, running=0, waiting=9, kv_usage=0.7)
    assert life.verdict is Verdict.WEDGED


def test_a_queue_that_moved_and_stopped_running_is_no_longer_busy():
    nobody = frozenset()
    life = Life().shows(100, models=nobody).fails(FailureKind.TIMEOUT)
    assert life.shows(200, running=4, waiting=9, models=nobody).verdict is Verdict.BUSY
    assert life.shows(200, running=0, waiting=9, models=nobody).verdict is Verdict.FAILING


def test_a_prompt_of_our_own_is_no_progress():
    life = Life().shows(5, running=1, prompt_tokens=7).fails(FailureKind.STATUS)
    assert life.shows(5, running=1, prompt_tokens=20).verdict is Verdict.FAILING


def test_blocks_taken_while_nothing_runs_are_no_progress():
    life = Life().proves()
    for usage in (0.1, 0.2, 0.3):
        life.fails(FailureKind.TIMEOUT).shows(0, running=0, waiting=9, kv_usage=usage)
    assert life.verdict is Verdict.WEDGED


def test_blocks_given_back_are_no_progress():
    life = Life().proves()
    for usage in (0.9, 0.5, 0.1):
        life.fails(FailureKind.TIMEOUT).shows(0, running=1, kv_usage=usage)
    assert life.verdict is Verdict.WEDGED


@pytest.mark.parametrize("kind", [FailureKind.NO_TOKEN, FailureKind.WRONG_MODEL, FailureKind.BROKEN])
def test_traffic_does_not_mend_a_wrong_answer(kind):
    life = Life().shows(0).proves().fails(kind).shows(500, running=1).shows(900, running=1)
    assert (life.verdict, life.counts) == (Verdict.FAILING, False)


def test_a_wrong_model_is_never_proved_by_traffic():
    life = Life().shows(0).fails(FailureKind.WRONG_MODEL, times=9).shows(500, running=2).shows(900, running=2)
    assert (life.verdict, life.facts.proved_at_seconds) == (Verdict.FAILING, None)


def test_a_token_mends_everything():
    life = Life().proves().fails(FailureKind.NO_TOKEN, times=5).proves()
    assert (life.verdict, life.facts.failure, life.facts.failed_probes) == (Verdict.PROVED, None, 0)


def test_an_engine_that_restarted_has_to_prove_itself_again():
    life = Life().shows(500).proves().shows(501).shows(3)
    assert (life.verdict, life.facts.proved_model) == (Verdict.UNKNOWN, "")
    assert life.proves().verdict is Verdict.PROVED


def test_after_a_restart_of_the_operator_a_standing_queue_in_sight_is_wedged_in_the_end():
    life = Life().shows(900, running=0, waiting=9)
    life.fails(FailureKind.TIMEOUT, times=5)
    assert life.verdict is Verdict.FAILING
    assert life.fails(FailureKind.TIMEOUT).verdict is Verdict.WEDGED


def test_what_is_out_of_sight_is_not_called_wedged():
    assert Life().fails(FailureKind.TIMEOUT, times=50).verdict is Verdict.FAILING


def test_the_time_of_a_called_off_probe_makes_its_late_token_progress():
    life = Life().shows(10).proves().shows(11).fails(FailureKind.TIMEOUT)
    assert life.shows(12).verdict is Verdict.PROVED


def test_an_error_may_have_cost_a_token_and_is_not_mended_by_it():
    life = Life().shows(10).fails(FailureKind.STATUS)
    assert life.shows(11).verdict is Verdict.FAILING


def test_the_last_known_size_of_the_cache_stays_when_a_scrape_does_not_tell():
    assert Life().shows(kv_tokens=172960).shows().facts.measured_kv_tokens == 172960


def test_facts_hold_the_last_gauges():
    facts = Life().shows(running=2, waiting=3, kv_usage=0.25).facts
    assert (facts.running, facts.waiting, facts.kv_usage) == (2, 3, 0.25)
    assert replace(facts, pod_uid="other").scraped_at_seconds == 0.0


HEARD = st.sampled_from([None, Heard(None), Heard(0), Heard(1), Heard(3)])
PROBES = st.builds(
    lambda kind, heard: ProbeResult(kind, model=MODEL, tokens=kind is None, heard=heard),
    st.none() | st.sampled_from(FailureKind),
    HEARD,
)
SAMPLES = st.builds(
    EngineSample,
    generation_tokens=st.integers(0, 9),
    running=st.integers(0, 2),
    waiting=st.integers(0, 2),
    models=st.just(frozenset({MODEL})),
)


@given(events=st.lists(PROBES | SAMPLES | HEARD, max_size=12))
def test_a_guard_without_keys_is_said_of_what_works_and_of_nothing_else(events):
    """Whatever happened: it never hides a fault, never makes one, and holds until an answer says otherwise."""
    told, silent, last = ReplicaFacts(pod_uid="pod"), ReplicaFacts(pod_uid="pod"), None
    for at, event in enumerate(events):
        if isinstance(event, EngineSample):
            told = after_scrape(told, event, now_seconds=at, model_name=MODEL)
            silent = after_scrape(silent, event, now_seconds=at, model_name=MODEL)
        elif isinstance(event, ProbeResult):
            told = after_probe(told, event, now_seconds=at)
            silent = after_probe(silent, replace(event, heard=None), now_seconds=at)
            last = event.heard or last
        else:
            told = after_hearing(told, event)
            last = event or last
    works = verdict(silent) in (Verdict.PROVED, Verdict.BUSY)
    refuses_all = works and last == Heard(0)
    assert verdict(told) is (Verdict.KEYLESS if refuses_all else verdict(silent))
    assert counts_as_proved(told) == counts_as_proved(silent)
    assert serves_users(told) == (counts_as_proved(silent) and not refuses_all)
