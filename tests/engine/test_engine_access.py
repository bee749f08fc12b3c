"""The guard before a real vLLM: every route it registers, and every way round the key that a client can write.

Requests are sent as bytes, because a client library would tidy up the very paths and headers that this is about.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from engine.model import environment
from engine.model.process import PROBE_KEY, Engine, changed, guarded, planned
from gemma_operator.engines.access_middleware import OPEN_PATHS, USER_KEYS, USER_KEYS_HEADER
from gemma_operator.engines.registry import engine_named
from gemma_operator.engines.startup_probe import KEY_FILE
from gemma_operator.probing import exposition
from gemma_operator.sandbox.simulator import routes

_MANIFEST = Path(__file__).parent / "manifests/tiny-from-claim.yaml"
_VLLM = engine_named("VLLM")
_KEY = "sk-of-a-user"
_ASKED = {"model": "tiny", "prompt": "x", "max_tokens": 3, "temperature": 0, "ignore_eos": True}
_LIMIT_SECONDS = 120
#: As vLLM logs its routes at its start (entrypoints/launchers/launcher.py); one without methods is a websocket.
_ROUTE = re.compile(r"Route: (\S+), Methods: (.+)$", re.MULTILINE)
_WEBSOCKET = re.compile(r"Route: (\S+), Endpoint: ", re.MULTILINE)
_BODIES = ("POST", "PUT", "PATCH")

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the guarded engine has its files."""
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture
def keys(engine: Engine, folder: Path) -> Path:
    """The users' keys under the engine that runs."""
    return folder / "access" / USER_KEYS


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    """Guarded as a pod of a deployment with `access.apiKey` is."""
    asked = yaml.safe_load(_MANIFEST.read_text())
    asked["spec"]["access"] = {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
    (folder / "asked.yaml").write_text(yaml.safe_dump(asked))
    container, files = guarded(folder / "asked.yaml")
    access = folder / "access"
    access.mkdir()
    for name, text in (files | {USER_KEYS: f"{_KEY}\n"}).items():
        (access / name).write_text(text)
    with Engine(container, folder=folder, places={str(Path(KEY_FILE).parent): str(access)}) as running:
        yield running


def _sent(request: bytes, *, half: bool = False) -> list[int]:
    """The status of each answer to what is written, until the server closes."""
    answer = _answered(request, half=half)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def _answered(request: bytes, *, half: bool = False) -> bytes:
    with socket.create_connection(("127.0.0.1", _VLLM.port), _LIMIT_SECONDS) as connection:
        connection.settimeout(_LIMIT_SECONDS)
        answer = b""
        connection.sendall(request)
        if half:
            connection.shutdown(socket.SHUT_WR)
        while piece := connection.recv(65536):
            answer += piece
    return answer


def _status(method: str, target: str, *headers: str, body: bytes | None = None) -> int:
    statuses = _sent(_request(method, target, *headers, body=body))
    assert len(statuses) == 1, f"{method} {target}: {statuses}"
    return statuses[0]


def _told(method: str, target: str, *headers: str, body: bytes | None = None) -> str | None:
    """What the answer says of the users' keys."""
    head, _, _ = _answered(_request(method, target, *headers, body=body)).partition(b"\r\n\r\n")
    found = re.findall(rf"^{USER_KEYS_HEADER}: (.*)$", head.decode("latin-1"), re.MULTILINE | re.IGNORECASE)
    return found[0].strip() if found else None


def _request(method: str, target: str, *headers: str, body: bytes | None = None) -> bytes:
    content = (b"{}" if method in _BODIES else b"") if body is None else body
    lines = [
        f"{method} {target} HTTP/1.1",
        "Host: 127.0.0.1",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def _bearer(key: str) -> str:
    return f"Authorization: Bearer {key}"


def _tokens(engine: Engine) -> int:
    return exposition.sample(engine.get("/metrics")[1], _VLLM.metrics).generation_tokens


def _registered(engine: Engine) -> set[tuple[str, str]]:
    return {
        (re.sub(r"\{\w+\}", "x", path), method)
        for path, methods in _ROUTE.findall(engine.log)
        for method in methods.strip().split(", ")
    }


def test_by_the_engines_own_key_alone_anyone_generates(tmp_path: Path) -> None:
    """Why there is a guard: vLLM's own guards prefixes (entrypoints/serve/middleware/authenticate.py).

    First in this file: the guarded engine listens at the same port from its first test to the last.
    """
    own = changed(planned(_MANIFEST)[1], "--api-key", _KEY)
    with Engine(own, folder=tmp_path) as engine:
        asked = json.dumps(_ASKED).encode()
        assert _status("POST", "/v1/completions", body=asked) == 401
        assert engine.post("/invocations", _ASKED)[1]["usage"]["completion_tokens"] == 3
        assert _status("POST", "/tokenize", body=b'{"model": "tiny", "prompt": "x"}') == 200


def test_the_start_up_probe_shows_the_users_key(engine: Engine) -> None:
    done = engine.probe()
    assert done.returncode == 0, done.stderr


def test_every_route_that_the_engine_registers_needs_the_key(engine: Engine) -> None:
    recorded = {
        (re.sub(r"\{\w+\}", "x", path), method)
        for path, methods in routes.table().items()
        for method in methods
    }
    every = _registered(engine) | recorded
    assert {("/invocations", "POST"), ("/tokenize", "POST"), ("/scale_elastic_ep", "POST")} <= every
    locked = sorted((path, method) for path, method in every if path not in OPEN_PATHS)
    assert {place: _status(place[1], place[0]) for place in locked} == dict.fromkeys(locked, 401)
    let_in = {place: _status(place[1], place[0], _bearer(_KEY)) for place in locked}
    assert 401 not in let_in.values(), let_in


def test_the_operator_alone_is_told_how_many_keys_of_users_there_are(engine: Engine) -> None:
    places = sorted(place for place in _registered(engine) if place[1] in ("GET", "HEAD", "OPTIONS"))
    locked = [place for place in places if place[0] not in OPEN_PATHS]
    assert ("/v1/models", "GET") in locked
    told = {place: _told(place[1], place[0], _bearer(PROBE_KEY)) for place in locked}
    assert told == dict.fromkeys(locked, "1")
    for shown in ((_bearer(_KEY),), ()):
        assert {_told(method, path, *shown) for path, method in locked} == {None}
    assert {_told("GET", path, _bearer(PROBE_KEY)) for path in OPEN_PATHS} == {None}


@pytest.mark.parametrize("stream", [False, True])
def test_the_answer_with_a_token_tells_it_and_keys_that_go_are_told_at_once(
    engine: Engine, keys: Path, stream: bool
) -> None:
    asked = json.dumps({**_ASKED, "stream": stream}).encode()

    def told(key: str) -> str | None:
        return _told("POST", "/v1/completions", _bearer(key), body=asked)

    assert (told(PROBE_KEY), told(_KEY)) == ("1", None)
    kept = keys.read_text()
    for text, count in (("", "0"), ("a\nb\n", "2"), (kept, "1")):
        keys.write_text(text)
        assert told(PROBE_KEY) == count


def test_four_paths_are_open_whatever_the_method(engine: Engine) -> None:
    given = {
        (path, method): _status(method, path) for path in OPEN_PATHS for method in ("GET", "HEAD", "OPTIONS")
    }
    assert 401 not in given.values(), given
    assert {given[path, "GET"] for path in OPEN_PATHS} == {200}


@pytest.mark.parametrize("key", [_KEY, PROBE_KEY])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_users_and_the_operators_key_are_let_in_however_the_scheme_is_written(
    engine: Engine, key: str, scheme: str
) -> None:
    status, answer = engine.post("/v1/completions", _ASKED, {"Authorization": f"{scheme} {key}"})
    assert (status, answer.get("usage", {}).get("completion_tokens")) == (200, 3)


_TARGETS = (
    "/invocations",
    "//invocations",
    "///invocations",
    "/./invocations",
    "/v1/../invocations",
    "/health/../invocations",
    "/health/..%2finvocations",
    "/health%2f..%2finvocations",
    "/%69nvocations",
    "/%2finvocations",
    "/invocations/",
    "/invocations?/health",
    "/invocations#/health",
    "/INVOCATIONS",
    "/health;/invocations",
    "/health%00/invocations",
    "/metrics/../v1/completions",
    "/v1/../v1/completions",
    "/v1//completions",
    "http://127.0.0.1:8000/invocations",
    "http://127.0.0.1:8000/health/../invocations",
    "*",
)


@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
@pytest.mark.parametrize("target", _TARGETS)
def test_no_spelling_of_a_path_and_no_method_goes_round_the_key(
    engine: Engine, target: str, method: str
) -> None:
    """400 is the server's own: it does not take what no request may look like."""
    assert _status(method, target, body=json.dumps(_ASKED).encode()) in (401, 400)


@pytest.mark.parametrize(
    "headers",
    [
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Basic " + _KEY,),
        ("Authorization: " + _KEY,),
        ("X-API-Key: " + _KEY,),
        ("Proxy-Authorization: Bearer " + _KEY,),
        (_bearer("other"), _bearer(_KEY)),
        (_bearer(_KEY), _bearer(_KEY)),
        (_bearer(_KEY + "x"),),
        (_bearer(_KEY[:-1]),),
        ("X-Original-URL: /health", "X-Forwarded-Prefix: /health", "X-HTTP-Method-Override: GET"),
    ],
)
def test_nothing_else_in_a_header_is_a_key(engine: Engine, headers: tuple[str, ...]) -> None:
    assert _status("POST", "/v1/completions", *headers, body=json.dumps(_ASKED).encode()) == 401


def test_a_key_in_the_address_is_none(engine: Engine) -> None:
    asked = json.dumps(_ASKED).encode()
    assert _status("POST", f"/v1/completions?api_key={_KEY}&key={_KEY}", body=asked) == 401


def test_a_request_behind_an_open_one_on_the_same_connection_needs_the_key(engine: Engine) -> None:
    asked = json.dumps(_ASKED).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(asked)}\r\n"
    opened = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    assert _sent(opened + head.encode() + b"Content-Type: application/json\r\n\r\n" + asked) == [200, 401]


def test_a_body_that_hides_a_request_is_not_taken_for_one_with_a_key(engine: Engine) -> None:
    hidden = b"0\r\n\r\nPOST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    head = f"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    statuses = _sent(head.encode() + hidden, half=True)
    assert statuses
    assert 200 not in statuses


def test_who_is_refused_costs_no_token_streamed_or_with_a_large_body(engine: Engine) -> None:
    before = _tokens(engine)
    for stream in (False, True):
        asked = json.dumps({**_ASKED, "stream": stream, "max_tokens": 50}).encode()
        for path in ("/v1/completions", "/invocations", "/v1/chat/completions"):
            assert _status("POST", path, body=asked) == 401
    begun = (
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\nConnection: close\r\n\r\n{"
    )
    assert _sent(begun) == [401], "before its body is read"
    assert _tokens(engine) == before


def test_an_answer_with_the_key_is_streamed_and_a_large_body_reaches_the_engine(engine: Engine) -> None:
    shown = {"Authorization": f"Bearer {_KEY}"}
    events = list(engine.stream("/v1/completions", {**_ASKED, "max_tokens": 20}, shown))
    assert len(events) > 1
    status, answer = engine.post("/v1/completions", {**_ASKED, "prompt": "x" * (2 * 1024 * 1024)}, shown)
    assert status == 400
    assert "context length" in json.dumps(answer)


def test_no_websocket_opens_without_the_key(engine: Engine) -> None:
    """Also at a path that is open to others: there, with the key, it is the engine that refuses."""
    upgrade = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    paths = {"/v1/realtime", "/health", *_WEBSOCKET.findall(engine.log)}
    for path in paths:
        lines = "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *upgrade])
        assert _sent(lines.encode() + b"\r\n\r\n")[:1] in ([401], [403]), path
