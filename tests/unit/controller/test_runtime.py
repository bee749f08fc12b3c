"""The order of starting and stopping, with kopf, caches, Lease and queue as they are."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.lease import Elector, LeaseSettings
from gemma_operator.apiserver.resources import GEMMA_DEPLOYMENTS, LEASES, PODS, SERVICES
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller import runtime as runtime_module
from gemma_operator.controller.queue import Queue
from gemma_operator.controller.runtime import Runtime
from gemma_operator.controller.watch import Watch
from gemma_operator.errors import NotLeader


@pytest.fixture(autouse=True)
def _short_stop(monkeypatch):
    # the fake server's tasks are younger than kopf here, and kopf waits for such
    monkeypatch.setattr(runtime_module, "_KOPF_MAY_TAKE_SECONDS", 0.05)
    monkeypatch.setattr(runtime_module, "_WORKERS_MAY_TAKE_SECONDS", 0.5)


class House:
    """A small operator: reconciles by writing one Service a deployment."""

    def __init__(self, api, identity="one", *, jobs=()):
        self.api = api
        self.seen = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.holder = SessionHolder(api.connection)
        self.queue = Queue()
        self.elector = Elector(
            Client(self.holder),
            LeaseSettings(
                namespace="gemma-system",
                name="gemma-operator",
                identity=identity,
                duration_seconds=4.0,
                renew_deadline_seconds=3.0,  # a busy machine stands still for a second now and then
                retry_seconds=0.1,
            ),
            on_started=self._started,
            on_stopped=self.queue.close,
        )
        self.client = Client(self.holder, fence=self.elector.fence)
        self.watch = Watch(
            self.client, self.holder, on_deployment=lambda change: self.queue.add(Key(*change.place))
        )
        self.pods = Cache(self.client, PODS, cut=lambda obj: obj["metadata"]["name"])
        self.runtime = Runtime(
            watch=self.watch,
            caches=(self.pods,),
            queue=self.queue,
            election=self.elector,
            reconcile=self._reconcile,
            workers=2,
            on_result=lambda _result, _seconds: None,
            jobs=jobs,
        )
        self.task = asyncio.create_task(self.runtime.run())

    def _started(self):
        for place in self.watch.deployments.places():
            self.queue.add(Key(*place))
        self.queue.open()

    async def _reconcile(self, key):
        self.seen.append((key, len(self.pods)))
        await self.hold.wait()
        await self.client.apply(
            SERVICES, {"metadata": {"namespace": key.namespace, "name": key.name}}, field_manager="m"
        )

    async def end(self):
        self.runtime.stop()
        async with asyncio.timeout(15):
            await asyncio.gather(self.task, return_exceptions=True)
        await self.holder.close()


async def until(condition):
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


def holder_of(api):
    lease = api.objects.get("leases.coordination.k8s.io", {}).get(("gemma-system", "gemma-operator"))
    return lease and lease["spec"]["holderIdentity"]


async def test_nothing_is_reconciled_before_everything_is_listed(api):
    for number in range(3):
        api.put(PODS, f"p{number}", namespace="team")
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    api.faults.append(Fault(503, times=2, path_part="/pods", headers={"Retry-After": "0.1"}))
    house = House(api)
    await until(lambda: house.seen)
    assert house.seen[0] == (Key("team", "chat"), 3)
    assert house.runtime.synced
    await house.end()


async def test_sigterm_lets_work_end_gives_the_lease_back_and_returns(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    house = House(api)
    house.hold.clear()
    await until(lambda: house.seen)
    await house.watch.started.wait()
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: not house.queue.is_open)
    assert holder_of(api) == "one", "not before the work is done"
    house.hold.set()
    async with asyncio.timeout(15):
        await house.task
    assert ("team", "chat") in api.objects["services"]
    assert holder_of(api) == ""
    await house.holder.close()


async def test_work_that_does_not_end_is_left(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    house = House(api)
    house.hold.clear()
    await until(lambda: house.seen)
    await house.end()
    assert "services" not in api.objects
    assert holder_of(api) == ""


async def test_a_server_that_does_not_answer_keeps_nobody_from_ending(api, monkeypatch):
    """The kubelet would kill what takes longer than its patience, kopf's own end included."""
    monkeypatch.setattr(runtime_module, "_RELEASE_MAY_TAKE_SECONDS", 0.05)
    house = House(api)
    await until(lambda: house.elector.leading)
    never = asyncio.Event()
    monkeypatch.setattr(Client, "update", lambda *_args: never.wait())
    await house.end()
    assert house.task.done()
    assert holder_of(api) == "one"


async def test_a_standby_has_everything_synced_and_takes_over_at_once(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 2}
    api.put(LEASES, "gemma-operator", namespace="gemma-system", spec=spec)
    two = House(api, "two")  # the older one here: kopf ends what is younger than itself, also of another
    await until(lambda: two.runtime.synced)
    one = House(api, "one")
    await until(lambda: one.seen)
    assert two.seen == []
    one.runtime.stop()
    await until(lambda: holder_of(api) == "two")
    await until(lambda: two.seen)
    await one.end()
    await two.end()


async def test_a_leader_that_lost_its_lease_writes_nothing_more(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    house = House(api)
    house.hold.clear()
    await until(lambda: house.seen)
    api.faults.append(Fault(500, times=10**6, path_part="leases"))
    await until(lambda: not house.elector.leading)
    house.hold.set()
    await until(lambda: house.queue.working == 0)
    assert "services" not in api.objects
    with pytest.raises(NotLeader):
        await house._reconcile(Key("team", "chat"))
    await house.end()


async def test_a_part_that_fails_ends_everything_with_its_error(api):
    async def broken():
        raise ZeroDivisionError

    house = House(api, jobs=[("broken", broken)])
    async with asyncio.timeout(15):
        with pytest.raises(ZeroDivisionError):
            await house.task
    await house.holder.close()


async def test_a_part_that_just_ends_is_an_error_too(api):
    async def short():
        return

    house = House(api, jobs=[("short", short)])
    async with asyncio.timeout(15):
        with pytest.raises(RuntimeError, match="short ended by itself"):
            await house.task
    await house.holder.close()
