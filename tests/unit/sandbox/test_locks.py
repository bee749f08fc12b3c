import os
import subprocess
import sys
import threading

import pytest

from gemma_operator.errors import SandboxError
from gemma_operator.sandbox import locks


def test_the_second_waits_and_says_for_whom(tmp_path):
    said = []
    heard = threading.Event()
    entered = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        heard.set()

    def second() -> None:
        with locks.held(tmp_path / "lock", purpose="second", say=say):
            entered.set()

    with locks.held(tmp_path / "lock", purpose="building", say=said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert heard.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert said == [f"waiting for process {os.getpid()}: building"]


def test_a_killed_holder_leaves_no_lock(tmp_path):
    code = (
        "import sys; from pathlib import Path; from gemma_operator.sandbox import locks\n"
        "with locks.held(Path(sys.argv[1]), purpose='p', say=print):\n"
        "    print('held', flush=True); input()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.communicate()
    with locks.held(tmp_path / "lock", purpose="next", say=pytest.fail, limit_seconds=5):
        pass


def test_waiting_has_a_limit(tmp_path):
    with (
        locks.held(tmp_path / "lock", purpose="first", say=print),
        pytest.raises(SandboxError, match=r"second: waited .* for process \d+: first"),
        locks.held(tmp_path / "lock", purpose="second", say=lambda _: None, limit_seconds=0.2),
    ):
        pass


def test_a_lock_can_leave_no_file(tmp_path):
    with locks.held(tmp_path / "lock", purpose="p", say=print, remove_after=True):
        assert (tmp_path / "lock").exists()
    assert list(tmp_path.iterdir()) == []
