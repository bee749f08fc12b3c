"""Waiting for something to be so; the only place where tests of this folder let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.05
#: Of a wait for what a quiet machine of two cores does in two or three seconds; nobody waits for its end.
LIMIT_SECONDS = 60


def until(look: Callable[[], T], *, what: str, within_seconds: float = LIMIT_SECONDS) -> T:
    """The first true thing that `look` gives."""
    deadline = time.monotonic() + within_seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within_seconds} s: {what}"
        time.sleep(_POLL_SECONDS)
    return seen


def throughout(look: Callable[[], bool], *, what: str, seconds: float) -> None:
    """`look` stays true for that long: the one wait that cannot end early."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look(), what
        time.sleep(_POLL_SECONDS)
