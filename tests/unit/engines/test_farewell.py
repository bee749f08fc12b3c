"""What an engine's clients hear before it goes, and the hook that makes them hear it."""

import asyncio
import http.server
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from gemma_operator.backends.kubernetes.render_farewell import PATH, goodbye_of
from gemma_operator.engines import farewell_hook
from gemma_operator.engines.farewell_middleware import UNROUTED, Farewell
from snapshots import ENGINE
from unit.engines.stand_in import StandIn

WORDS = "/v1/completions"


class Connection:
    """A connection as uvicorn keeps it."""

    def __init__(self, **state):
        self.was_shut_down = False
        vars(self).update(state)

    def shutdown(self):
        self.was_shut_down = True


async def an_engine(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"Connection", b"keep-alive")]})
    await send({"type": "http.response.body", "body": b"token"})


def asked(farewell, path=WORDS, *, connections=(), kind="http"):
    """Messages that leave the server."""
    server = SimpleNamespace(server_state=SimpleNamespace(connections=set(connections)))
    app = SimpleNamespace(state=SimpleNamespace(server=server))
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(farewell({"type": kind, "path": path, "app": app}, None, send))
    return sent


def closes(messages):
    return dict(messages[0]["headers"]).get(b"connection") == b"close"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "farewell"


@pytest.fixture
def farewell(file):
    return Farewell(an_engine, file)


def test_while_the_pod_stays_nothing_is_changed(farewell):
    start, body = asked(farewell)
    assert start["headers"] == [(b"Connection", b"keep-alive")]
    assert body["body"] == b"token"


def test_a_stream_says_at_its_head_that_its_connection_ends_with_it(file):
    async def streaming(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: [DONE]"})

    start, body = asked(Farewell(streaming, file))
    assert closes([start])
    assert body["body"] == b"data: [DONE]"


def test_once_the_pod_is_going_every_answer_ends_its_connection_and_none_is_refused(farewell, file):
    idle = Connection(cycle=None)
    file.write_bytes(farewell_hook.UNROUTING)
    start, body = asked(farewell, connections=[idle])
    assert start["status"] == 200
    assert start["headers"] == [(b"connection", b"close")]
    assert body["body"] == b"token"
    assert not idle.was_shut_down


def test_an_answer_that_began_before_is_told_when_its_head_is_sent(file):
    async def slow(scope, receive, send):
        file.write_bytes(farewell_hook.UNROUTING)
        await an_engine(scope, receive, send)

    assert closes(asked(Farewell(slow, file)))


def test_when_nobody_connects_any_more_kept_connections_are_closed(farewell, file):
    idle, upgraded = Connection(cycle=None), Connection()
    file.write_bytes(farewell_hook.UNROUTED)
    assert asked(farewell, "/health", connections=[idle, upgraded])[0]["status"] == 200
    assert idle.was_shut_down
    assert not upgraded.was_shut_down


def test_what_comes_after_that_is_sent_elsewhere_and_not_into_an_engine_that_ends(farewell, file):
    file.write_bytes(farewell_hook.UNROUTED)
    start, body = asked(farewell)
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    assert closes([start])


def test_an_application_without_a_server_is_no_trouble(farewell, file):
    file.write_bytes(farewell_hook.UNROUTED)
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(farewell({"type": "http", "path": "/health"}, None, send))
    assert sent[0]["status"] == 200


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_what_is_no_request_passes(farewell, file, kind):
    file.write_bytes(farewell_hook.UNROUTED)
    assert asked(farewell, kind=kind)[0]["headers"] == [(b"Connection", b"keep-alive")]


def test_the_file_of_a_container_that_was_here_before_is_forgotten(file):
    file.write_bytes(farewell_hook.UNROUTED)
    assert not closes(asked(Farewell(an_engine, file)))


def test_the_hook_and_the_middleware_mean_the_same_file_and_words():
    hook = ENGINE.pre_stop(seconds=15)
    assert farewell_hook.UNROUTED == UNROUTED
    assert hook[3:] == ("/dev/shm/gemma-operator-farewell", "8000", "15")


def test_the_hook_tells_waits_tells_again_and_makes_the_engine_look(file):
    seen = []

    class Engine(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, file.read_bytes()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Engine) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        port = str(server.server_port)
        command = [sys.executable, "-c", ENGINE.pre_stop(seconds=3)[2], str(file), port, "3"]
        hook = subprocess.Popen(command)
        while not file.exists():
            assert hook.poll() is None
        assert file.read_bytes() in (b"", farewell_hook.UNROUTING)
        assert hook.wait(timeout=30) == 0
        serving.join()
    assert seen == [("/health", UNROUTED)]


def test_an_engine_that_does_not_answer_costs_the_hook_nothing(tmp_path):
    nowhere = tmp_path / "no" / "folder"
    command = [sys.executable, "-c", ENGINE.pre_stop(seconds=1)[2], str(nowhere), "1", "0"]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_the_pod_gets_program_hook_and_place():
    goodbye = goodbye_of(ENGINE, unrouting_seconds=15)
    (volume,), (mount,) = goodbye.volumes, goodbye.mounts
    (file,) = volume["downwardAPI"]["items"]
    ((annotation, source),) = goodbye.annotations.items()
    assert file["fieldRef"]["fieldPath"] == f"metadata.annotations['{annotation}']"
    assert (file["path"], source) == (ENGINE.farewell.file_name, ENGINE.farewell.source)
    assert (mount["mountPath"], mount["name"]) == (PATH, volume["name"])


def test_an_engine_without_a_farewell_is_waited_for_all_the_same():
    goodbye = goodbye_of(StandIn(), unrouting_seconds=15)
    assert goodbye.hook == {"sleep": {"seconds": 15}}
    assert (goodbye.path, goodbye.volumes, goodbye.mounts) == ("", (), ())
