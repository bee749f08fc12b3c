"""List and watch into a table: complete, current, without ghosts, whatever the server does."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import asynccontextmanager

import pytest

from fakes.kubeapi import Fault
from gemma_operator.apiserver import cache as cache_module
from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.resources import PODS, SERVICES
from gemma_operator.errors import Forbidden, Unreachable


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(cache_module, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(cache_module, "_LONGEST_PAUSE_SECONDS", 0.01)


def cut(obj):
    return obj["metadata"]["name"], obj["metadata"]["resourceVersion"], obj.get("node", "")


def a_cache(client, **options):
    return Cache(client, PODS, cut=cut, **options)


@asynccontextmanager
async def running(cache):
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(10):
            await cache.synced.wait()
        yield cache
        assert not task.done(), "a cache never ends by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_everything_listed_is_there_when_it_is_synced(api, client):
    for number in range(12):
        api.put(PODS, f"p{number}", namespace="team")
    async with running(a_cache(client, page_size=5)) as cache:
        assert len(cache) == 12
        assert api.count("GET", "/pods") >= 3


async def test_an_empty_list_is_synced_too(client):
    async with running(a_cache(client)) as cache:
        assert list(cache.values()) == []


async def test_events_change_the_table_and_are_told(api, client, until):
    changes = []
    async with running(a_cache(client, on_change=changes.append)) as cache:
        api.put(PODS, "p", namespace="team")
        await until(lambda: cache.get("team", "p"))
        api.put(PODS, "p", namespace="team", node="n1")
        await until(lambda: cache.get("team", "p")[2] == "n1")
        api.remove(PODS, "p", namespace="team")
        await until(lambda: cache.get("team", "p") is None)
    assert [(change.old is None, change.new is None) for change in changes] == [
        (True, False),
        (False, False),
        (False, True),
    ]


@pytest.mark.parametrize("watched", [False, True], ids=["listed", "watched"])
async def test_an_object_that_cannot_be_read_is_told_and_keeps_nobody_else_from_being_known(
    api, client, until, caplog, watched
):
    def cut_odd(obj):
        return obj["metadata"]["name"], 1 // (obj.get("node") != "odd")

    changes = []
    if not watched:
        api.put(PODS, "bad", namespace="team", node="odd")
    async with running(Cache(client, PODS, cut=cut_odd, on_change=changes.append)) as cache:
        if watched:
            await until(lambda: api.streams)
            api.put(PODS, "bad", namespace="team", node="odd")
        api.put(PODS, "good", namespace="team")
        await until(lambda: cache.get("team", "good"))
        assert cache.get("team", "bad") is None
    assert [change.place for change in changes] == [("team", "good")]
    assert "pods team/bad cannot be read" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_only_what_the_selector_asks_for_is_listed(api, client):
    api.put(PODS, "ours", namespace="team", metadata={"labels": {"managed-by": "us"}})
    api.put(PODS, "theirs", namespace="team")
    async with running(a_cache(client, label_selector="managed-by=us")) as cache:
        assert [record[0] for record in cache.values()] == ["ours"]


async def test_a_dropped_stream_goes_on_where_it_was_without_a_list(api, client, until):
    async with running(a_cache(client)) as cache:
        await until(lambda: api.streams)
        lists = sum("watch" not in query for _, _, query in api.requests)
        api.drop_streams()
        api.put(PODS, "meanwhile", namespace="team")
        await until(lambda: cache.get("team", "meanwhile"))
        assert sum("watch" not in query for _, _, query in api.requests) == lists


async def test_no_ghost_stays_after_a_gap_that_the_server_forgot(api, client, until):
    changes = []
    api.put(PODS, "stays", namespace="team")
    api.put(PODS, "goes", namespace="team")
    async with running(a_cache(client, on_change=changes.append)) as cache:
        await until(lambda: api.streams)
        api.faults.append(Fault(503, times=10**6, headers={"Retry-After": "0"}))
        api.drop_streams()
        await until(lambda: not api.streams)
        api.remove(PODS, "goes", namespace="team")
        api.put(PODS, "comes", namespace="team")
        api.compact()
        api.faults.clear()
        await until(lambda: cache.get("team", "goes") is None)
        await until(lambda: cache.get("team", "comes"))
        assert cache.get("team", "stays")
    assert [change.place for change in changes if change.new is None] == [("team", "goes")]


async def test_a_410_inside_the_stream_lists_again(api, client, until):
    api.put(PODS, "goes", namespace="team")
    async with running(a_cache(client)) as cache:
        await until(lambda: api.streams)
        api.remove(PODS, "goes", namespace="team", quietly=True)
        api.send({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
        await until(lambda: cache.get("team", "goes") is None)


async def test_a_server_that_forgets_each_list_at_once_is_listed_ever_more_seldom(
    api, client, until, monkeypatch
):
    pauses = []
    monkeypatch.setattr(cache_module, "_LONGEST_PAUSE_SECONDS", 15.0)
    monkeypatch.setattr(cache_module, "_jittered", lambda seconds: pauses.append(seconds) or 0)
    async with running(a_cache(client)):
        api.faults.append(Fault(410, times=10**6, path_part="watch=true"))
        api.drop_streams()
        await until(lambda: len(pauses) >= 8)
        lists = sum("watch" not in query for _, _, query in api.requests)
    ceilings = pauses[-5:]
    assert all(later == 2 * earlier for earlier, later in itertools.pairwise(ceilings))
    assert lists <= len(pauses) + 1


@pytest.mark.parametrize("code", [500, 429, 503])
async def test_another_error_inside_the_stream_is_waited_out(api, client, until, code):
    async with running(a_cache(client)) as cache:
        await until(lambda: api.streams)
        api.send(
            {"type": "ERROR", "object": {"kind": "Status", "code": code, "details": {"retryAfterSeconds": 0}}}
        )
        api.put(PODS, "after", namespace="team")
        await until(lambda: cache.get("team", "after"))


async def test_a_bookmark_moves_the_version_on_so_that_a_quiet_watch_needs_no_list(api, client, until):
    async with running(a_cache(client)) as cache:
        await until(lambda: api.streams)
        api.put(SERVICES, "elsewhere", namespace="team")
        api.bookmark()
        await until(lambda: cache._version == str(api.version))
        api.compact()
        lists = api.count("GET", "/pods")
        api.drop_streams()
        api.put(PODS, "after", namespace="team")
        await until(lambda: cache.get("team", "after"))
        queries = [query for _, _, query in api.requests[lists:]]
        assert all("watch=true" in query for query in queries)


async def test_a_list_that_takes_too_long_starts_over(api, client, until):
    for number in range(4):
        api.put(PODS, f"p{number}", namespace="team")
    api.faults.append(Fault(410, path_part="continue="))
    async with running(a_cache(client, page_size=2)) as cache:
        assert len(cache) == 4


async def test_a_server_that_is_away_is_waited_for(api, client):
    api.faults.append(Fault(503, times=3, headers={"Retry-After": "0"}))
    api.put(PODS, "p", namespace="team")
    async with running(a_cache(client)) as cache:
        assert cache.get("team", "p")
        assert cache.failure is None


async def test_a_missing_right_is_kept_for_whoever_asks(api, client, until):
    api.faults.append(Fault(403, times=10**6))
    cache = a_cache(client)
    task = asyncio.create_task(cache.run())
    await until(lambda: cache.failure)
    assert isinstance(cache.failure, Forbidden)
    assert "list pods" in str(cache.failure)
    assert not cache.synced.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_that_falls_silent_is_opened_again(api, client, until, monkeypatch):
    monkeypatch.setattr("gemma_operator.apiserver.client._INACTIVITY_SECONDS", 0.05)
    async with running(a_cache(client)) as cache:
        await until(lambda: isinstance(cache.failure, Unreachable))
        api.put(PODS, "p", namespace="team")
        await until(lambda: cache.get("team", "p"))


async def test_what_we_wrote_is_read_at_once_and_its_echo_tells_nobody(api, client, until):
    changes = []
    async with running(a_cache(client, on_change=changes.append)) as cache:
        await until(lambda: api.streams)
        stale = api.put(PODS, "p", namespace="team", node="old")
        answer = api.put(PODS, "p", namespace="team", node="new")
        cache.put_answer(answer)
        assert cache.get("team", "p")[2] == "new"
        cache.put_answer(stale)
        assert cache.get("team", "p")[2] == "new"
        api.put(PODS, "later", namespace="team")
        await until(lambda: cache.get("team", "later"))
        assert len([change for change in changes if change.place == ("team", "p")]) == 1


async def test_a_table_ends_equal_to_the_server_after_every_kind_of_trouble(api, client, until):
    rng = random.Random(7)
    async with running(a_cache(client, page_size=3)) as cache:
        for _ in range(150):
            name = f"p{rng.randrange(8)}"
            there = ("team", name) in api.objects.get("pods", {})
            match rng.randrange(8):
                case 0 | 1 | 2:
                    api.put(PODS, name, namespace="team", node=str(rng.random()))
                case 3 if there:
                    api.remove(PODS, name, namespace="team")
                case 4 if there:
                    api.remove(PODS, name, namespace="team", quietly=True)
                    api.compact()
                    api.drop_streams()
                case 5:
                    api.drop_streams()
                case 6:
                    api.faults.append(Fault(rng.choice([500, 429, 410]), headers={"Retry-After": "0"}))
                case 7:
                    await asyncio.sleep(0)
        api.faults.clear()
        expected = {("team", cut(obj)) for obj in api.objects["pods"].values()}
        await until(lambda: {("team", record) for record in cache.values()} == expected)
