"""What a result or an error of a reconcile means for its key."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.queue import Queue
from gemma_operator.controller.workers import work
from gemma_operator.errors import Conflict, Forbidden, NotLeader, TooManyRequests

KEY = Key("team", "chat")


class Recorder(Queue[Key]):
    """A queue that says what was asked of it."""

    def __init__(self):
        super().__init__(chance=lambda: 0.5)
        self.said = []
        self.open()

    def retry(self, key, *, at_least_seconds=0.0):
        seconds = max(at_least_seconds, 0.1)
        self.said.append(("retry", at_least_seconds))
        return seconds

    def forget(self, key):
        self.said.append("forget")

    def add_after(self, key, seconds):
        self.said.append(("add_after", seconds))


async def once(answer, **options):
    """One key through one worker."""
    queue, results = Recorder(), []

    async def reconcile(key):
        assert key == KEY
        if isinstance(answer, BaseException):
            raise answer
        return await answer() if callable(answer) else answer

    task = asyncio.create_task(
        work(queue, reconcile, on_result=lambda result, _seconds: results.append(result), **options)
    )
    queue.add(KEY)
    async with asyncio.timeout(5):
        while not results:  # noqa: ASYNC110 - the worker itself sets nothing
            await asyncio.sleep(0)
    assert queue.working == 0
    assert not task.done(), "a worker outlives its failures"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return results, queue.said


async def test_success_forgets_failures():
    assert await once(None) == (["success"], ["forget"])


async def test_a_wish_to_look_again_is_kept():
    assert await once(30.0) == (["requeue_after"], ["forget", ("add_after", 30.0)])


@pytest.mark.parametrize("error", [Conflict("c"), Forbidden("f"), ValueError("a mistake of ours")])
async def test_any_failure_is_tried_again(error):
    assert await once(error) == (["error"], [("retry", 0.0)])


async def test_a_busy_server_is_given_the_time_it_asked_for():
    assert await once(TooManyRequests("busy", status=429, retry_after_seconds=9)) == (
        ["error"],
        [("retry", 9)],
    )


async def test_who_leads_no_more_keeps_the_key_for_whoever_does():
    assert await once(NotLeader("n")) == (["requeue"], [("retry", 0.0)])


async def test_a_reconcile_that_hangs_is_ended():
    assert await once(asyncio.Event().wait, longest_seconds=0.01) == (["error"], [("retry", 0.0)])


async def test_only_what_nobody_expected_is_logged_with_a_traceback(caplog):
    with caplog.at_level(logging.WARNING):
        await once(Forbidden("not allowed to apply services"))
        await once(ValueError("a mistake of ours"))
    expected, unexpected = caplog.records
    assert "not allowed to apply services" in expected.message
    assert expected.exc_info is None
    assert unexpected.exc_info is not None
    assert str(KEY) in unexpected.message
