"""Which keys to look at next: a level-triggered queue that holds each key once and works on it once.

The rules are client-go's (k8s.io/client-go/util/workqueue). A key that is added while it waits is one key;
one that is added while it is worked on is looked at again afterwards, never at the same time. `add_after`
keeps the earliest of the wanted moments, and a look at the key fulfils it: each look says when the next one
is due. A failed key waits longer each time, with full jitter up to a cap, and forgets that when it succeeds.

`Schedule` is the rules, pure, with the time given; `Queue` lets workers wait for it. The queue has a gate
that the Lease opens: behind a closed gate keys are still taken in, but none is handed out, so a standby that
takes over has missed nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)


class Observer(Protocol):
    """What metrics want to know of a queue (controller-runtime's workqueue_* families)."""

    def added(self) -> None:
        """A key came that was not waiting."""

    def retried(self) -> None:
        """A key failed and comes again."""

    def waited(self, seconds: float) -> None:
        """A key was handed out after so long."""


class Schedule(Generic[K]):
    """Which key may be worked on at which moment. Pure: every call is given the time."""

    def __init__(self) -> None:
        self._ready: deque[K] = deque()
        #: key → since when it waits to be handed out; what is worked on may wait again
        self._dirty: dict[K, float] = {}
        #: key → since when it is worked on
        self._working: dict[K, float] = {}
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._pushed = 0

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K, *, now: float) -> bool:
        """Asks for a look at `key`; False where that is asked already. It is no longer waited for."""
        self._due.pop(key, None)
        if key in self._dirty:
            return False
        self._dirty[key] = now
        if key not in self._working:
            self._ready.append(key)
        return True

    def add_at(self, key: K, *, at: float) -> bool:
        """Asks for a look at `key` at a moment to come; the earliest one asked for counts."""
        if key in self._dirty and key not in self._working:
            return False  # it is about to be looked at anyway
        if self._due.get(key, float("inf")) <= at:
            return False
        self._due[key] = at
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, key))
        return True

    def next_at(self) -> float | None:
        """The next moment at which a waiting key becomes ready."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # overtaken by an earlier wish, or by an add
        return self._heap[0][0] if self._heap else None

    def wake(self, *, now: float) -> list[K]:
        """Makes ready what is due."""
        woken = []
        while (at := self.next_at()) is not None and at <= now:
            key = heapq.heappop(self._heap)[2]
            if self.add(key, now=now):
                woken.append(key)
        return woken

    def take(self, *, now: float) -> tuple[K, float] | None:
        """A key to work on and how long it waited, or None. Whoever takes it says `done`."""
        if not self._ready:
            return None
        key = self._ready.popleft()
        waited_seconds = now - self._dirty.pop(key)
        self._working[key] = now
        return key, waited_seconds

    def done(self, key: K, *, now: float) -> float:
        """The work on `key` ended; how long it took. It is ready again if it was added meanwhile."""
        took_seconds = now - self._working.pop(key)
        if key in self._dirty:
            self._ready.append(key)
        return took_seconds

    def oldest_seconds(self, *, now: float) -> float:
        """How long the slowest piece of work has been going on; 0 where none is."""
        return now - min(self._working.values(), default=now)

    @property
    def working(self) -> frozenset[K]:
        """The keys that are worked on."""
        return frozenset(self._working)


class Queue(Generic[K]):
    """The schedule with workers that wait for it. For one event loop; no method but `get` waits."""

    def __init__(
        self,
        *,
        first_pause_seconds: float = 0.2,
        longest_pause_seconds: float = 300.0,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._longest_pause_seconds = longest_pause_seconds
        self._observer = observer
        self._clock = clock
        self._chance = chance
        self._schedule: Schedule[K] = Schedule()
        self._failures: dict[K, int] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._open = False
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._schedule)

    @property
    def is_open(self) -> bool:
        """Whether keys are handed out."""
        return self._open

    @property
    def working(self) -> int:
        """How many keys are being worked on."""
        return len(self._schedule.working)

    @property
    def oldest_worker_seconds(self) -> float:
        """For `/healthz`: a worker that has been busy for minutes hangs."""
        return self._schedule.oldest_seconds(now=self._clock())

    def open(self) -> None:
        """Hands out keys from now on."""
        self._open = True
        self._serve()

    def close(self) -> None:
        """Hands out no more keys; those being worked on are finished, all others are kept."""
        self._open = False

    async def idle(self) -> None:
        """Waits until no key is being worked on."""
        await self._idle.wait()

    def add(self, key: K) -> None:
        """Asks for a look at `key` as soon as a worker is free."""
        if self._schedule.add(key, now=self._clock()):
            self._say_added()
        self._serve()

    def add_after(self, key: K, seconds: float) -> None:
        """Asks for a look at `key` in `seconds`, or at an earlier moment that was asked for."""
        if seconds <= 0:
            self.add(key)
        elif self._schedule.add_at(key, at=self._clock() + seconds):
            self._set_timer()

    def retry(self, key: K, *, at_least_seconds: float = 0.0) -> float:
        """Looks at a failed key again after a pause that grows with its failures; tells the pause."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        ceiling = min(self._longest_pause_seconds, self._first_pause_seconds * 2.0 ** min(failures, 30))
        seconds = max(at_least_seconds, ceiling * self._chance())
        if self._observer is not None:
            self._observer.retried()
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key; waits until there is one and the gate is open. Whoever gets it calls `done`."""
        while True:
            now = self._clock()
            if self._open and (taken := self._schedule.take(now=now)) is not None:
                key, waited_seconds = taken
                self._idle.clear()
                if self._observer is not None:
                    self._observer.waited(waited_seconds)
                return key
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._serve()  # it was woken for a key that it will not take: wake another
                raise

    def done(self, key: K) -> None:
        """The work on `key` ended, well or not."""
        self._schedule.done(key, now=self._clock())
        if not self._schedule.working:
            self._idle.set()
        self._serve()

    def _serve(self) -> None:
        if not self._open:
            return
        wanted = len(self._schedule)
        while wanted and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                wanted -= 1

    def _set_timer(self) -> None:
        at = self._schedule.next_at()
        if at is None or at >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._clock()), self._ring)

    def _ring(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        for _key in self._schedule.wake(now=self._clock()):
            self._say_added()
        self._serve()
        self._set_timer()

    def _say_added(self) -> None:
        if self._observer is not None:
            self._observer.added()
