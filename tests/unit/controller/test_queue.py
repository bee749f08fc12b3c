"""The queue: each key once, worked on once at a time, in time, behind a gate."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gemma_operator.controller.queue import Queue, Schedule


class Machine(RuleBasedStateMachine):
    """Against a model that knows only: who is wanted now, who later, and who is worked on."""

    keys = st.sampled_from("abcd")

    def __init__(self):
        super().__init__()
        self.schedule = Schedule()
        self.now = 0.0
        self.wanted = set()
        self.working = set()
        self.later = {}

    @rule(key=keys)
    def add(self, key):
        self.schedule.add(key, now=self.now)
        self.wanted.add(key)
        self.later.pop(key, None)

    @rule(key=keys, delay=st.integers(1, 20))
    def add_later(self, key, delay):
        self.schedule.add_at(key, at=self.now + delay)
        if key not in self.wanted or key in self.working:
            self.later[key] = min(self.later.get(key, float("inf")), self.now + delay)

    @rule(seconds=st.integers(1, 10))
    def time_passes(self, seconds):
        self.now += seconds
        woken = self.schedule.wake(now=self.now)
        due = {key for key, at in self.later.items() if at <= self.now}
        assert set(woken) == due - self.wanted
        assert len(woken) == len(set(woken))
        self.wanted |= due
        for key in due:
            del self.later[key]

    @rule()
    def take(self):
        taken = self.schedule.take(now=self.now)
        free = self.wanted - self.working
        if taken is None:
            assert not free
            return
        key, waited_seconds = taken
        assert key in free, "never one that is worked on, never one that nobody wants"
        assert waited_seconds >= 0
        self.wanted.remove(key)
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data):
        key = data.draw(st.sampled_from(sorted(self.working)))
        assert self.schedule.done(key, now=self.now) >= 0
        self.working.remove(key)

    @invariant()
    def nothing_is_lost_or_doubled(self):
        assert len(self.schedule) == len(self.wanted - self.working)
        assert self.schedule.working == self.working
        assert self.schedule.next_at() == min(self.later.values(), default=None)


TestSchedule = Machine.TestCase
TestSchedule.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@pytest.fixture
def queue():
    queue = Queue()
    queue.open()
    return queue


async def test_a_key_added_twice_is_handed_out_once(queue):
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_and_not_before(queue):
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "a"


async def test_a_closed_gate_keeps_keys_and_an_opened_one_hands_them_out():
    queue = Queue()
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.open()
    assert await waiting == "a"
    queue.close()
    queue.add("b")
    blocked = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not blocked.done()
    blocked.cancel()
    assert not queue.is_open


async def test_every_waiting_worker_is_woken(queue):
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    for key in "abc":
        queue.add(key)
    assert sorted(await asyncio.gather(*workers)) == ["a", "b", "c"]


async def test_a_cancelled_worker_loses_no_key(queue):
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    async with asyncio.timeout(5):
        assert await second == "a"


async def test_the_earliest_wish_counts(queue):
    queue.add_after("a", 60.0)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30.0)
    async with asyncio.timeout(5):
        assert await queue.get() == "a"


async def test_a_look_fulfils_an_earlier_wish(queue):
    queue.add_after("a", 0.01)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    queue.add_after("b", 0.02)
    async with asyncio.timeout(5):
        assert await queue.get() == "b", "the wish for a was fulfilled by the look at it"


async def test_failures_wait_longer_each_time_up_to_the_cap_until_forgotten():
    queue = Queue(first_pause_seconds=1.0, longest_pause_seconds=10.0, chance=lambda: 1.0)
    assert [queue.retry("a") for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert queue.retry("b") == 1.0
    queue.forget("a")
    assert queue.retry("a") == 1.0


async def test_a_server_that_asks_for_patience_gets_it():
    queue = Queue(first_pause_seconds=1.0, chance=lambda: 0.0)
    assert queue.retry("a", at_least_seconds=7.0) == 7.0


async def test_the_age_of_the_oldest_worker_is_known():
    now = [0.0]
    queue = Queue(clock=lambda: now[0])
    queue.open()
    assert queue.oldest_worker_seconds == 0.0
    queue.add("a")
    await queue.get()
    now[0] = 5.0
    queue.add("b")
    await queue.get()
    now[0] = 7.0
    assert queue.oldest_worker_seconds == 7.0
    queue.done("a")
    assert queue.oldest_worker_seconds == 2.0


async def test_idle_waits_for_the_last_worker(queue):
    await queue.idle()
    queue.add("a")
    await queue.get()
    idle = asyncio.create_task(queue.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    queue.done("a")
    await idle


async def test_an_observer_hears_of_every_step():
    class Log(list):
        def added(self):
            self.append("added")

        def retried(self):
            self.append("retried")

        def waited(self, seconds):
            self.append(("waited", seconds))

    log, now = Log(), [0.0]
    queue = Queue(observer=log, clock=lambda: now[0])
    queue.add("a")
    now[0] = 2.0
    queue.open()
    await queue.get()
    now[0] = 5.0
    queue.done("a")
    queue.retry("a", at_least_seconds=60)
    assert log == ["added", ("waited", 2.0), "retried"]
    assert (len(queue), queue.working) == (0, 0)
