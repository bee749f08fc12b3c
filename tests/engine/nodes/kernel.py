"""What of the kernel outlives namespaces: cgroup folders, and settings that a kubelet changes for everybody."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
#: All pods of a node together weigh as much as four sessions of this machine: a node is a machine, not one of them.
_OF_A_MACHINE = {"cpu.shares": "4096", "cpu.weight": "400"}
_CHANGED = ("kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")


@dataclass(slots=True)
class Saved:
    """The settings as they were."""

    values: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        """Reads them."""
        self.values = {name: (Path("/proc/sys") / name).read_text() for name in _CHANGED}

    def restore(self) -> None:
        """Puts back what differs."""
        for name, value in self.values.items():
            if (Path("/proc/sys") / name).read_text() != value:
                (Path("/proc/sys") / name).write_text(value)


def make_cgroups(name: str) -> None:
    """The root of a node's cgroups, in every controller of version 1, or in the one tree of version 2."""
    remove_cgroups(name)
    for controller in _controllers():
        (controller / name).mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            if controller.name == "cpuset" and (controller / setting).exists():
                (controller / name / setting).write_text((controller / setting).read_text())
        for setting, weight in _OF_A_MACHINE.items():
            if (controller / name / setting).exists():
                (controller / name / setting).write_text(weight)


def remove_cgroups(name: str, *, limit_seconds: float = 20) -> None:
    """From the deepest folder up; waits for the last of a killed node's processes, which still hold theirs.

    A dead one that stays costs the next kubelet seconds.
    """
    deadline = time.monotonic() + limit_seconds
    while left := [controller / name for controller in _controllers() if (controller / name).exists()]:
        for root in left:
            for folder, _, _ in os.walk(root, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        assert time.monotonic() < deadline, f"still held after {limit_seconds:.0f} s: {left[0]}"
        time.sleep(0.02)


def _controllers() -> list[Path]:
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [entry for entry in _CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink()]
