"""Debian's packages, downloaded and unpacked into a folder; nothing is installed."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def unpack(packages: Sequence[str], root: Path) -> None:
    """The files of `packages`, as they would lie below `/`. Refreshes apt's lists only where they do not suffice."""
    with tempfile.TemporaryDirectory() as archives:
        if _download(packages, archives).returncode:
            subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
            done = _download(packages, archives)
            assert done.returncode == 0, f"apt-get download failed: {done.stderr}"
        root.mkdir(parents=True, exist_ok=True)
        for archive in sorted(Path(archives).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)


def _download(packages: Sequence[str], folder: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *packages]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
