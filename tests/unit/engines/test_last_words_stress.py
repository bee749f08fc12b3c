"""What an engine prints and starts must never stop it, lose its exit code or mix up those of its own processes."""

from __future__ import annotations

import select
import signal
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemma_operator.engines import last_words
from gemma_operator.engines.last_words import LastWords
from unit.engines.wrapped import wrapped

#: For a machine that is busy with other things.
LIMIT_SECONDS = 300
#: As process 1 of a container: what its descendants leave behind comes to it.
AS_FIRST_PROCESS = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER, kept across exec
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run(folder, program):
    done = subprocess.run(wrapped(folder, program), capture_output=True, timeout=LIMIT_SECONDS, check=False)
    return done.returncode, done.stdout


def test_many_writers_at_once_lose_not_one_line(tmp_path):
    program = """
import subprocess, sys
line = "import sys\\nfor n in range(20000): sys.stdout.write(f'{sys.argv[1]} {n} ' + 'x' * 80 + chr(10))"
writers = [subprocess.Popen([sys.executable, "-c", line, str(number)]) for number in range(4)]
sys.exit(sum(writer.wait() for writer in writers))
"""
    code, printed = run(tmp_path, program)
    lines = printed.splitlines()
    assert (code, len(lines)) == (0, 80000)
    assert sum(line.startswith(b"3 ") for line in lines) > 10000


def test_a_line_that_never_ends_and_bytes_that_are_no_text_are_passed_on(tmp_path):
    whole = bytes(range(256)).replace(b"\n", b"") * 20000
    program = (
        f"import sys; sys.stdout.buffer.write({bytes(range(256))!r}.replace(b'\\n', b'') * 20000);"
        "sys.stdout.buffer.write(b'\\nValueError: end\\n'); sys.stdout.flush(); sys.exit(2)"
    )
    assert run(tmp_path, program) == (2, whole + b"\nValueError: end\n")
    assert (tmp_path / "log").read_text() == "ValueError: end"


def test_an_engine_whose_log_nobody_reads_any_more_goes_on_to_its_own_end(tmp_path):
    program = """
import sys
for n in range(20000): print(n, "x" * 80)
print("ValueError: after all of it")
sys.exit(7)
"""
    with subprocess.Popen(wrapped(tmp_path, program), stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=LIMIT_SECONDS) == 7
    assert (tmp_path / "log").read_text() == "ValueError: after all of it"


def test_an_engine_without_any_standard_stream_goes_on_to_its_own_end(tmp_path):
    closed = "import os, sys\nfor n in range(3): os.close(n)\nos.execv(sys.executable, {})"
    program = f"import pathlib, sys; pathlib.Path({str(tmp_path / 'reached')!r}).touch(); sys.exit(7)"
    launcher = closed.format(wrapped(tmp_path, program))
    done = subprocess.run([sys.executable, "-c", launcher], timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 7
    assert (tmp_path / "reached").exists()


def test_of_signals_in_quick_succession_none_is_lost(tmp_path):
    """Each comes as soon as the one before was passed on: just when the first process goes back to its waiting."""
    program = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # so that the stand-in itself loses none
while True:
    os.write(1, b".")
    signal.sigwait({signal.SIGUSR1})
"""
    with subprocess.Popen(wrapped(tmp_path, program), stdout=subprocess.PIPE) as process:
        for number in range(1000):
            heard, _, _ = select.select([process.stdout], [], [], LIMIT_SECONDS / 10)
            if not heard:
                process.terminate()  # the lost one is heard with it
            assert heard, f"signal {number} was lost"
            assert process.stdout.read1(1) == b"."
            process.send_signal(signal.SIGUSR1)
        process.terminate()


def test_children_of_children_keep_their_exit_codes_and_leave_no_dead(tmp_path):
    """The first process waits for whoever is left to it; it must not take what the engine itself waits for."""
    program = """
import os, subprocess, sys, time
from pathlib import Path
orphans = "import subprocess, sys; [subprocess.Popen(['true']) for _ in range(20)]; sys.exit(3)"
codes = [subprocess.run([sys.executable, "-c", orphans]).returncode for _ in range(10)]
def dead():
    children = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
    return [pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]
deadline = time.monotonic() + 60
def any_dead():
    try: return dead()
    except FileNotFoundError: return True
while any_dead() and time.monotonic() < deadline: os.sched_yield()
print(codes, any_dead())
sys.exit(5)
"""
    first = [sys.executable, "-c", AS_FIRST_PROCESS, *wrapped(tmp_path, program)[1:]]
    done = subprocess.run(first, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (5, f"{[3] * 10} []\n")


_PREFIX = "(EngineCore pid=9) ERROR 11-26 06:29:14 [a.py:1] "
_PIECES = st.sampled_from(["ValueError: ", "Available KV cache memory: ", _PREFIX, "\x1b[0m", "  "])
_LINES = st.lists(st.lists(_PIECES | st.text(max_size=400), max_size=6).map("".join), max_size=30)


@given(_LINES)
@example([f"Available KV cache memory: {'x' * 5000}", "ValueError: a"])
def test_whatever_is_printed_what_is_left_fits(lines):
    words = LastWords()
    for line in lines:
        words.take(line)
    assert len(words.text()) <= last_words.MOST_BYTES


@pytest.mark.parametrize("letter", ["a", "€", "𝄞"])
def test_an_error_is_cut_between_its_letters_and_never_dropped_for_its_length(letter):
    words = LastWords()
    words.take(f"ValueError: {letter * 3000}")
    left = words.text().decode()
    assert left == f"ValueError: {letter * (len(left) - len('ValueError: '))}"
    assert last_words.MOST_BYTES_OF_ONE - 4 < len(left.encode()) <= last_words.MOST_BYTES_OF_ONE
