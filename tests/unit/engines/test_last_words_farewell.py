"""An engine that is told to go: at once while it has nobody to answer, in its own time as soon as somebody may wait."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gemma_operator.engines import last_words
from unit.engines.wrapped import wrapped

#: As vLLM 0.32 in its start: the signal is taken, nothing comes of it, and its engine process does not care either.
DEAF = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: print("heard"))
child = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); signal.pause()"
engine = subprocess.Popen([sys.executable, "-u", "-c", child], stdout=subprocess.PIPE)
engine.stdout.readline()
"""
FOR_EVER = "while True: signal.pause()"
#: As vLLM 0.32 serves: listens, and when told to go closes its port, finishes what it has, and ends with 0.
DRAINS = """
import signal, socket, sys, os, threading
listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
# by a thread of its own: a handler would not run for a signal that comes just before the main one waits to read
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
def drain():
    signal.sigwait({signal.SIGTERM})
    listening.close()
    print("draining")
    signal.sigwait({signal.SIGTERM})
    print("told again")
threading.Thread(target=drain, daemon=True).start()
print("listening")
client, _ = listening.accept()
print("accepted")
sys.stdin.readline()  # until the test says that the answer is finished
client.sendall(b"answer")
sys.exit(listening.fileno() >= 0)
"""
#: For a machine that is busy with other things; nothing here takes longer than the engine's patience.
LIMIT_SECONDS = 120


@pytest.fixture
def port(unused_tcp_port):
    return unused_tcp_port


def started(folder, program, *, port):
    return subprocess.Popen(
        wrapped(folder, program, port=port),
        env={**os.environ, "PORT": str(port)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_one_that_does_not_listen_yet_is_gone_soon_with_all_of_its_processes(tmp_path, port):
    with started(tmp_path, f"{DEAF}\nprint(engine.pid)\n{FOR_EVER}", port=port) as process:
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_SECONDS) == 128 + signal.SIGTERM
        process.stdout.read()  # ends only when nobody holds it any more
    assert not _lives(child)
    assert (tmp_path / "log").read_text() == f"Told to end (SIGTERM) before it listened on port {port}."


def test_what_it_had_complained_of_before_is_left_and_not_how_it_took_the_signal(tmp_path, port):
    interrupted = "def end(*_): raise KeyboardInterrupt('terminated')\nsignal.signal(signal.SIGTERM, end)"
    program = f"import signal\n{interrupted}\nprint('OSError: 429 Too Many Requests')\n{FOR_EVER}"
    with started(tmp_path, program, port=port) as process:
        assert process.stdout.readline() == b"OSError: 429 Too Many Requests\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_SECONDS) == 128 + signal.SIGTERM
    assert (tmp_path / "log").read_text() == "OSError: 429 Too Many Requests"


def test_one_that_ends_by_itself_in_its_start_tells_the_signal_too(tmp_path, port):
    with started(tmp_path, "import signal; print('up'); signal.pause()", port=port) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=LIMIT_SECONDS) == 128 + signal.SIGTERM


def test_one_that_listens_finishes_and_ends_as_it_ends(tmp_path, port):
    """Twice told: at the second time its port is closed already, as vLLM's is while it answers its last requests."""
    with started(tmp_path, DRAINS, port=port) as process:
        assert process.stdout.readline() == b"listening\n"
        with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as client:
            assert process.stdout.readline() == b"accepted\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.readline() == b"draining\n"
            process.send_signal(signal.SIGTERM)
            # before it may end: a Python that ends takes signals by their default again
            assert process.stdout.readline() == b"told again\n"
            process.stdin.write(b"finished\n")
            process.stdin.flush()
            assert client.recv(100) == b"answer"
        assert process.wait(timeout=LIMIT_SECONDS) == 0
    assert not (tmp_path / "log").exists()


def timer():
    return signal.getitimer(signal.ITIMER_REAL)


@pytest.fixture
def engine(port, monkeypatch):
    """One in this process, which has all the time there is unless the test says otherwise."""
    monkeypatch.setattr(last_words, "_START_ENDS_SECONDS", 100000)
    before = signal.getsignal(signal.SIGALRM)
    engine = last_words.Engine(port, last_words.LastWords())
    yield engine
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    if engine.process is not None:
        engine.process.kill()
        engine.process.wait()
        engine.process.stdout.close()


def test_nobody_loses_patience_with_one_that_listens(engine, port):
    with socket.create_server(("127.0.0.1", port)):
        engine.hear(signal.SIGTERM, None)
    engine.hear(signal.SIGTERM, None)  # its port is closed by now
    assert (engine.unfinished, timer()) == (None, (0.0, 0.0))


def test_one_that_does_not_listen_has_its_time_once(engine):
    engine.hear(signal.SIGTERM, None)
    assert engine.unfinished == b""
    signal.setitimer(signal.ITIMER_REAL, 0)
    engine.hear(signal.SIGTERM, None)
    assert timer() == (0.0, 0.0)


def test_one_that_begins_to_listen_after_it_was_told_is_told_again_and_may_finish(engine, port):
    program = (
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('heard'))\nprint('up')\n" + FOR_EVER
    )
    process = engine.start([sys.executable, "-u", "-c", program])
    assert process.stdout.readline() == b"up\n"
    engine.hear(signal.SIGTERM, None)
    assert process.stdout.readline() == b"heard\n"
    with socket.create_server(("127.0.0.1", port)):
        engine._lose_patience(signal.SIGALRM, None)
    assert process.stdout.readline() == b"heard\n"
    assert (engine.unfinished, process.poll()) == (None, None)


def test_one_whose_port_cannot_be_looked_at_may_have_requests(engine, monkeypatch):
    def no_route(*_):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(last_words.socket, "create_connection", no_route)
    engine.hear(signal.SIGTERM, None)
    assert (engine.unfinished, timer()) == (None, (0.0, 0.0))


def test_one_that_is_told_before_it_was_started_is_told_when_it_is(engine):
    engine.hear(signal.SIGTERM, None)
    assert engine.start(["sleep", "60"]).wait(timeout=LIMIT_SECONDS) == -signal.SIGTERM


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
