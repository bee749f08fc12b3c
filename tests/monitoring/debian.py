"""Debian's own Prometheus, unpacked beside the user's cache and not installed.

A distribution's package is signed, mirrored everywhere and small; nothing is built. Debian only: elsewhere
a Prometheus in PATH is used, and where there is none the tests say so and are skipped.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "prometheus"


class NotAvailableError(Exception):
    """Why there is no Prometheus on this machine."""


@dataclass(frozen=True)
class Tools:
    """The two binaries of one version."""

    prometheus: Path
    promtool: Path


def tools() -> Tools:
    """From PATH, else from the cache, else fetched once; raises NotAvailableError with the reason."""
    installed = [shutil.which(name) for name in ("prometheus", "promtool")]
    if all(installed):
        return Tools(*map(Path, installed))
    with _locked(_cache()) as folder:
        unpacked = sorted(folder.glob("*/usr/bin/promtool")) or [_unpack(folder)]
    return Tools(unpacked[-1].with_name("prometheus"), unpacked[-1])


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gemma-operator" / PACKAGE


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Two test runs at once fetch it once; the lock dies with its process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def _unpack(folder: Path) -> Path:
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise NotAvailableError(f"no Prometheus in PATH, and this is no Debian: {command} is missing")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = _download(Path(scratch))
        version = _run("dpkg-deb", "-f", str(archive), "Version", "Architecture").stdout
        fields = dict(line.split(": ", 1) for line in version.splitlines())
        _run("dpkg-deb", "-x", str(archive), f"{scratch}/root")
        # a finished folder appears at once or not at all, whenever this process is killed
        home = folder / f"{fields['Version']}-{fields['Architecture']}".replace("/", "_")
        Path(f"{scratch}/root").rename(home)
    return home / "usr" / "bin" / "promtool"


def _download(folder: Path) -> Path:
    """With the system's package lists, else with lists of our own, which needs no root."""
    errors = []
    for options in ((), _own_lists(folder)):
        try:
            if options:
                _run("apt-get", *options, "update", "-qq")
            _run("apt-get", *options, "download", "-qq", PACKAGE, cwd=folder)
        except subprocess.CalledProcessError as error:
            errors.append(" ".join(error.stderr.split())[-200:])
            continue
        found = list(folder.glob(f"{PACKAGE}_*.deb"))
        if found:
            return found[0]
    raise NotAvailableError(f"apt-get cannot download {PACKAGE}: {'; '.join(errors)}")


def _own_lists(folder: Path) -> tuple[str, ...]:
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return (
        "-o",
        f"Dir::State::lists={folder}/lists",
        "-o",
        f"Dir::Cache={folder}",
        "-o",
        f"Dir::Cache::archives={folder}/archives",
        "-o",
        "APT::Sandbox::User=",
    )


def _run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300)
