"""Runs the engine, and leaves to the kubelet why it ended: `python3 -c <this file> FILE PORT COMMAND ARGUMENTS`.

Kubernetes keeps the last 2048 bytes of a failed container's log (MaxContainerTerminationMessageLogLength of
pkg/kubelet/container/runtime.go, 1.37). vLLM 0.32 says in its engine process why it cannot start; then its server
process prints 3 KB of traceback that end in "See root cause above" (vllm/v1/engine/utils.py), so the cause is never
among them. Here every line goes by; those that name an error are kept and written to FILE, which the kubelet reads
instead of the log. Run inside the engine's own container, so it may import nothing but the standard library.

What the engine prints is passed on as it is, signals go to the engine alone, and its exit code is ours. Only an engine
that is told to go before it listens on PORT has nothing to finish, so it may not take its time: vLLM 0.32 waits then
until its start-up deadline, for `zmq_socket_ctx` (vllm/utils/network_utils.py) swallows the KeyboardInterrupt that
SIGTERM becomes (entrypoints/launchers/api_server/entry.py), and its engine process takes no signal before it is built.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import BinaryIO

#: The pod's own, which outlives a container: what a killed engine leaves there (0.32: rings of 160 and 240 MB between
#: processes of tensor parallelism, vllm/distributed/device_communicators/shm_broadcast.py) counts against the memory of
#: the next. multiprocessing's resource tracker frees it, unless it is killed too, as it is where memory runs out.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a mount of the pod's own
#: Below what the kubelet keeps of a log, and far below the 4096 that it keeps of a file.
MOST_BYTES = 1900
MOST_BYTES_OF_ONE = 900
MOST_ERRORS = 8
#: Lines after an error that belong to it: what a hub answered stands there.
MOST_LINES_AFTER = 3
#: Time for the last lines of processes that outlive the engine's first one.
_LAST_LINES_SECONDS = 2.0
#: What an engine that was told to go in its start has for ending by itself.
_START_ENDS_SECONDS = 3.0
_CONNECT_SECONDS = 1.0
_CHUNK_BYTES = 65536
_STANDARD_OUTPUT = 1
_KILLED = 128
_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: "(EngineCore pid=99) ERROR 11-26 06:29:14 [core.py:1510] ", as vLLM 0.20 to 0.32 begin a line.
_PREFIX = re.compile(r"^(?:\([^)]*\) ?)?(?:[A-Z]+ [0-9][0-9 :.-]*\[[^\]]*\] )?")
_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|NotFound|Expired): .")
#: pydantic 2 tells below its own name, indented as a traceback is, what it refuses: vLLM's settings are its models.
_TOLD_BELOW = re.compile(r"ValidationError: \d+ validation errors? for \w+$")
#: Measured before a refusal that gives no figure (vllm/v1/worker/gpu_worker.py, 0.20 to 0.32).
_FIGURE = re.compile(r"^Available KV cache memory: ")
_POINTS_ELSEWHERE = "See root cause above"
_TRACEBACK = ("  ", "Traceback ", "Process ", "During handling", "The above exception")


class LastWords:
    """The errors that went by, each once, the latest last; and what was measured before them."""

    def __init__(self) -> None:
        #: First line of an error → all of it.
        self._errors: dict[str, str] = {}
        self._figure = ""
        self._open = ""
        self._open_prefix = ""
        self._room = 0

    def take(self, line: str) -> None:
        """One line of what the engine prints."""
        text = _COLOUR.sub("", line.rstrip())
        prefix = _PREFIX.match(text)
        assert prefix is not None
        words = text[prefix.end() :]
        if _FIGURE.match(words):
            self._figure = _cut(words)
        elif _ERROR.match(words) and _POINTS_ELSEWHERE not in words:
            self._begin(words, prefix[0])
        elif words:
            self._go_on(words, prefix[0])

    def _begin(self, words: str, prefix: str) -> None:
        self._open, self._open_prefix, self._room = words, prefix, MOST_LINES_AFTER
        self._errors.pop(words, None)
        self._errors[words] = _cut(words)
        if len(self._errors) > MOST_ERRORS:
            del self._errors[next(iter(self._errors))]

    def _go_on(self, words: str, prefix: str) -> None:
        """A line without an error: the rest of one that was printed over several, or something else."""
        is_other = words.startswith(_TRACEBACK) and not _TOLD_BELOW.search(self._open)
        if not self._room or prefix != self._open_prefix or is_other:
            self._room = 0
            return
        self._room -= 1
        self._errors[self._open] = _cut(f"{self._errors[self._open]}\n{words}")

    def text(self) -> bytes:
        """As many of the latest as there is room for, in the order in which they went by."""
        kept: list[str] = []
        room = MOST_BYTES - len(self._figure.encode()) - 1
        for error in reversed(list(self._errors.values())):  # at once: the reader may be writing
            room -= len(error.encode()) + 1
            if room >= 0:
                kept.insert(0, error)
        return "\n".join(([self._figure] if self._figure and kept else []) + kept).encode()


def _cut(text: str) -> str:
    """To what one error may take, in bytes, and never within a letter."""
    return text.encode()[:MOST_BYTES_OF_ONE].decode(errors="ignore")


class Engine:
    """The process, and what becomes of it when it is told to go."""

    def __init__(self, port: int, words: LastWords) -> None:
        self._port = port
        self._words = words
        self._told = False
        self.process: subprocess.Popen[bytes] | None = None
        #: What it had said when it was told to go without ever having listened.
        self.unfinished: bytes | None = None

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        """In a session of its own, so that all of its processes can be ended and we are not among them."""
        self.process = subprocess.Popen(  # noqa: S603 - what the container is for
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        if self._told:  # while it was being started
            self._send(signal.SIGTERM)
        return self.process

    def hear(self, number: int, _: FrameType | None) -> None:
        """A signal of the kubelet's."""
        if number == signal.SIGTERM and not self._told:
            self._told = True
            if not self._listens():
                self.unfinished = self._words.text()
                signal.signal(signal.SIGALRM, self._lose_patience)
                signal.setitimer(signal.ITIMER_REAL, _START_ENDS_SECONDS)
        self._send(number)

    def _lose_patience(self, _: int, __: FrameType | None) -> None:
        """Nobody can have asked it anything, unless it began to listen after all: then it may finish."""
        if self._listens():
            self.unfinished = None
            self._send(signal.SIGTERM)
        else:
            self._send(signal.SIGKILL, to=os.killpg)

    def _listens(self) -> bool:
        """Whether somebody may wait for an answer; only a refusal says no."""
        try:
            socket.create_connection(("127.0.0.1", self._port), _CONNECT_SECONDS).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True

    def _send(self, number: int, *, to: Callable[[int, int], None] = os.kill) -> None:
        # not by Popen's: that one may collect the exit code which `_end_of` waits for
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                to(self.process.pid, number)


def main(file: str, port: int, command: list[str]) -> int:
    """Run it to its end."""
    if os.getpid() == 1:  # of a container; elsewhere it may be in use
        free(SHARED_MEMORY)
    words = LastWords()
    engine = Engine(port, words)
    for number in _PASSED_ON:  # before it starts: process 1 never hears of a signal that it does not handle
        signal.signal(number, engine.hear)
    process = engine.start(command)
    woken = _woken_by_signals()
    assert process.stdout is not None
    reading = threading.Thread(target=_pass_on, args=(process.stdout, words), daemon=True)
    reading.start()
    code = _end_of(process.pid, woken)
    reading.join(_LAST_LINES_SECONDS)
    text = words.text()
    if engine.unfinished is not None:
        code = _KILLED + signal.SIGTERM
        text = engine.unfinished or f"Told to end (SIGTERM) before it listened on port {port}.".encode()
    if code and text:
        with contextlib.suppress(OSError):
            Path(file).write_bytes(text)
    return code


def free(folder: Path) -> None:
    """Take away what lies there: nobody runs yet who could use it."""
    with contextlib.suppress(OSError):
        for each in list(folder.iterdir()):
            with contextlib.suppress(OSError):  # a folder
                each.unlink()


def _woken_by_signals() -> int:
    """A file in which something lies to be read after each signal.

    Python hears of a signal between two of its own steps, so one that comes just before it waits for a process would
    be heard when that ends: the second of two in quick succession was lost once in a hundred times.
    """
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    return woken


def _end_of(pid: int, woken: int) -> int:
    """Exit code of the engine; as the first process of a container we also collect what others left."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code
        if not ended:
            os.read(woken, _CHUNK_BYTES)


def _pass_on(source: BinaryIO, words: LastWords) -> None:
    """Bytes as they come; words by line, and before, so that what is seen outside is known here."""
    rest = b""
    while chunk := os.read(source.fileno(), _CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[-_CHUNK_BYTES:]
        for line in whole:
            words.take(line.decode("utf-8", "replace"))
        _write(chunk)
    words.take(rest.decode("utf-8", "replace"))


def _write(chunk: bytes) -> None:
    """To the container's log; where that is gone the engine must not notice, a full pipe would stop it."""
    left = memoryview(chunk)
    with contextlib.suppress(OSError):
        while left:
            left = left[os.write(_STANDARD_OUTPUT, left) :]


if __name__ == "__main__":
    status = main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
    os._exit(status)  # what still holds the engine's output ends with the container
