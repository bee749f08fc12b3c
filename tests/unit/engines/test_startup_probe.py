"""The start-up probe, run as the kubelet runs it, against a small server."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gemma_operator.engines.startup_probe import ADDRESS, KEY_FILE, generated_tokens
from gemma_operator.engines.vllm import Vllm

REQUEST = Vllm().token_request(model_name="chat")
GOOD = {"model": "chat", "choices": [{"text": " Paris"}], "usage": {"completion_tokens": 1}}


@contextmanager
def a_server(*, status=200, answer=b"", keys_seen=None):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            if keys_seen is not None:
                keys_seen.append(self.headers.get_all("Authorization"))
            seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(address, *, key_file="/nowhere", **environment):
    _, dash_c, script, path, body = Vllm().startup_probe(REQUEST)
    assert (script.count(ADDRESS), script.count(KEY_FILE)) == (1, 1)
    script = script.replace(ADDRESS, address).replace(KEY_FILE, str(key_file))
    command = [sys.executable, "-I", dash_c, script, path, body]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)


def probe(*, status=200, answer):
    with a_server(status=status, answer=json.dumps(answer).encode()) as (address, _):
        return run(address)


def test_a_token_of_the_planned_model_is_success():
    assert probe(answer=GOOD).returncode == 0


def test_exactly_the_request_of_the_plan_is_sent():
    with a_server(answer=json.dumps(GOOD).encode()) as (address, seen):
        run(address)
    assert seen == [(REQUEST.path, REQUEST.body)]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (GOOD | {"usage": {"completion_tokens": 0}}, "without a token"),
        (GOOD | {"choices": []}, "without a token"),
        (GOOD | {"choices": [{"text": ""}]}, "without a token"),
        ({"model": "chat"}, "without a token"),
        (GOOD | {"model": "other"}, "serves 'other'"),
        ([], "not a completion"),
    ],
)
def test_an_answer_that_proves_nothing_is_failure(answer, why):
    result = probe(answer=answer)
    assert result.returncode == 1
    assert why in result.stderr


def test_an_error_is_failure():
    result = probe(status=500, answer=GOOD)
    assert (result.returncode, result.stderr.strip()) == (1, "answered 500")


def test_something_that_is_not_json_is_failure_without_a_traceback():
    with a_server(answer=b"<html>") as (address, _):
        result = run(address)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_a_refused_connection_is_failure_without_a_traceback():
    with a_server() as (address, _):
        pass
    result = run(address)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_a_proxy_for_the_weights_is_not_asked():
    with a_server(answer=json.dumps(GOOD).encode()) as (address, _):
        assert run(address, HTTP_PROXY="http://127.0.0.1:9", http_proxy="http://127.0.0.1:9").returncode == 0


@pytest.mark.parametrize(
    "choice",
    [
        {"text": " Paris"},
        {"message": {"content": "Paris"}},
        {"message": {"content": None, "reasoning": "Hm"}},
        {"message": {"content": None, "reasoning_content": "Hm"}},
    ],
)
def test_text_of_either_kind_of_completion_is_a_token(choice):
    assert generated_tokens({"choices": [choice], "usage": {"completion_tokens": 1}}) == 1


def test_a_counted_token_without_any_text_is_none():
    assert (
        generated_tokens({"choices": [{"message": {"content": ""}}], "usage": {"completion_tokens": 1}}) == 0
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"sk-1", ["Bearer sk-1"]),
        (b"\n sk-1 \r\nsk-2\n", ["Bearer sk-1"]),
        (b"k\xc3\xa9y", ["Bearer k\xc3\xa9y"]),
        (b"", None),
        (b" \n", None),
    ],
)
def test_the_first_key_of_a_guarded_server_is_sent_along(tmp_path, text, shown):
    (tmp_path / "user.key").write_bytes(text)
    seen = []
    with a_server(answer=json.dumps(GOOD).encode(), keys_seen=seen) as (address, _):
        run(address, key_file=tmp_path / "user.key")
    assert seen == [shown]


def test_a_server_without_a_guard_is_asked_without_a_key():
    seen = []
    with a_server(answer=json.dumps(GOOD).encode(), keys_seen=seen) as (address, _):
        assert run(address).returncode == 0
    assert seen == [None]


def test_a_key_that_is_refused_is_failure_and_is_not_shown(tmp_path):
    (tmp_path / "user.key").write_bytes(b"sk-secret")
    with a_server(status=401) as (address, _):
        result = run(address, key_file=tmp_path / "user.key")
    assert (result.returncode, result.stderr.strip()) == (
        1,
        f"answered 401: is there a key in {tmp_path / 'user.key'}?",
    )


@pytest.mark.parametrize("text", [b"sk\x00secret", b"sk\x0bsecret", b"sk\x85secret"])
def test_a_key_that_no_header_can_hold_is_not_shown_either(tmp_path, text):
    (tmp_path / "user.key").write_bytes(text)
    with a_server(status=401) as (address, _):
        assert "secret" not in run(address, key_file=tmp_path / "user.key").stderr
