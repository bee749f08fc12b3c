"""The prober against real sockets: whom it asks, when, and what wakes the reconciler."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from gemma_operator.engines.registry import engine_named
from gemma_operator.engines.vllm import Vllm
from gemma_operator.probing.deltas import Delta
from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import FailureKind, Verdict, verdict
from gemma_operator.probing.prober import Prober
from gemma_operator.probing.targets import Target
from gemma_operator.settings import OperatorSettings

ENGINE = engine_named("VLLM")
#: Short, but each test waits for what happens and not for a time.
SETTINGS = OperatorSettings(probe_period_seconds=0.05, probe_timeout_seconds=5.0)


def a_target(server, uid: str = "pod", *, ready: bool = True, model: str = "chat", **more) -> Target:
    return Target(
        pod_uid=uid,
        address="127.0.0.1",
        port=server if isinstance(server, int) else server.port,
        engine=ENGINE,
        model_name=model,
        token_request=ENGINE.token_request(model_name=model),
        pod_ready=ready,
        **more,
    )


class Watcher:
    """A running prober, and what it reported."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.verdicts: list[tuple[str, Verdict]] = []
        self.samples: list[tuple[str, str, EngineSample, Delta]] = []
        self.probes: list[FailureKind | None] = []
        self.probed: set[str] = set()
        self._changed = asyncio.Event()
        self.prober = Prober[str](
            settings=settings,
            on_verdict=self._verdict,
            on_sample=self._sample,
            on_probe=self._probe,
        )

    def _verdict(self, key: str) -> None:
        self.verdicts.append((key, self.verdict()))
        self._changed.set()

    def _sample(self, key: str, pod_uid: str, sample: EngineSample, delta: Delta) -> None:
        self.samples.append((key, pod_uid, sample, delta))
        self._changed.set()

    def _probe(self, key: str, pod_uid: str, result) -> None:
        self.probes.append(result.kind)
        self.probed.add(pod_uid)
        self._changed.set()

    def verdict(self, uid: str = "pod") -> Verdict:
        return verdict(self.prober.facts(uid))

    def kind(self) -> FailureKind | None:
        failure = self.prober.facts("pod").failure
        return failure.kind if failure else None

    async def sees(self, condition: Callable[[], bool], within_seconds: float = 10) -> None:
        async with asyncio.timeout(within_seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def says(self, expected: Verdict) -> None:
        await self.sees(lambda: self.verdict() is expected)


@pytest.fixture
async def watch():
    async with contextlib.AsyncExitStack() as stack:

        def begin(**changes) -> Watcher:
            watcher = Watcher(SETTINGS.with_changes(**changes))
            running = asyncio.create_task(watcher.prober.run())

            async def end() -> None:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

            stack.push_async_callback(end)
            return watcher

        yield begin


async def test_a_new_replica_is_asked_for_one_token_at_once(start, watch):
    server, watcher = await start(), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    assert (server.asked, server.scraped) == (1, 1)
    assert watcher.verdicts == [("chat", Verdict.PROVED)]
    assert watcher.prober.facts("pod").proved_model == "chat"


async def test_an_idle_replica_is_asked_again_and_wakes_nobody(start, watch):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.sees(lambda: server.asked >= 4)
    assert watcher.verdicts == [("chat", Verdict.PROVED)]


async def test_real_traffic_is_proof_enough(start, watch):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    asked = server.asked

    def traffic_goes_on() -> bool:
        server.generated += 50
        return server.scraped > 8

    await watcher.sees(traffic_goes_on)
    assert server.asked <= asked + 1
    assert watcher.verdict() is Verdict.PROVED


async def test_samples_come_with_what_was_added(start, watch):
    server, watcher = await start(generated=1000), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.sees(lambda: len(watcher.samples) >= 1)
    assert watcher.samples[0][3].generation_tokens == 0
    server.generated += 500
    await watcher.sees(lambda: sum(delta.generation_tokens for *_, delta in watcher.samples) >= 500)
    assert watcher.samples[0][:2] == ("chat", "pod")


@pytest.mark.parametrize(
    ("fault", "kind", "end"),
    [
        ({"tokens": 0}, FailureKind.NO_TOKEN, Verdict.WEDGED),
        ({"status": 500}, FailureKind.STATUS, Verdict.WEDGED),
        ({"answers_as": "other"}, FailureKind.WRONG_MODEL, Verdict.FAILING),
        ({"status": 404}, FailureKind.REJECTED, Verdict.FAILING),
    ],
)
async def test_a_fault_is_seen_and_its_end_too(start, watch, fault, kind, end):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    healthy = {name: getattr(server, name) for name in fault}
    for name, value in fault.items():
        setattr(server, name, value)
    await watcher.sees(lambda: len(watcher.probes) - watcher.probes.count(None) >= 3)
    assert (watcher.verdict(), watcher.kind()) == (end, kind)
    for name, value in healthy.items():
        setattr(server, name, value)
    await watcher.says(Verdict.PROVED)


async def test_a_replica_that_is_faulty_from_the_start_is_never_proved(start, watch):
    server, watcher = await start(answers_as="other"), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    server.generated += 100
    await watcher.sees(lambda: len(watcher.probes) >= 3 and server.scraped >= 3)
    assert (watcher.verdict(), watcher.prober.facts("pod").proved_at_seconds) == (Verdict.FAILING, None)


async def test_a_hanging_engine_times_out_and_is_wedged(start, watch):
    server, watcher = await start(), watch(probe_timeout_seconds=0.2)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.open.clear()
    await watcher.says(Verdict.WEDGED)
    assert watcher.kind() is FailureKind.TIMEOUT
    server.open.set()
    await watcher.says(Verdict.PROVED)


async def test_a_full_queue_that_moves_while_the_question_waits_stays_proved(start, watch):
    server, watcher = await start(), watch(probe_timeout_seconds=0.2)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.open.clear()
    server.running, server.waiting, server.tokens_meanwhile = 4, 200, 10
    await watcher.sees(lambda: watcher.probes.count(FailureKind.TIMEOUT) >= 3)
    await watcher.sees(lambda: len(watcher.samples) >= 8)
    assert watcher.verdicts == [("chat", Verdict.PROVED)]


async def test_a_server_that_goes_away_refuses(start, watch):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    await server.stop()
    await watcher.sees(lambda: len(watcher.probes) - watcher.probes.count(None) >= 3)
    assert (watcher.verdict(), watcher.kind()) == (Verdict.FAILING, FailureKind.REFUSED)


async def test_a_refusal_of_a_pod_that_still_starts_is_no_failure(watch):
    watcher = watch()
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        port = bound_but_deaf.getsockname()[1]
        watcher.prober.set_targets("chat", [a_target(port, ready=False)])
        watcher.prober.set_targets("other", [a_target(port, "ready")])
        await watcher.sees(lambda: watcher.probes != [])
        assert watcher.verdict("ready") is Verdict.FAILING
        assert watcher.verdict("pod") is Verdict.UNKNOWN


async def test_a_pod_that_becomes_ready_is_looked_at_without_waiting(start, watch):
    server, watcher = await start(status=503), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server, ready=False)])
    await watcher.sees(lambda: len(watcher.probes) == 1)
    server.status = 200
    watcher.prober.set_targets("chat", [a_target(server, ready=True)])
    await asyncio.wait_for(watcher.says(Verdict.PROVED), timeout=0.9)  # the first retry comes after 1 s


async def test_a_replica_whose_device_falls_ill_is_asked_once_without_waiting(start, watch):
    server, watcher = await start(), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.status = 500
    for _ in range(3):
        watcher.prober.set_targets("chat", [a_target(server, device_unhealthy=True)])
    await watcher.says(Verdict.FAILING)
    assert server.asked == 2


async def test_a_gone_pod_is_forgotten_and_its_look_called_off(start, watch):
    server, watcher = await start(), watch()
    server.open.clear()
    watcher.prober.set_targets("chat", [a_target(server), a_target(server, "other")])
    await watcher.sees(lambda: len(watcher.samples) == 2)
    watcher.prober.set_targets("chat", [a_target(server, "other")])
    assert watcher.prober.facts("pod") is None
    server.open.set()
    await watcher.sees(lambda: watcher.probes.count(None) >= 3)
    assert watcher.probed == {"other"}
    assert {uid for _, uid, *_ in watcher.samples[2:]} == {"other"}


async def test_a_dropped_key_is_silent(start, watch):
    server, other, watcher = await start(), await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    watcher.prober.set_targets("other", [a_target(other, "other")])
    await watcher.says(Verdict.PROVED)
    watcher.prober.drop("chat")
    asked = server.asked
    count = other.asked
    await watcher.sees(lambda: other.asked > count + 3)
    assert server.asked <= asked + 1  # one may have been on its way
    assert watcher.prober.facts("pod") is None


async def test_another_server_under_the_same_pod_begins_anew(start, watch):
    server, other, watcher = await start(), await start(status=500), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    watcher.prober.set_targets("chat", [a_target(other)])
    assert watcher.verdict() is Verdict.UNKNOWN
    await watcher.says(Verdict.FAILING)


async def test_the_same_targets_again_change_nothing(start, watch):
    server, watcher = await start(), watch(probe_period_seconds=3600)
    for _ in range(3):
        watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    watcher.prober.set_targets("chat", [a_target(server)])
    watcher.prober.set_targets("later", [a_target(server, "later")])
    await watcher.sees(lambda: watcher.verdict("later") is Verdict.PROVED)
    assert Counter(uid for _, uid, *_ in watcher.samples) == {"pod": 1, "later": 1}


async def test_probe_now_does_not_wait_for_the_period(start, watch):
    server, watcher = await start(), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.status = 500
    watcher.prober.probe_now("chat")
    await watcher.says(Verdict.FAILING)


async def test_asking_often_for_a_look_is_one_look(start):
    server, watcher = await start(), Watcher(SETTINGS.with_changes(probe_period_seconds=3600))
    watcher.prober.set_targets("chat", [a_target(server)])
    for _ in range(20):
        watcher.prober.probe_now("chat")
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(watcher.prober.run())
        await watcher.says(Verdict.PROVED)
        watcher.prober.set_targets("later", [a_target(server, "later")])
        await watcher.sees(lambda: watcher.verdict("later") is Verdict.PROVED)
        running.cancel()
    assert Counter(uid for _, uid, *_ in watcher.samples) == {"pod": 1, "later": 1}


async def test_no_more_at_once_than_settings_allow(start, watch):
    server, watcher = await start(), watch(probes_at_once=3, probe_period_seconds=3600)
    server.open.clear()
    watcher.prober.set_targets("chat", [a_target(server, f"pod-{n}") for n in range(12)])
    await watcher.sees(lambda: len(watcher.samples) == 12)
    server.open.set()
    await watcher.sees(lambda: len(watcher.probes) == 12)
    assert server.most_at_once == 3


async def test_replicas_that_hang_do_not_keep_the_others_from_being_asked(start, watch):
    stuck, server = await start(), await start()
    watcher = watch(probes_at_once=4, probe_timeout_seconds=0.3)
    stuck.open.clear()
    watcher.prober.set_targets("stuck", [a_target(stuck, f"stuck-{n}") for n in range(8)])
    await watcher.sees(lambda: watcher.probes.count(FailureKind.TIMEOUT) >= 8)
    await watcher.sees(lambda: stuck.asking_now <= 1)
    stuck.most_at_once, timeouts = 0, watcher.probes.count(FailureKind.TIMEOUT)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    await watcher.sees(lambda: watcher.probes.count(FailureKind.TIMEOUT) >= timeouts + 3)
    assert stuck.most_at_once == 1


async def test_one_look_is_one_connection(start, watch):
    server, watcher = await start(), watch(probe_period_seconds=3600)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    assert (server.scraped, server.asked, len(server.connections)) == (1, 1, 1)


async def test_a_key_goes_with_the_question_and_is_not_shown(start, watch):
    server, watcher = await start(), watch()
    target = a_target(server, headers=(("authorization", "Bearer secret-of-the-team"),))
    watcher.prober.set_targets("chat", [target])
    await watcher.says(Verdict.PROVED)
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer secret-of-the-team"}
    assert "secret" not in repr(target)


async def test_keys_that_go_and_come_back_are_seen_and_wake_the_reconciler(start, watch):
    server, watcher = await start(user_keys=1), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.user_keys = 0
    await watcher.says(Verdict.KEYLESS)
    server.user_keys = 2
    await watcher.says(Verdict.PROVED)
    assert [verdict for _, verdict in watcher.verdicts] == [
        Verdict.PROVED,
        Verdict.KEYLESS,
        Verdict.PROVED,
    ]
    assert server.listed == 0, "the answer with the token says it"


async def test_under_traffic_the_keys_are_asked_for_and_no_token_is(start, watch):
    """Who was let in before is answered to the end, for as long as that takes."""
    server, watcher = await start(user_keys=1), watch()
    target = a_target(server, headers=(("authorization", "Bearer of-the-operator"),))
    watcher.prober.set_targets("chat", [target])
    await watcher.says(Verdict.PROVED)
    asked = server.asked
    server.user_keys = 0

    def is_seen() -> bool:
        server.generated += 50
        return watcher.verdict() is Verdict.KEYLESS and server.listed > 3

    await watcher.sees(is_seen)
    assert server.asked <= asked + 1
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer of-the-operator"}


async def test_behind_a_full_queue_the_keys_are_seen_all_the_same(start, watch):
    server, watcher = await start(user_keys=1), watch(probe_timeout_seconds=0.2)
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.PROVED)
    server.open.clear()
    server.running, server.waiting, server.tokens_meanwhile, server.user_keys = 4, 200, 10, 0
    await watcher.says(Verdict.KEYLESS)
    assert watcher.probes[-1] is FailureKind.TIMEOUT


async def test_a_guard_that_does_not_count_is_not_asked_and_nothing_is_concluded(start, watch):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("chat", [a_target(server, headers=(("authorization", "Bearer x"),))])
    await watcher.says(Verdict.PROVED)

    def traffic_goes_on() -> bool:
        server.generated += 50
        return server.scraped > 8

    await watcher.sees(traffic_goes_on)
    assert (watcher.verdict(), server.listed) == (Verdict.PROVED, 0)


async def test_one_that_still_starts_counts_as_looked_at_though_it_refuses(watch):
    watcher = watch()
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        port = bound_but_deaf.getsockname()[1]
        watcher.prober.set_targets("chat", [a_target(port, ready=False)])
        assert not watcher.prober.facts("pod").looked_at
        watcher.prober.set_targets("other", [a_target(port, "ready")])
        await watcher.sees(lambda: len(watcher.probes) >= 2)
    assert watcher.prober.facts("pod").looked_at


@pytest.mark.parametrize(
    "odd", [{"address": "no host"}, {"address": ""}, {"headers": (("authorization", "Bearer schlüssel"),)}]
)
async def test_what_cannot_be_sent_fails_alone(start, watch, odd):
    server, watcher = await start(), watch()
    watcher.prober.set_targets("odd", [replace(a_target(server), **odd)])
    watcher.prober.set_targets("chat", [a_target(server, "fine")])
    await watcher.sees(lambda: watcher.verdict("fine") is Verdict.PROVED)
    await watcher.says(Verdict.OUT_OF_REACH)
    assert "schl" not in watcher.prober.facts("pod").failure.detail


class Confused(Vllm):
    """Does not know what it is answered, in a way that nobody thought of."""

    def generated_tokens(self, answer):
        raise ZeroDivisionError


async def test_one_look_that_fails_in_a_way_that_nobody_thought_of_ends_no_other(start, watch, caplog):
    good, bad, watcher = await start(), await start(), watch()
    watcher.prober.set_targets("bad", [replace(a_target(bad, "bad"), engine=Confused())])
    await watcher.sees(lambda: bad.asked > 1)
    assert "the look at pod bad of bad failed" in caplog.text
    watcher.prober.set_targets("good", [a_target(good, "good")])
    await watcher.sees(lambda: watcher.verdict("good") is Verdict.PROVED)
    assert watcher.verdict("bad") is Verdict.UNKNOWN


async def test_an_answer_without_end_is_not_read_to_its_end(start, watch):
    server, watcher = await start(endless=True), watch()
    watcher.prober.set_targets("chat", [a_target(server)])
    await watcher.says(Verdict.FAILING)
    assert watcher.kind() is FailureKind.BROKEN
    assert "larger than" in watcher.prober.facts("pod").failure.detail


async def test_it_can_be_stopped_in_the_middle_and_run_again(start):
    server = await start()
    watcher = Watcher(SETTINGS)
    server.open.clear()
    watcher.prober.set_targets("chat", [a_target(server)])
    first = asyncio.create_task(watcher.prober.run())
    await watcher.sees(lambda: len(watcher.samples) == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.open.set()
    again = asyncio.create_task(watcher.prober.run())
    await watcher.says(Verdict.PROVED)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


def test_an_ipv6_address_stands_in_brackets():
    target = a_target(8000)
    assert target.url == "http://127.0.0.1:8000"
    assert (
        Target(
            pod_uid="pod",
            address="fd00::1",
            port=8000,
            engine=ENGINE,
            model_name="chat",
            token_request=target.token_request,
            pod_ready=True,
        ).url
        == "http://[fd00::1]:8000"
    )
