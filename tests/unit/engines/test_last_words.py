"""Why an engine ended, kept from what it prints: run as in a pod, with a stand-in that prints and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gemma_operator.engines import last_words
from gemma_operator.engines.last_words import LastWords
from unit.engines.wrapped import SCRIPT, wrapped

RECORDED = Path(__file__).parents[2] / "data/failures/vllm-0.32-kv-cache-log.txt"
KUBELET_KEEPS_BYTES = 2048


def started(folder, program):
    return subprocess.Popen(wrapped(folder, program), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(folder, program):
    """(exit code, what it printed, what it left)"""
    process = started(folder, program)
    printed, _ = process.communicate(timeout=30)
    left = folder / "log"
    return process.returncode, printed.decode(), left.read_text() if left.exists() else None


def kept(*lines):
    words = LastWords()
    for line in lines:
        words.take(line)
    return words.text().decode()


def test_the_cause_is_left_although_a_long_traceback_comes_after_it(tmp_path):
    program = f"print({RECORDED.read_text()!r}); raise SystemExit(1)"
    code, printed, left = run(tmp_path, program)
    assert code == 1
    assert "To serve at least one request" not in printed[-KUBELET_KEEPS_BYTES:]
    assert left.startswith("ValueError: To serve at least one request with the model's max seq len (2000000)")
    assert len(left.encode()) <= last_words.MOST_BYTES
    assert "See root cause above" not in left


def test_what_is_printed_is_passed_on_as_it_is(tmp_path):
    program = "import sys; sys.stdout.buffer.write(b'a\\r\\n\\xff' + b'x' * 300000); sys.stderr.write('end')"
    process = started(tmp_path, program)
    printed, _ = process.communicate(timeout=30)
    assert printed == b"a\r\n\xff" + b"x" * 300000 + b"end"


@pytest.mark.parametrize(("ends", "code"), [("0", 0), ("7", 7), ("'word'", 1)])
def test_the_exit_code_is_the_engines(tmp_path, ends, code):
    assert run(tmp_path, f"raise SystemExit({ends})")[0] == code


def test_an_engine_that_was_killed_ends_as_a_shell_would_say(tmp_path):
    assert run(tmp_path, "import os; os.kill(os.getpid(), 9)")[0] == 128 + signal.SIGKILL


def test_an_engine_that_ends_well_leaves_nothing(tmp_path):
    assert run(tmp_path, "print('ValueError: mended')")[2] is None


def test_nothing_is_left_where_no_error_was_named_so_that_the_kubelet_takes_the_log(tmp_path):
    assert run(tmp_path, "print('bye'); raise SystemExit(3)")[2] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_goes_to_the_engine(tmp_path, number):
    program = (
        f"import signal, sys\nsignal.signal({int(number)}, lambda *_: sys.exit(5))\n"
        "print('waiting')\nsignal.pause()"
    )
    process = started(tmp_path, program)
    with process:
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(number)
        assert process.wait(timeout=30) == 5


def test_processes_that_the_engine_left_do_not_keep_it(tmp_path):
    program = (
        "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True); raise SystemExit(4)"
    )
    process = started(tmp_path, program)
    left = int(process.stdout.readline())
    try:
        assert process.wait(timeout=30) == 4
    finally:
        os.kill(left, signal.SIGKILL)
        process.stdout.close()


def test_a_command_that_is_not_there_says_so(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "log"), "0", "no-such-engine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no-such-engine" in done.stderr


#: As vLLM 0.32 leaves it where all of its processes are killed: the rings between them, what torch, NCCL and
#: multiprocessing share, the region that KV is offloaded to.
SHARED = ("psm_1a2b3c4d", "torch_99_1_0", "nccl-AbCdEf", "sem.mp-x", "vllm_offload_e0.mmap")


@pytest.fixture
def shared(tmp_path):
    """A /dev/shm that outlived an engine."""
    folder = tmp_path / "shm"
    (folder / "a folder").mkdir(parents=True)
    for name in SHARED:
        (folder / name).touch()
    return folder


def test_shared_memory_of_an_earlier_life_is_freed_and_what_it_points_to_stays(tmp_path, shared):
    (tmp_path / "elsewhere").touch()
    (shared / "link").symlink_to(tmp_path / "elsewhere")
    last_words.free(shared)
    assert [left.name for left in shared.iterdir()] == ["a folder"]
    assert (tmp_path / "elsewhere").exists()
    last_words.free(tmp_path / "not there")


@pytest.mark.parametrize(("pid", "left"), [(1, 0), (4711, len(SHARED))])
def test_it_is_freed_before_the_engine_starts_and_only_by_the_first_process_of_a_container(
    tmp_path, shared, pid, left
):
    """On a machine where others run, theirs lies there too."""
    engine = (
        f"import sys, pathlib; print(sum(map(pathlib.Path.is_file, pathlib.Path({str(shared)!r}).iterdir())))"
    )
    program = (
        "import os, pathlib, sys\n"
        "from gemma_operator.engines import last_words\n"
        f"os.getpid = lambda: {pid}\n"
        f"last_words.SHARED_MEMORY = pathlib.Path({str(shared)!r})\n"
        f"last_words.main({str(tmp_path / 'log')!r}, 0, [sys.executable, '-c', {engine!r}])\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert int(printed) == left


def test_a_line_is_read_without_its_colour_and_its_prefix():
    line = "\x1b[0;36m(EngineCore pid=9)\x1b[0;0m ERROR 11-26 06:29:14 [core.py:1510] torch.OutOfMemoryError: CUDA out"
    assert kept(line) == "torch.OutOfMemoryError: CUDA out"


def test_what_a_hub_answered_stands_with_its_error_and_other_lines_do_not():
    assert kept(
        "OSError: You are trying to access a gated repo.",
        "Make sure to have access to it at https://huggingface.co/google/x.",
        "403 Client Error.",
        "Traceback (most recent call last):",
        "bye",
    ) == (
        "OSError: You are trying to access a gated repo.\n"
        "Make sure to have access to it at https://huggingface.co/google/x.\n403 Client Error."
    )
    assert kept("ValueError: a", "(APIServer pid=1) INFO 11-26 06:29:14 [x.py:1] other") == "ValueError: a"


def test_what_a_setting_is_refused_for_stands_with_its_error():
    refused = (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "  Value error, User-specified max_model_len (2000000) is greater than the derived max_model_len",
    )
    assert kept(*refused) == "\n".join(refused)
    assert kept("ValueError: a", "  File x") == "ValueError: a"


def test_the_same_error_is_left_once_and_the_latest_when_there_are_many():
    many = [f"ValueError: {number} {'x' * 800}" for number in range(20)]
    assert kept(*many, many[18], many[18]).startswith("ValueError: 19")
    assert kept(*many, many[18], many[18]).count("ValueError") == 2


def test_what_was_measured_stands_before_a_refusal_and_nowhere_else():
    measured = "INFO 11-26 06:29:14 [gpu_worker.py:9] Available KV cache memory: -0.52 GiB"
    assert kept(measured, "ValueError: No available memory") == (
        "Available KV cache memory: -0.52 GiB\nValueError: No available memory"
    )
    assert kept(measured) == ""
