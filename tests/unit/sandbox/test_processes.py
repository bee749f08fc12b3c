import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemma_operator.sandbox import processes

_WAITS = "import signal; signal.pause()"


def _spawn(folder: Path, component: str = "etcd") -> int:
    return processes.spawn(
        [sys.executable, "-c", _WAITS],
        component=component,
        folder=folder,
        log_file=folder / "log",
        environment=dict(os.environ),
    )


@pytest.fixture
def folder(tmp_path):
    yield tmp_path
    processes.kill_all(tmp_path)


def test_a_started_process_is_found_by_its_folder(folder):
    pid = _spawn(folder, "kwok")
    _until(lambda: processes.find(folder))
    (found,) = processes.find(folder)
    assert (found.component, found.pid) == ("kwok", pid)
    assert os.getsid(pid) == pid, "it must survive the terminal of who started it"


def test_the_process_of_a_folder_with_a_longer_name_is_a_stranger(tmp_path):
    mine, other = tmp_path / "demo", tmp_path / "demo-2"
    mine.mkdir()
    other.mkdir()
    _spawn(other)
    try:
        _until(lambda: processes.find(other))
        assert processes.find(mine) == []
        assert processes.kill_all(mine) == []
        assert processes.find(other)
    finally:
        processes.kill_all(other)


def test_a_stranger_that_got_a_recorded_pid_is_never_killed(folder):
    """There is no record to go stale: a process without our mark is not ours, whatever its pid."""
    code = "input(); print('alive')"
    pipe = subprocess.PIPE
    stranger = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
    processes._kill(stranger.pid, f"{processes.FOLDER_VARIABLE}={folder}".encode())
    said, _ = stranger.communicate("\n")
    assert said == "alive\n"


def test_kill_all_ends_every_process_and_says_which(folder):
    pids = [_spawn(folder, "etcd"), _spawn(folder, "kwok")]
    _until(lambda: len(processes.find(folder)) == 2)
    assert processes.kill_all(folder) == ["etcd", "kwok"]
    assert processes.find(folder) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_output_is_in_the_log(folder):
    processes.spawn(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr)"],
        component="etcd",
        folder=folder,
        log_file=folder / "log",
        environment=dict(os.environ),
    )
    _until(lambda: (folder / "log").exists() and "err" in (folder / "log").read_text())
    assert "out" in (folder / "log").read_text()
    _until(lambda: not processes.find(folder))


def test_a_child_that_ended_is_known_and_stays_known(folder):
    pid = _spawn(folder)
    assert not processes.has_ended(pid)
    os.kill(pid, signal.SIGKILL)
    _until(lambda: processes.has_ended(pid))
    os.waitpid(pid, 0)
    assert processes.has_ended(pid)


def _until(holds, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        os.sched_yield()
