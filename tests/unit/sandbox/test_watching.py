"""List and watch against a server that says what an API server says."""

import asyncio

import aiohttp
import orjson
import pytest
from aiohttp import web

from gemma_operator.sandbox.watching import Watch, cancel


def an_object(name: str, version: int) -> dict:
    return {"metadata": {"uid": name, "name": name, "resourceVersion": str(version)}}


class Scripted:
    """Answers lists and watches from a script; a watch whose script is empty stays open."""

    def __init__(self) -> None:
        self.lists: list[tuple[int, list[dict]]] = []
        self.watches: list[list[tuple[str, dict]]] = []
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            version, items = self.lists.pop(0)
            return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.Event().wait()
        for kind, item in self.watches.pop(0):
            await response.write(orjson.dumps({"type": kind, "object": item}) + b"\n")
        return response


@pytest.fixture
async def scripted():
    script = Scripted()
    application = web.Application()
    application.router.add_get("/things", script.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield script, session
    await runner.cleanup()


async def _heard(session: aiohttp.ClientSession, count: int) -> list[tuple[str, str]]:
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    watch = Watch(
        session,
        "/things",
        changed=lambda item: heard.put_nowait(
            (item["metadata"]["name"], item["metadata"]["resourceVersion"])
        ),
        gone=lambda item: heard.put_nowait((item["metadata"]["name"], "gone")),
    )
    task = asyncio.create_task(watch.run())
    try:
        return [await asyncio.wait_for(heard.get(), 10) for _ in range(count)]
    finally:
        await cancel(task)


async def test_a_list_and_then_each_change(scripted):
    script, session = scripted
    script.lists = [(5, [an_object("a", 1), an_object("b", 2)])]
    script.watches = [[("MODIFIED", an_object("a", 6)), ("DELETED", an_object("b", 7))]]
    assert await _heard(session, 4) == [("a", "1"), ("b", "2"), ("a", "6"), ("b", "gone")]


async def test_a_watch_that_ends_goes_on_from_its_last_event(scripted):
    script, session = scripted
    script.lists = [(5, [])]
    script.watches = [[("BOOKMARK", an_object("", 9))], [("ADDED", an_object("a", 10))]]
    assert await _heard(session, 1) == [("a", "10")]
    assert script.asked[:2] == ["5", "9"]


async def test_what_vanished_while_nobody_watched_is_gone_after_the_next_list(scripted):
    script, session = scripted
    script.lists = [
        (5, [an_object("a", 1), an_object("b", 2)]),
        (20, [an_object("b", 2), an_object("c", 19)]),
    ]
    script.watches = [[("ERROR", {"code": 410})]]
    assert await _heard(session, 4) == [("a", "1"), ("b", "2"), ("a", "gone"), ("c", "19")]
