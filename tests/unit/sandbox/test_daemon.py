"""How the daemon speaks to an API server that does not answer at once."""

import aiohttp
import pytest
from aiohttp import web

from gemma_operator.sandbox import daemon
from gemma_operator.sandbox.daemon import Server

POD = {"metadata": {"namespace": "team", "name": "chat-1", "uid": "u"}}


class Scripted:
    """Gives one status code after the other, and the last one for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked = 0

    async def handle(self, _: web.Request) -> web.Response:
        self.asked += 1
        code = self.codes.pop(0) if len(self.codes) > 1 else self.codes[0]
        return web.json_response({"data": {"key": "dmFsdWU="}}, status=code)


@pytest.fixture
async def answering(monkeypatch):
    monkeypatch.setattr(daemon, "_FIRST_PAUSE_SECONDS", 0.001)
    made = []

    async def answer(*codes):
        script = Scripted(*codes)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", script.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}")
        made.append((session, runner))
        return Server(session), script

    yield answer
    for session, runner in made:
        await session.close()
        await runner.cleanup()


@pytest.mark.parametrize("code", [409, 429, 500, 503])
async def test_a_status_that_was_not_taken_is_sent_again(answering, code):
    server, script = await answering(code, code, 200)
    await server.write_status(POD, {"status": {}})
    assert script.asked == 3


@pytest.mark.parametrize("code", [200, 404, 422])
async def test_a_status_of_a_pod_that_is_not_there_any_more_is_sent_once(answering, code):
    server, script = await answering(code)
    await server.write_status(POD, {"status": {}})
    assert script.asked == 1


async def test_a_secret_that_the_server_could_not_give_at_once_is_not_taken_for_missing(answering):
    server, script = await answering(429, 500, 200)
    assert (await server.read_secret("team", "keys"))["data"] == {"key": "dmFsdWU="}
    assert script.asked == 3


async def test_a_secret_that_is_not_there_is_none(answering):
    server, script = await answering(404)
    assert await server.read_secret("team", "keys") is None
    assert script.asked == 1


async def test_a_slice_that_is_not_taken_is_not_taken_for_written(answering):
    """Who writes slices remembers what was written, and writes the same no second time."""
    server, script = await answering(503)
    with pytest.raises(OSError, match="was not taken"):
        await server.apply("/slices/chat", {})
    assert script.asked == 5


async def test_a_slice_of_a_namespace_that_goes_is_refused_once(answering):
    server, script = await answering(403)
    await server.apply("/slices/chat", {})
    assert script.asked == 1
