"""kopf as the informer of our own two kinds: complete, without ghosts, and it never writes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import ACCELERATOR_POOLS, GEMMA_DEPLOYMENTS
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.controller import watch as watch_module
from gemma_operator.controller.watch import Store, Watch


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(watch_module, "_DEBOUNCE_SECONDS", 0.02)
    monkeypatch.setattr(watch_module, "_RETRY_SECONDS", 0.02)


async def until(condition):
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


@asynccontextmanager
async def watching(api, **hooks):
    holder = SessionHolder(api.connection)
    watch = Watch(Client(holder), holder, **hooks)
    follow = asyncio.create_task(watch.follow())
    run = asyncio.create_task(watch.run())
    try:
        async with asyncio.timeout(15):
            await watch.wait_synced()
        await until(lambda: len(api.streams) == 2)
        yield watch
        assert not run.done()
    finally:
        follow.cancel()
        await api.close()
        watch.stop()
        await asyncio.gather(follow, run, return_exceptions=True)
        await holder.close()


async def test_everything_is_in_the_store_when_it_is_synced(api):
    for number in range(25):
        api.put(GEMMA_DEPLOYMENTS, f"d{number}", namespace="team", spec={"replicas": 1})
    api.put(ACCELERATOR_POOLS, "h100", spec={})
    async with watching(api) as watch:
        assert len(watch.deployments) == 25
        assert watch.pools.get("", "h100")["spec"] == {}
        assert watch.synced


async def test_an_empty_cluster_is_synced_too(api):
    async with watching(api) as watch:
        assert watch.deployments.places() == []


async def test_events_reach_the_store_and_whoever_listens(api):
    changes = []
    async with watching(api, on_deployment=changes.append) as watch:
        api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={"replicas": 1})
        await until(lambda: watch.deployments.get("team", "chat"))
        api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={"replicas": 2})
        await until(lambda: watch.deployments.get("team", "chat")["spec"]["replicas"] == 2)
        api.remove(GEMMA_DEPLOYMENTS, "chat", namespace="team")
        await until(lambda: watch.deployments.get("team", "chat") is None)
    assert [change.new is None for change in changes] == [False, False, True]


async def test_managed_fields_are_not_kept(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", metadata={"managedFields": [{"manager": "kubectl"}]})
    async with watching(api) as watch:
        assert "managedFields" not in watch.deployments.get("team", "chat")["metadata"]


async def test_nothing_is_ever_written(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    async with watching(api) as watch:
        api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={"replicas": 3})
        await until(lambda: watch.deployments.get("team", "chat")["spec"])
    assert {method for method, _, _ in api.requests} == {"GET"}


@pytest.mark.parametrize("left", [0, 1])
async def test_no_ghost_stays_after_a_relist(api, left, monkeypatch):
    monkeypatch.setattr(watch_module, "_LIST_EVERY_SECONDS", 0.2)  # an empty relist shows in no event
    changes = []
    api.put(GEMMA_DEPLOYMENTS, "goes", namespace="team")
    for number in range(left):
        api.put(GEMMA_DEPLOYMENTS, f"stays{number}", namespace="team")
    async with watching(api, on_deployment=changes.append) as watch:
        api.faults.append(Fault(503, times=10**6, path_part="watch"))
        api.drop_streams()
        await until(lambda: not api.streams)
        api.remove(GEMMA_DEPLOYMENTS, "goes", namespace="team")
        api.compact()
        api.faults.clear()
        await until(lambda: watch.deployments.get("team", "goes") is None)
        assert len(watch.deployments) == left
    assert [change.place for change in changes if change.new is None] == [("team", "goes")]


async def test_a_relist_is_compared_at_once_and_not_in_ten_minutes(api):
    api.put(GEMMA_DEPLOYMENTS, "goes", namespace="team")
    api.put(GEMMA_DEPLOYMENTS, "stays", namespace="team")
    async with watching(api) as watch:
        await until(lambda: not watch.deployments._relisted.is_set())
        api.remove(GEMMA_DEPLOYMENTS, "goes", namespace="team", quietly=True)
        api.send({"type": "ERROR", "object": {"kind": "Status", "code": 410}})
        await until(lambda: watch.deployments.get("team", "goes") is None)


async def test_our_own_answer_is_read_at_once_and_older_events_are_dropped(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    async with watching(api) as watch:
        stale = api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", status={"replicas": 1})
        answer = api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", status={"replicas": 2})
        watch.deployments.put_answer(answer)
        watch.deployments.take("MODIFIED", stale)
        assert watch.deployments.get("team", "chat")["status"] == {"replicas": 2}


async def test_a_401_at_kopf_logs_in_again_for_both(api):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    tokens = ["secret"]
    holder = SessionHolder(lambda: api.connection(tokens[-1]))
    watch = Watch(Client(holder), holder)
    follow = asyncio.create_task(watch.follow())
    run = asyncio.create_task(watch.run())
    await watch.wait_synced()
    before = await holder.current()
    await until(lambda: len(api.streams) == 2)
    api.token = "rotated"
    tokens.append("rotated")
    api.drop_streams()
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={"replicas": 2})
    await until(lambda: watch.deployments.get("team", "chat")["spec"])
    assert await holder.current() is not before
    follow.cancel()
    await api.close()
    watch.stop()
    await asyncio.gather(follow, run, return_exceptions=True)
    await holder.close()


def an_object(version, name="chat"):
    return {"metadata": {"namespace": "team", "name": name, "resourceVersion": str(version)}}


async def test_a_store_is_not_synced_before_each_listed_object_came_at_its_listed_version(api):
    holder = SessionHolder(api.connection)
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team")
    api.put(GEMMA_DEPLOYMENTS, "other", namespace="team")
    store = Store(GEMMA_DEPLOYMENTS)
    await store._compare(Client(holder))
    store.take(None, an_object(api.version, "other"))
    store.take(None, an_object(50))  # kopf's list was older than ours
    assert not store.synced.is_set()
    store.take("MODIFIED", an_object(api.version))
    assert store.synced.is_set()
    await holder.close()
