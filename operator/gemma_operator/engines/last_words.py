"""Runs the engine, and leaves to the kubelet why it ended: `python3 -c <this file> FILE COMMAND ARGUMENTS`.

Kubernetes keeps the last 2048 bytes of a failed container's log (MaxContainerTerminationMessageLogLength of
pkg/kubelet/container/runtime.go, 1.37). vLLM 0.32 says in its engine process why it cannot start; then its server
process prints 3 KB of traceback that end in "See root cause above" (vllm/v1/engine/utils.py), so the cause is never
among them. Here every line goes by; those that name an error are kept and written to FILE, which the kubelet reads
instead of the log. Run inside the engine's own container, so it may import nothing but the standard library.

What the engine prints is passed on as it is, signals go to the engine alone, and its exit code is ours.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: Below what the kubelet keeps of a log, and far below the 4096 that it keeps of a file.
MOST_BYTES = 1900
MOST_BYTES_OF_ONE = 900
MOST_ERRORS = 8
#: Lines after an error that belong to it: what a hub answered stands there.
MOST_LINES_AFTER = 3
#: Time for the last lines of processes that outlive the engine's first one.
_LAST_LINES_SECONDS = 2.0
_CHUNK_BYTES = 65536
_KILLED = 128

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: "(EngineCore pid=99) ERROR 11-26 06:29:14 [core.py:1510] ", as vLLM 0.20 to 0.32 begin a line.
_PREFIX = re.compile(r"^(?:\([^)]*\) ?)?(?:[A-Z]+ [0-9][0-9 :.-]*\[[^\]]*\] )?")
_ERROR = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt|NotFound|Expired): .")
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
            self._figure = words
        elif _ERROR.match(words) and _POINTS_ELSEWHERE not in words:
            self._begin(words, prefix[0])
        elif words:
            self._go_on(words, prefix[0])

    def _begin(self, words: str, prefix: str) -> None:
        self._open, self._open_prefix, self._room = words, prefix, MOST_LINES_AFTER
        self._errors.pop(words, None)
        self._errors[words] = words[:MOST_BYTES_OF_ONE]
        if len(self._errors) > MOST_ERRORS:
            del self._errors[next(iter(self._errors))]

    def _go_on(self, words: str, prefix: str) -> None:
        """A line without an error: the rest of one that was printed over several, or something else."""
        if not self._room or prefix != self._open_prefix or words.startswith(_TRACEBACK):
            self._room = 0
            return
        self._room -= 1
        self._errors[self._open] = f"{self._errors[self._open]}\n{words}"[:MOST_BYTES_OF_ONE]

    def text(self) -> bytes:
        """As many of the latest as there is room for, in the order in which they went by."""
        kept: list[str] = []
        room = MOST_BYTES
        for error in reversed(self._errors.values()):
            room -= len(error.encode()) + 1
            if room >= 0:
                kept.insert(0, error)
        return "\n".join(([self._figure] if self._figure and kept else []) + kept).encode()


def main(file: str, command: list[str]) -> int:
    """Run it to its end."""
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # noqa: S603 - what the container is for
    for number in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        signal.signal(number, lambda received, _: engine.send_signal(received))
    words = LastWords()
    assert engine.stdout is not None
    reading = threading.Thread(target=_pass_on, args=(engine.stdout, words), daemon=True)
    reading.start()
    code = _end_of(engine.pid)
    reading.join(_LAST_LINES_SECONDS)
    if code and (text := words.text()):
        with contextlib.suppress(OSError):
            Path(file).write_bytes(text)
    return code


def _end_of(pid: int) -> int:
    """Exit code of the engine; as the first process of a container we also collect what others left."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _KILLED - code


def _pass_on(source: BinaryIO, words: LastWords) -> None:
    """Bytes at once, words by line."""
    for line in _lines(source):
        words.take(line.decode("utf-8", "replace"))


def _lines(source: BinaryIO) -> Iterator[bytes]:
    rest = b""
    while chunk := os.read(source.fileno(), _CHUNK_BYTES):
        with contextlib.suppress(OSError):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[-_CHUNK_BYTES:]
        yield from whole
    yield rest


if __name__ == "__main__":
    status = main(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    os._exit(status)  # what still holds the engine's output ends with the container
