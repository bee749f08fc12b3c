"""Looks at every replica, again and again, and says when one became something else.

One heap holds when each replica is due and one task sleeps over it: a task a replica would cost a thousand
timers. The key type is the caller's (probing lies below the rooms that know GemmaDeployments), and what
the facts mean is `facts`' business.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

import httpx

from gemma_operator.probing import facts as judge
from gemma_operator.probing.deltas import Delta, since
from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import FailureKind, ProbeResult, ReplicaFacts, Verdict
from gemma_operator.probing.targets import Target
from gemma_operator.probing.wire import Visit, Wire
from gemma_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

#: Pause before a replica that was never proved is asked again; doubled each time, up to the period.
FIRST_RETRY_SECONDS = 1.0
_JITTER = 0.1
#: Others get their turn between so many, when all come due together.
_STARTED_AT_ONCE = 16
#: Replicas that let the last probe time out share this part of the slots, so that they block no other.
_SUSPECTS_SHARE = 4
_HOLDS_A_SLOT = frozenset({FailureKind.TIMEOUT, FailureKind.UNREACHABLE})
#: Of OpenAI's API, so every engine has it; it costs no token and waits in no queue.
_GUARDED_PATH = "/v1/models"
_NOT_UP_YET = frozenset({FailureKind.REFUSED, FailureKind.UNREACHABLE})


class _Watch(Generic[K]):
    """One target's place in the schedule. `turn` makes older heap entries void."""

    __slots__ = ("again", "attempts", "facts", "key", "target", "task", "turn")

    def __init__(self, key: K, target: Target) -> None:
        self.key = key
        self.target = target
        self.facts = ReplicaFacts(pod_uid=target.pod_uid)
        self.attempts = 0
        self.turn = 0
        #: A look was asked for while one is going on.
        self.again = False
        self.task: asyncio.Task[None] | None = None


class Prober(Generic[K]):
    """`set_targets` says whom to look at, `run` looks; `on_verdict` is called only when a verdict changes."""

    def __init__(
        self,
        *,
        settings: OperatorSettings,
        on_verdict: Callable[[K], None],
        on_sample: Callable[[K, str, EngineSample, Delta], None],
        on_probe: Callable[[K, str, ProbeResult], None] = lambda _key, _pod_uid, _result: None,
        clock: Callable[[], float] = time.monotonic,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._period_seconds = settings.probe_period_seconds
        self._wire = Wire(settings=settings, http=http)
        self._on_verdict = on_verdict
        self._on_sample = on_sample
        self._on_probe = on_probe
        self._clock = clock
        self._watches: dict[str, _Watch[K]] = {}
        self._pods: dict[K, set[str]] = {}
        self._due: list[tuple[float, int, str]] = []
        self._turns = 0
        self._woken = asyncio.Event()
        at_once = max(1, settings.probes_at_once)
        self._scrapes = asyncio.Semaphore(at_once)
        self._questions = asyncio.Semaphore(at_once)
        self._suspects = asyncio.Semaphore(max(1, at_once // _SUSPECTS_SHARE))

    def set_targets(self, key: K, targets: Sequence[Target]) -> None:
        """The replicas of `key` from now on: new ones are looked at at once, missing ones forgotten."""
        wanted = {target.pod_uid: target for target in targets}
        for pod_uid in self._pods.get(key, set()) - wanted.keys():
            self._drop(pod_uid)
        if wanted:
            self._pods[key] = set(wanted)
        else:
            self._pods.pop(key, None)
        for pod_uid, target in wanted.items():
            self._set(key, pod_uid, target)

    def drop(self, key: K) -> None:
        """Forget `key` and its replicas; a look that is going on is called off."""
        self.set_targets(key, ())

    def facts(self, pod_uid: str) -> ReplicaFacts | None:
        """What is known of one pod; None where it is no target."""
        watch = self._watches.get(pod_uid)
        return None if watch is None else watch.facts

    def probe_now(self, key: K) -> None:
        """Look at every replica of `key` without waiting for its turn."""
        for pod_uid in self._pods.get(key, ()):
            self._look_soon(self._watches[pod_uid])

    async def run(self) -> None:
        """Look at whatever is due, until cancelled."""
        async with asyncio.TaskGroup() as looks:
            try:
                while True:
                    wait_seconds = self._start_due(looks)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait_seconds):
                            await self._woken.wait()
                    self._woken.clear()
            finally:
                self._call_off()

    def _set(self, key: K, pod_uid: str, target: Target) -> None:
        watch = self._watches.get(pod_uid)
        if watch is None or not watch.target.is_same_server(target):
            self._drop(pod_uid)
            watch = self._watches[pod_uid] = _Watch(key, target)
            self._look_soon(watch)
            return
        became_ready = target.pod_ready and not watch.target.pod_ready
        fell_ill = target.device_unhealthy and not watch.target.device_unhealthy
        watch.target = target
        if became_ready:
            watch.attempts = 0
        if became_ready or fell_ill:
            self._look_soon(watch)

    def _drop(self, pod_uid: str) -> None:
        watch = self._watches.pop(pod_uid, None)
        if watch is not None and watch.task is not None:
            watch.task.cancel()

    def _call_off(self) -> None:
        """Every look that is going on; they are the first when `run` is called again."""
        for watch in self._watches.values():
            if watch.task is not None:
                watch.task.cancel()
                watch.task = None
                self._look_soon(watch)

    def _look_soon(self, watch: _Watch[K]) -> None:
        if watch.task is not None:
            watch.again = True
            return
        self._schedule(watch, self._clock())

    def _schedule(self, watch: _Watch[K], due_seconds: float) -> None:
        self._turns += 1
        watch.turn = self._turns
        heapq.heappush(self._due, (due_seconds, watch.turn, watch.target.pod_uid))
        if self._due[0][1] == watch.turn:
            self._woken.set()

    def _start_due(self, looks: asyncio.TaskGroup) -> float | None:
        """Starts some of what is due; returns the seconds to the next, None where there is none."""
        now = self._clock()
        for _ in range(_STARTED_AT_ONCE):
            if not self._due:
                return None
            due_seconds, turn, pod_uid = self._due[0]
            watch = self._watches.get(pod_uid)
            if watch is not None and watch.turn == turn:
                if due_seconds > now:
                    return due_seconds - now
                watch.task = looks.create_task(self._look(watch), name=f"look at {pod_uid}")
            heapq.heappop(self._due)
        return 0.0

    async def _look(self, watch: _Watch[K]) -> None:
        """One visit, and the next one planned: whatever one replica answers, the others are still asked."""
        before = judge.verdict(watch.facts)
        try:
            await self._visit(watch, before)
        except Exception:
            logger.exception("the look at pod %s of %s failed", watch.target.pod_uid, watch.key)
        watch.task = None
        self._plan_next(watch, before)

    async def _visit(self, watch: _Watch[K], before: Verdict) -> None:
        """Its facts are put up when it ends: half a visit would flap."""
        async with self._wire.visit() as visit:
            known = await self._read_counters(watch, visit, watch.facts)
            if _proved_by_this_scrape(known):
                # those who are still answered may be the last who were let in
                known = await self._ask_for_keys(watch, visit, known)
            else:
                known = await self._ask(watch, visit, known)
                if judge.may_be_slow(known):
                    # a queue that moved while the question waited in it is no failure
                    known = await self._read_counters(watch, visit, known)
                    known = await self._ask_for_keys(watch, visit, known)
            watch.facts = known if known.looked_at else replace(known, looked_at=True)
            if judge.verdict(known) is not before:
                self._on_verdict(watch.key)

    async def _read_counters(self, watch: _Watch[K], visit: Visit, known: ReplicaFacts) -> ReplicaFacts:
        target = watch.target
        async with self._scrapes:
            sample = await visit.scrape(target.url + target.engine.metrics_path, target.engine.metrics)
        if sample is None:
            return known
        self._on_sample(watch.key, target.pod_uid, sample, since(known.sample, sample))
        return judge.after_scrape(known, sample, now_seconds=self._clock(), model_name=target.model_name)

    async def _ask(self, watch: _Watch[K], visit: Visit, known: ReplicaFacts) -> ReplicaFacts:
        target = watch.target
        suspect = known.failure is not None and known.failure.kind in _HOLDS_A_SLOT
        async with self._suspects if suspect else self._questions:
            result = await visit.ask(
                target.url + target.token_request.path,
                body=target.token_request.body,
                headers=target.headers,
                model_name=target.model_name,
                generated_tokens=target.engine.generated_tokens,
            )
        starting = known.proved_at_seconds is None and not watch.target.pod_ready
        if starting and result.kind in _NOT_UP_YET:
            return known
        self._on_probe(watch.key, target.pod_uid, result)
        return judge.after_probe(known, result, now_seconds=self._clock())

    async def _ask_for_keys(self, watch: _Watch[K], visit: Visit, known: ReplicaFacts) -> ReplicaFacts:
        """How many keys of users its guard has now, where no question for a token was answered."""
        if not judge.counts_keys(known):
            return known
        async with self._scrapes:
            heard = await visit.hear(watch.target.url + _GUARDED_PATH, headers=watch.target.headers)
        return judge.after_hearing(known, heard)

    def _plan_next(self, watch: _Watch[K], before: Verdict) -> None:
        if watch.again:
            watch.again = False
            pause = 0.0
        elif watch.facts.proved_at_seconds is None:
            pause = min(self._period_seconds, FIRST_RETRY_SECONDS * 2**watch.attempts)
            watch.attempts = min(watch.attempts + 1, 16)
        elif before is Verdict.UNKNOWN:
            # those that came together (all of them, when the operator starts) are spread over the period
            pause = self._period_seconds * random.random()  # noqa: S311 - no secret
        else:
            watch.attempts = 0
            pause = self._period_seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        self._schedule(watch, self._clock() + pause)


def _proved_by_this_scrape(known: ReplicaFacts) -> bool:
    """It showed real traffic, so no question is needed."""
    return (
        judge.verdict(known) in (Verdict.PROVED, Verdict.KEYLESS)
        and known.scraped_at_seconds is not None
        and known.proved_at_seconds == known.scraped_at_seconds
    )
