"""Who is let in by the middleware, driven as an ASGI server drives it."""

import asyncio
import hashlib
import importlib.util
import json
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.engines.access_middleware import OPEN_PATHS, USER_KEYS_HEADER, RequireKey
from gemma_operator.sandbox.simulator import routes

USERS, OPERATORS = b"sk-users", b"of-the-operator"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ROUTES = sorted((path, method) for path, methods in routes.table().items() for method in methods)
GUARDED = [(path, method) for path, method in ROUTES if path not in OPEN_PATHS]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "user.key").write_bytes(USERS)
    (tmp_path / "probe.sha256").write_text(hashlib.sha256(OPERATORS).hexdigest())
    return tmp_path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One for the tests with many examples: none of them changes it."""
    place = tmp_path_factory.mktemp("access")
    (place / "user.key").write_bytes(USERS)
    (place / "probe.sha256").write_text(hashlib.sha256(OPERATORS).hexdigest())
    return place


async def engine(scope, receive, send):
    """Answers everything, in two parts."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"one", "more_body": True})
    await send({"type": "http.response.body", "body": b"two"})


def call(folder, path, *headers, method="GET", app=engine, **scope):
    """What is sent for one request."""
    sent = []

    async def receive():
        return {"type": "websocket.connect" if scope.get("type") == "websocket" else "http.request"}

    async def send(message):
        sent.append(message)

    asked = {"type": "http", "method": method, "path": path, "root_path": "", "headers": headers, **scope}
    asyncio.run(RequireKey(app, folder)(asked, receive, send))
    return sent


def status(*asked, **more):
    return call(*asked, **more)[0]["status"]


def told(folder, path="/v1/models", *headers, **more):
    """What an answer says of the users' keys: a number, or None."""
    (start, *_) = call(folder, path, *headers, **more)
    found = [value for name, value in start.get("headers", ()) if name.lower() == USER_KEYS_HEADER.encode()]
    assert len(found) <= 1
    return int(found[0]) if found else None


def bearer(key):
    return (b"authorization", b"Bearer " + key)


@pytest.mark.parametrize(("path", "method"), GUARDED)
def test_every_recorded_route_of_the_engine_needs_the_key(folder, path, method):
    assert status(folder, path, method=method) == 401
    assert status(folder, path, bearer(USERS), method=method) == 200


def test_the_recorded_routes_hold_what_the_engines_own_key_leaves_open():
    named = {
        "/invocations",
        "/tokenize",
        "/detokenize",
        "/scale_elastic_ep",
        "/load",
        "/docs",
        "/openapi.json",
    }
    assert named <= {path for path, _ in GUARDED}
    assert {path for path, _ in ROUTES} - {path for path, _ in GUARDED} == OPEN_PATHS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_four_paths_are_open(folder, path, method):
    assert status(folder, path, method=method) == 200


@pytest.mark.parametrize("method", METHODS)
def test_no_method_goes_round_the_key(folder, method):
    assert status(folder, "/invocations", method=method) == 401


@pytest.mark.parametrize(
    "path",
    [
        "//invocations",
        "/health/",
        "//health",
        "/HEALTH",
        "/health/../invocations",
        "/v1/../health",
        "/health;/invocations",
        "/health%2f..%2finvocations",
        "/metrics/",
        "/metricsx",
        "/metrics/invocations",
        "/health\x00",
        "/health ",
        "/he\u200balth",
        "/health?x",
        "/ping/invocations",
        "health",
        "",
        "*",
    ],
)
def test_a_path_that_only_looks_open_is_guarded(folder, path):
    assert status(folder, path) == 401


@pytest.mark.parametrize("root_path", ["/health", "/metrics", "/x"])
def test_behind_a_root_path_nothing_is_open(folder, root_path):
    assert status(folder, "/health", root_path=root_path) == 401


@given(path=st.text(), method=st.text(min_size=1))
def test_no_other_path_is_open(guarded, path, method):
    assert status(guarded, path, method=method) == (200 if path in OPEN_PATHS else 401)


@given(value=st.binary() | st.binary().map(lambda tail: b"Bearer " + tail), name=st.binary())
def test_no_other_value_of_no_other_header_is_a_key(guarded, value, name):
    expected = 200 if name.lower() == b"authorization" and value.strip() == b"Bearer " + USERS else 401
    assert status(guarded, "/v1/models", (name, value)) == expected


@given(key=st.binary(min_size=1), shown=st.binary())
def test_only_a_key_of_the_file_is_one(tmp_path_factory, key, shown):
    place = tmp_path_factory.mktemp("any")
    (place / "user.key").write_bytes(key)
    known = {line.strip() for line in key.splitlines()} - {b""}
    assert status(place, "/v1/models", bearer(shown)) == (200 if shown.strip() in known else 401)


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"bearer " + USERS),
        (b"Authorization", b"BEARER " + USERS),
        (b"authorization", b"Bearer  " + USERS + b" "),
        bearer(OPERATORS),
    ],
)
def test_the_scheme_has_no_case_and_blanks_do_not_count(folder, header):
    assert status(folder, "/v1/models", header) == 200


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ((b"authorization", USERS),),
        ((b"authorization", b"Basic " + USERS),),
        ((b"authorization", b"Bearer"),),
        ((b"authorization", b"Bearer "),),
        ((b"x-api-key", USERS),),
        ((b"proxy-authorization", b"Bearer " + USERS),),
        (bearer(USERS), bearer(USERS)),
        (bearer(b"wrong"), bearer(USERS)),
        (bearer(USERS + b"x"),),
        (bearer(USERS[:-1]),),
        (bearer(USERS.upper()),),
        (bearer(hashlib.sha256(OPERATORS).hexdigest().encode()),),
    ],
)
def test_nothing_else_is_a_key(folder, headers):
    assert status(folder, "/v1/models", *headers) == 401


def test_the_refusal_is_in_the_shape_of_openais_api(folder):
    start, body = call(folder, "/v1/chat/completions", method="POST")
    headers = dict(start["headers"])
    assert headers[b"www-authenticate"] == b"Bearer"
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"content-length"]) == len(body["body"])
    error = json.loads(body["body"])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")


@pytest.mark.parametrize(("path", "method"), GUARDED)
def test_on_every_guarded_route_the_operator_alone_is_told_how_many_keys_there_are(folder, path, method):
    asked = ((), (bearer(USERS),), (bearer(b"wrong"),), (bearer(OPERATORS),))
    assert [told(folder, path, *headers, method=method) for headers in asked] == [None, None, None, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_an_open_path_tells_nobody(folder, path, method):
    assert told(folder, path, bearer(OPERATORS), method=method) is None


@given(text=st.lists(st.binary(max_size=6) | st.just(b"again"), max_size=5).map(b"\n".join))
def test_a_number_is_told_and_nothing_of_a_key(tmp_path_factory, text):
    """As many as are let in, however the file is written: 0 exactly where every user is refused."""
    place = tmp_path_factory.mktemp("told")
    (place / "user.key").write_bytes(text)
    (place / "probe.sha256").write_text(hashlib.sha256(OPERATORS).hexdigest())
    let_in = {line.strip() for line in text.splitlines() if status(place, "/", bearer(line.strip())) == 200}
    assert told(place, "/v1/models", bearer(OPERATORS)) == len(let_in)


def test_a_file_that_is_gone_is_no_key(folder):
    (folder / "user.key").unlink()
    assert told(folder, "/v1/models", bearer(OPERATORS)) == 0


def test_what_is_told_is_so_when_the_answer_begins(folder):
    async def app(scope, receive, send):
        (folder / "user.key").write_bytes(b"")
        await engine(scope, receive, send)

    assert told(folder, "/v1/models", bearer(OPERATORS), app=app) == 0


def test_an_engine_does_not_speak_for_the_guard(folder):
    async def app(scope, receive, send):
        headers = [(b"X-Gemma-Operator-User-Keys", b"7"), (b"x-mine", b"kept")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    (start,) = call(folder, "/v1/models", bearer(OPERATORS), app=app)
    assert start["headers"] == [(b"x-mine", b"kept"), (USER_KEYS_HEADER.encode(), b"1")]


def test_what_the_engine_streams_is_passed_on_as_it_comes(folder):
    sent = call(folder, "/v1/chat/completions", bearer(USERS), method="POST")
    assert [message.get("body") for message in sent] == [None, b"one", b"two"]


def test_the_engine_gets_the_request_itself(folder):
    got = []

    async def app(scope, receive, send):
        got.append((scope, receive, send))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    call(folder, "/v1/models", bearer(USERS), app=app, state={"x": 1})
    ((scope, _, _),) = got
    assert scope["state"] == {"x": 1}


def test_starting_and_ending_need_no_key(folder):
    assert call(folder, "", type="lifespan")


def test_a_kind_of_connection_that_nobody_knows_is_refused(folder):
    assert status(folder, "/health", type="webtransport") == 401


def test_a_websocket_without_a_key_is_closed_before_it_opens(folder):
    assert call(folder, "/v1/realtime", type="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_a_websocket_has_no_open_path(folder):
    assert call(folder, "/health", type="websocket")[0]["type"] == "websocket.close"


def test_a_websocket_is_told_nothing(folder):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})

    accepted = call(folder, "/v1/realtime", bearer(OPERATORS), type="websocket", app=app)
    assert accepted == [{"type": "websocket.accept"}]


def test_a_websocket_with_the_key_reaches_the_engine(folder):
    assert call(folder, "/v1/realtime", bearer(USERS), type="websocket")[0]["status"] == 200


def test_a_newline_at_the_end_of_the_secret_is_forgiven(folder):
    (folder / "user.key").write_bytes(b"\n" + USERS + b"\r\n")
    assert status(folder, "/v1/models", bearer(USERS)) == 200


def test_each_line_is_a_key(folder):
    (folder / "user.key").write_bytes(b"old\nnew\n")
    answers = [status(folder, "/v1/models", bearer(key)) for key in (b"old", b"new", b"old\nnew")]
    assert answers == [200, 200, 401]


@pytest.mark.parametrize("text", [b"", b"\n", b" \t\r\n"])
def test_an_empty_file_lets_nobody_in(folder, text):
    (folder / "user.key").write_bytes(text)
    for shown in (USERS, b"", text):
        assert status(folder, "/v1/models", bearer(shown)) == 401


@pytest.mark.parametrize("missing", ["user.key", "probe.sha256"])
def test_a_missing_file_lets_in_only_who_has_the_other_key(folder, missing):
    (folder / missing).unlink()
    answers = {key: status(folder, "/v1/models", bearer(key)) for key in (USERS, OPERATORS)}
    assert answers == {
        USERS: 401 if missing == "user.key" else 200,
        OPERATORS: 200 if missing == "user.key" else 401,
    }


def test_without_any_file_nobody_is_let_in(tmp_path):
    assert status(tmp_path / "nowhere", "/v1/models", bearer(USERS)) == 401
    assert status(tmp_path / "nowhere", "/health") == 200


@pytest.mark.parametrize("text", ["no hash", "abc", "\xff"])
def test_a_hash_that_cannot_be_read_is_none(folder, text):
    (folder / "probe.sha256").write_text(text, encoding="latin-1")
    assert status(folder, "/v1/models", bearer(OPERATORS)) == 401
    assert status(folder, "/v1/models", bearer(USERS)) == 200


class KubeletsVolume:
    """A folder whose files are links through `..data`, swapped as the kubelet swaps it (AtomicWriter)."""

    def __init__(self, root):
        self.root = root
        self._count = 0

    def write(self, **files):
        self._count += 1
        payload = self.root / f"..{self._count}"
        payload.mkdir()
        for name, text in files.items():
            (payload / name).write_bytes(text)
        (self.root / "..data_tmp").symlink_to(payload.name)
        (self.root / "..data_tmp").rename(self.root / "..data")
        for name in files:
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(f"..data/{name}")
        for link in self.root.iterdir():
            if link.is_symlink() and link.name != "..data" and link.name not in files:
                link.unlink()


def test_a_key_is_changed_and_taken_away_under_a_server_that_runs(tmp_path):
    volume = KubeletsVolume(tmp_path)
    volume.write(**{"user.key": b"one", "probe.sha256": hashlib.sha256(OPERATORS).hexdigest().encode()})
    answers = []
    middleware = RequireKey(engine, tmp_path)

    def ask(key):
        async def send(message):
            answers.append(message)

        answers.clear()
        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": (bearer(key),)}
        asyncio.run(middleware(scope, None, send))
        return answers[0]["status"]

    def all_three():
        return [ask(key) for key in (b"one", b"two", OPERATORS)]

    assert all_three() == [200, 401, 200]
    volume.write(**{"user.key": b"two", "probe.sha256": hashlib.sha256(OPERATORS).hexdigest().encode()})
    assert all_three() == [401, 200, 200]
    volume.write(**{"probe.sha256": hashlib.sha256(OPERATORS).hexdigest().encode()})
    assert all_three() == [401, 401, 200]
    volume.write(**{"user.key": b"one", "probe.sha256": hashlib.sha256(OPERATORS).hexdigest().encode()})
    assert all_three() == [200, 401, 200]


def test_a_file_that_stays_is_read_once(folder, monkeypatch):
    reads = []
    middleware = RequireKey(engine, folder)
    kind = type(folder)
    real = kind.read_bytes
    monkeypatch.setattr(kind, "read_bytes", lambda path: reads.append(path.name) or real(path))

    async def twice():
        async def send(message): ...

        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": (bearer(USERS),)}
        for _ in range(2):
            await middleware(scope, None, send)

    asyncio.run(twice())
    assert sorted(reads) == ["probe.sha256", "user.key"]


def test_the_source_needs_nothing_but_the_standard_library_and_finds_its_keys_beside_itself(folder):
    source = resources.files("gemma_operator.engines").joinpath("access_middleware.py").read_text()
    (folder / "..real").mkdir()
    (folder / "..real" / "gemma_access.py").write_text(source)
    (folder / "gemma_access.py").symlink_to("..real/gemma_access.py")
    spec = importlib.util.spec_from_file_location("gemma_access", folder / "gemma_access.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sent = []

    async def ask(key):
        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": (bearer(key),)}
        await module.RequireKey(engine)(scope, None, send)

    asyncio.run(ask(USERS))
    asyncio.run(ask(b"wrong"))
    assert [message["status"] for message in sent if "status" in message] == [200, 401]
    assert "gemma_operator" not in source
