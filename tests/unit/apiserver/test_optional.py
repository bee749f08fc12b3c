"""A kind that may be lacking: found, watched, lost and found again, and never needed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver import cache as cache_module
from gemma_operator.apiserver import optional as optional_module
from gemma_operator.apiserver.optional import OptionalCache
from gemma_operator.apiserver.resources import POD_DISRUPTION_BUDGETS, Resource

ABSENT = Resource("karpenter.sh", "v1", "nodepools", "NodePool", namespaced=False)
PRESENT = POD_DISRUPTION_BUDGETS
SOON = 0.01


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(cache_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(cache_module, "_LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(optional_module, "_GLANCE_SECONDS", SOON)


@asynccontextmanager
async def running(client, *resources, changes=None):
    cache = OptionalCache(
        client,
        resources,
        cut=lambda obj: obj["metadata"]["name"],
        on_change=(changes if changes is not None else []).append,
        look_again_seconds=SOON,
    )
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(10):
            await cache.synced.wait()
        yield cache
        assert not task.done(), "it never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_kind_that_is_not_served_is_empty_and_no_failure(client):
    async with running(client, ABSENT) as cache:
        assert (list(cache.values()), len(cache), cache.failure) == ([], 0, None)


async def test_what_is_listed_is_there_when_it_is_synced(api, client):
    api.put(PRESENT, "a", namespace="team")
    async with running(client, PRESENT) as cache:
        assert list(cache.values()) == ["a"]


async def test_the_first_version_that_is_served_is_read(api, client):
    api.put(PRESENT, "a", namespace="team")
    async with running(client, Resource("policy", "v2", PRESENT.plural, PRESENT.kind), PRESENT) as cache:
        assert list(cache.values()) == ["a"]
        assert cache.resource == PRESENT


async def test_a_kind_that_is_installed_later_is_found(api, client, until):
    api.put(PRESENT, "a", namespace="team")
    api.faults.append(Fault(404, times=3, path_part="/apis/policy/v1"))
    async with running(client, PRESENT) as cache:
        await until(lambda: list(cache.values()) == ["a"])


async def test_a_kind_that_goes_is_forgotten_and_what_went_is_told(api, client, until):
    changes = []
    api.put(PRESENT, "a", namespace="team")
    async with running(client, PRESENT, changes=changes) as cache:
        api.faults.append(Fault(404, times=10**6, path_part="/apis/policy/v1"))
        await until(lambda: any(change.new is None for change in changes))
        assert changes[-1].old == "a"
        api.faults.clear()
        await until(lambda: list(cache.values()) == ["a"])


async def test_a_kind_that_may_not_be_read_counts_as_absent(api, client):
    api.put(PRESENT, "a", namespace="team")
    api.faults.append(Fault(403, times=10**6, path_part=f"/{PRESENT.plural}"))
    async with running(client, PRESENT) as cache:
        assert (list(cache.values()), cache.failure) == ([], None)


async def test_a_server_that_does_not_say_what_it_serves_is_asked_again_before_it_counts(api, client):
    api.put(PRESENT, "a", namespace="team")
    api.faults.append(Fault(500, times=2, path_part="/apis/policy/v1"))
    async with running(client, PRESENT) as cache:
        assert list(cache.values()) == ["a"]


async def test_a_kind_that_always_fails_does_not_keep_the_operator_from_starting(api, client):
    api.faults.append(Fault(500, times=10**6, path_part="/apis/policy/v1"))
    async with running(client, PRESENT) as cache:
        assert list(cache.values()) == []


async def test_who_may_not_ask_what_is_served_goes_without(api, client):
    api.faults.append(Fault(403, times=10**6, path_part="/apis/policy/v1"))
    async with running(client, PRESENT) as cache:
        assert list(cache.values()) == []
