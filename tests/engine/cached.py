"""What takes long to make is made once for all checkouts: beside its place first, so that half of it is nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gemma_operator.sandbox import locks
from gemma_operator.sandbox.paths import cache_root

Say = Callable[[str], None]


def once(name: str, build: Callable[[Path], None], *, purpose: str, say: Say) -> Path:
    """The cache folder's `name`; where it is not there, what `build` makes of an empty folder."""
    ready = cache_root() / name
    with locks.held(ready.with_name(f".{name}.lock"), purpose=purpose, say=say):
        if not ready.is_dir():
            work = ready.with_name(f"{name}.{os.getpid()}")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            try:
                build(work)
                work.rename(ready)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return ready
