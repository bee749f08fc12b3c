"""The processes of a sandbox: started so that they outlive us, found again without a record that could lie.

Every process carries the sandbox's folder in its environment, and the process table is the record. A pid file
would be wrong after a crash between start and write, and after its pid went to a stranger; the environment of
a process cannot be either. Signals go through a pidfd whose environment was checked after it was opened, so
not even a pid that is reused in between is hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemma_operator.errors import SandboxError

FOLDER_VARIABLE = "GEMMA_OPERATOR_SANDBOX"
COMPONENT_VARIABLE = "GEMMA_OPERATOR_SANDBOX_COMPONENT"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Running:
    """A living process of a sandbox. `started_ticks` is its start in clock ticks since boot."""

    component: str
    pid: int
    started_ticks: int


def spawn(
    argv: Sequence[str],
    *,
    component: str,
    folder: Path,
    log_file: Path,
    environment: Mapping[str, str],
) -> int:
    """Start a process in a session of its own, its output in `log_file`; returns its pid."""
    marked = {**environment, FOLDER_VARIABLE: str(folder), COMPONENT_VARIABLE: component}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        argv[0],
        list(argv),
        marked,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_file), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def has_ended(child: int) -> bool:
    """Whether a process that we spawned ourselves is over.

    `find` cannot tell: for a moment after its start a process has no environment to be known by.
    """
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def find(folder: Path) -> list[Running]:
    """Every living process of the sandbox in `folder`."""
    marker = f"{FOLDER_VARIABLE}={folder}".encode()
    return [found for pid in _pids() if (found := _look(pid, marker)) is not None]


def kill_all(folder: Path, *, limit_seconds: float = 15) -> list[str]:
    """End every process of the sandbox; returns which components lived.

    With SIGKILL at once: all that they could still write is deleted next, and a graceful API server takes
    longer to go than to start.
    """
    killed: set[tuple[str, int]] = set()
    deadline = time.monotonic() + limit_seconds
    while living := find(folder):
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.component} ({process.pid})" for process in living)
            raise SandboxError(f"still alive {limit_seconds:.0f} s after SIGKILL: {names}")
        for process in living:
            killed.add((process.component, process.pid))
            _kill(process.pid, f"{FOLDER_VARIABLE}={folder}".encode())
        time.sleep(0.02)
    for _, pid in killed:
        # Those that this very process started stay zombies until they are waited for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return sorted({component for component, _ in killed})


def _pids() -> Iterator[int]:
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            yield int(entry.name)


def _look(pid: int, marker: bytes) -> Running | None:
    variables = _environment(pid)
    if marker not in variables:
        return None
    prefix = f"{COMPONENT_VARIABLE}=".encode()
    component = next((v.removeprefix(prefix).decode() for v in variables if v.startswith(prefix)), "unknown")
    with contextlib.suppress(OSError, IndexError, ValueError):
        # The command name before the last ")" may hold spaces; the start time is field 22.
        stat = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        if stat[0] not in {"Z", "X"}:
            return Running(component, pid, int(stat[19]))
    return None


def _environment(pid: int) -> list[bytes]:
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return []


def _kill(pid: int, marker: bytes) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if marker in _environment(pid):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
