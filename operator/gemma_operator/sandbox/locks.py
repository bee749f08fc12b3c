"""File locks between processes: released by the kernel when their holder dies, so none is ever stale."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gemma_operator.errors import SandboxError


@contextlib.contextmanager
def held(
    path: Path,
    *,
    purpose: str,
    say: Callable[[str], None],
    limit_seconds: float = 1800,
    remove_after: bool = False,
) -> Iterator[None]:
    """Hold the lock at `path`; while somebody else does, say for whom we wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquire(path, purpose=purpose, say=say, limit_seconds=limit_seconds)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}: {purpose}".encode(), 0)
        yield
    finally:
        # Unlinked while still held: who waits notices that the file is another one and starts again.
        if remove_after:
            path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, *, purpose: str, say: Callable[[str], None], limit_seconds: float) -> int:
    deadline = time.monotonic() + limit_seconds
    said_at = 0.0
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
            os.close(handle)
            if time.monotonic() > deadline:
                raise SandboxError(f"{purpose}: waited {limit_seconds:.0f} s for process {holder}") from None
            if time.monotonic() - said_at > 15:
                said_at = time.monotonic()
                say(f"waiting for process {holder}")
            time.sleep(0.1)
            continue
        if _still_at(path, handle):
            return handle
        os.close(handle)


def _still_at(path: Path, handle: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False
