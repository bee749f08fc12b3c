"""The workers: take a key, reconcile it, and say when to look again. The outermost loop.

What an error means for the key is decided here and only here: a lost race is tried again soon, a busy server
as late as it asked, a missing right or a refused object ever more slowly, and what nobody expected is logged
with its traceback, counted, and tried again like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.queue import Queue
from gemma_operator.errors import ApiError, GemmaOperatorError, NotLeader, TooManyRequests

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
#: Seconds until the next look; None: when something changes.
Reconcile = Callable[[Key], Awaitable[float | None]]
#: Called with controller-runtime's word for the result, and the seconds it took.
OnResult = Callable[[str, float], None]

#: A reconcile waits for the API server only, and each call there ends by itself; this catches what hangs.
_LONGEST_SECONDS = 60.0


async def work(
    queue: Queue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    *,
    on_result: OnResult,
    longest_seconds: float = _LONGEST_SECONDS,
) -> None:
    """One worker, until cancelled. A key that is in work when that happens is looked at again later."""
    while True:
        key = await queue.get()
        started = time.monotonic()
        result = "error"
        try:
            async with asyncio.timeout(longest_seconds):
                again_seconds = await reconcile(key)
        except NotLeader:
            # the gate is about to close: the key waits behind it, for whoever leads next
            result = "requeue"
            queue.retry(key)
        except Exception as error:
            _again(queue, key, error)
        else:
            queue.forget(key)
            if again_seconds is None:
                result = "success"
            else:
                result = "requeue_after"
                queue.add_after(key, again_seconds)
        finally:
            queue.done(key)
            on_result(result, time.monotonic() - started)


def _again(queue: Queue[K], key: K, error: Exception) -> None:
    at_least = error.retry_after_seconds if isinstance(error, TooManyRequests) else 0.0
    seconds = queue.retry(key, at_least_seconds=at_least)
    if isinstance(error, ApiError):
        logger.warning("%s: %s; again in %.1f s", key, error, seconds)
    elif isinstance(error, TimeoutError):
        logger.error("%s: the reconcile did not end in time; again in %.1f s", key, seconds)
    elif isinstance(error, GemmaOperatorError):
        logger.error("%s: %s; again in %.1f s", key, error, seconds)
    else:
        logger.error("%s: unexpected; again in %.1f s", key, seconds, exc_info=error)
