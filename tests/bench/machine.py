"""Names the machine, since a figure without one says nothing, and prints figures past pytest's capture."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def name() -> str:
    """Processor, cores that this process may use, and Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model or platform.machine()}, {cores} cores, Python {platform.python_version()}"


def say(text: str) -> None:
    """For whoever runs it with -s."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def milliseconds(work: Callable[[], object], *, rounds: int) -> tuple[float, float]:
    """Median and best of so many rounds, after one that is not counted."""
    work()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken), min(taken)


def figure(what: str, work: Callable[[], object], *, rounds: int, aim: str) -> None:
    """Prints one line; nothing is judged."""
    median, best = milliseconds(work, rounds=rounds)
    say(f"{what}: median {median:.2f} ms, best {best:.2f} ms of {rounds} (aim: {aim})")
