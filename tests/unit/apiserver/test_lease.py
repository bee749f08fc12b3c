"""Who leads: one at a time, in time, and nobody writes who may have lost it. Time is the test's."""

from __future__ import annotations

import asyncio
import re

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.lease import AlwaysLeader, Elector, LeaseSettings
from gemma_operator.apiserver.resources import LEASES, SERVICES
from gemma_operator.errors import InvalidSettings, NotLeader


class Candidate:
    """An elector that takes a step when the test says so, on a clock that the test moves."""

    def __init__(self, client, identity, *, now):
        self.events = []
        self.elector = Elector(
            client,
            LeaseSettings(namespace="gemma-system", name="gemma-operator", identity=identity),
            on_started=lambda: self.events.append("started"),
            on_stopped=lambda: self.events.append("stopped"),
            clock=lambda: now[0],
            sleep=self._sleep,
        )
        self._asleep = asyncio.Event()
        self._awake = asyncio.Event()
        self.task = asyncio.create_task(self.elector.run())

    async def _sleep(self, _seconds):
        self._asleep.set()
        await self._awake.wait()
        self._awake.clear()

    async def settle(self):
        """Waits until it has done its step and sleeps."""
        async with asyncio.timeout(10):
            await self._asleep.wait()

    async def step(self):
        """Wakes it for one step."""
        await self.settle()
        self._asleep.clear()
        self._awake.set()
        await self.settle()

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def election(client):
    now = [1000.0]
    candidates = []

    def join(identity):
        candidates.append(Candidate(client, identity, now=now))
        return candidates[-1]

    yield now, join
    for candidate in candidates:
        await candidate.stop()


def lease(api):
    return api.objects["leases.coordination.k8s.io"]["gemma-system", "gemma-operator"]["spec"]


async def test_the_first_one_leads_at_once(api, election):
    _, join = election
    one = join("one")
    await one.settle()
    assert one.events == ["started"]
    assert one.elector.fence()
    assert lease(api)["holderIdentity"] == "one"
    assert lease(api)["leaseDurationSeconds"] == 15
    assert lease(api)["leaseTransitions"] == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lease(api)["renewTime"])


async def test_the_second_one_waits_while_the_first_renews(election):
    now, join = election
    one, two = join("one"), None
    await one.settle()
    two = join("two")
    for _ in range(30):
        now[0] += 2.0
        await one.step()
        await two.step()
    assert one.events == ["started"]
    assert two.events == []


async def test_takeover_comes_after_the_lease_was_seen_unchanged_for_its_whole_duration(api, election):
    now, join = election
    one = join("one")
    await one.settle()
    now[0] += 9.0
    two = join("two")
    await two.settle()
    await one.stop()
    now[0] += 14.9  # 23.9 s after the renewal, but only 14.9 s after `two` saw it
    await two.step()
    assert two.events == []
    now[0] += 0.2
    await two.step()
    assert two.events == ["started"]
    assert lease(api)["leaseTransitions"] == 1


async def test_the_clock_in_the_record_does_not_matter(api, election):
    now, join = election
    api.put(
        LEASES,
        "gemma-operator",
        namespace="gemma-system",
        spec={
            "holderIdentity": "skewed",
            "leaseDurationSeconds": 15,
            "renewTime": "2001-01-01T00:00:00.000000Z",
        },
    )
    one = join("one")
    await one.settle()
    assert one.events == []
    now[0] += 15.0
    await one.step()
    assert one.events == ["started"]


async def test_a_released_lease_is_taken_at_the_next_look(api, election):
    _, join = election
    one = join("one")
    await one.settle()
    two = join("two")
    await two.settle()
    await one.stop()
    await one.elector.release()
    assert lease(api)["holderIdentity"] == ""
    await two.step()
    assert two.events == ["started"]
    assert one.events == ["started", "stopped"]


async def test_a_leader_that_cannot_renew_stops_before_anybody_may_take_over(api, election):
    now, join = election
    one = join("one")
    await one.settle()
    api.faults.append(Fault(500, times=10**6))
    now[0] += 9.0
    await one.step()
    assert one.elector.fence()
    assert one.events == ["started"]
    now[0] += 1.0
    assert not one.elector.fence()
    await one.step()
    assert one.events == ["started", "stopped"]


async def test_a_leader_paused_past_its_lease_writes_nothing_when_it_wakes(api, holder, election):
    now, join = election
    one = join("one")
    await one.settle()
    two = join("two")
    await two.settle()
    writer = Client(holder, fence=one.elector.fence)
    manifest = {"metadata": {"namespace": "team", "name": "chat"}}
    await writer.create(SERVICES, manifest)
    now[0] += 16.0  # `one` is paused: it takes no step, so nothing has told it
    await two.step()
    assert two.events == ["started"]
    with pytest.raises(NotLeader):
        await writer.apply(SERVICES, manifest, field_manager="gemma-operator")
    await one.step()
    assert one.events == ["started", "stopped"]
    assert lease(api)["holderIdentity"] == "two"


async def test_a_renewal_that_was_asked_for_before_a_long_pause_does_not_count(api, election):
    now, join = election
    api.on_request = lambda _request: now.__setitem__(0, now[0] + 11.0)
    one = join("one")
    await one.settle()
    assert "started" not in one.events
    assert not one.elector.fence()


async def test_a_lease_that_somebody_else_took_is_noticed_at_the_next_renewal(api, election):
    now, join = election
    one = join("one")
    await one.settle()
    api.put(
        LEASES,
        "gemma-operator",
        namespace="gemma-system",
        spec={"holderIdentity": "by hand", "leaseDurationSeconds": 15},
    )
    now[0] += 2.0
    await one.step()
    assert one.events == ["started", "stopped"]


async def test_a_lost_answer_does_not_lose_the_lease(api, election):
    now, join = election
    one = join("one")
    await one.settle()
    spec = dict(lease(api), renewTime="2026-01-01T00:00:00.000000Z")
    api.put(LEASES, "gemma-operator", namespace="gemma-system", spec=spec)  # our own write, answer lost
    now[0] += 2.0
    await one.step()
    assert one.events == ["started"]
    now[0] += 9.0
    assert one.elector.fence()


async def test_two_that_start_together_on_no_lease_give_one_leader(election):
    _, join = election
    one, two = join("one"), join("two")
    await one.settle()
    await two.settle()
    assert sorted([one.events, two.events]) == [[], ["started"]]


async def test_releasing_what_is_not_held_writes_nothing(api, election):
    _, join = election
    one = join("one")
    await one.settle()
    two = join("two")
    await two.settle()
    writes = api.count("PUT")
    await two.elector.release()
    assert api.count("PUT") == writes


async def test_one_that_is_alone_leads_until_it_is_stopped():
    events = []
    alone = AlwaysLeader(on_started=lambda: events.append("on"), on_stopped=lambda: events.append("off"))
    task = asyncio.create_task(alone.run())
    await asyncio.sleep(0)
    assert events == ["on"]
    assert alone.fence()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert events == ["on", "off"]


def test_times_that_would_let_two_lead_are_refused():
    with pytest.raises(InvalidSettings, match="leaseDurationSeconds"):
        LeaseSettings(namespace="n", name="l", identity="i", duration_seconds=10, renew_deadline_seconds=10)


async def test_a_missing_namespace_is_said_with_the_remedy(api, election):
    _, join = election
    api.missing_namespaces.add("gemma-system")
    one = join("one")
    async with asyncio.timeout(10):
        with pytest.raises(InvalidSettings, match="kubectl create namespace gemma-system"):
            await one.task
