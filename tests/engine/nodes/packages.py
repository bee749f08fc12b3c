"""What Debian has of a node, unpacked into the cache folder and installed nowhere."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from gemma_operator.sandbox import locks
from gemma_operator.sandbox.paths import cache_root

_PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "conntrack",
    "ipset",
    "libipset13",
    "iptables",
    "libxtables12",
    "libnftnl11",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libip4tc2",
    "libip6tc2",
    "libseccomp2",
)
#: Links that the package's install step would make.
_TABLES = (
    "iptables",
    "iptables-save",
    "iptables-restore",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
)

Say = Callable[[str], None]


def why_not() -> str:
    """Why no node can be made on this machine; empty where one can."""
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if "ID=debian\n" not in release:
        return "the packages of a node are taken from Debian 12, and this is another system"
    if os.geteuid() != 0:
        return "namespaces, mounts and containers of a node need root"
    return ""


def unpacked(*, say: Say) -> Path:
    """The folder that holds the packages' files, as they would lie below `/`."""
    key = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:12]
    folder = cache_root() / f"debian-node-{key}"
    with locks.held(folder.with_name(f".{folder.name}.lock"), purpose="unpacking Debian's packages", say=say):
        if not folder.is_dir():
            _unpack(folder, say=say)
    return folder


def environment(root: Path) -> dict[str, str]:
    """With which the unpacked programs find each other and their libraries."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    folders = [root / "usr/bin", root / "usr/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        "PATH": ":".join(str(folder) for folder in folders),
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
    }


def _unpack(folder: Path, *, say: Say) -> None:
    work = folder.with_name(f"{folder.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    archives, root = work / "archives", work / "root"
    archives.mkdir(parents=True)
    root.mkdir()
    say(f"downloading {len(_PACKAGES)} Debian packages")
    if _download(archives).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True, capture_output=True)
        done = _download(archives)
        assert done.returncode == 0, f"apt-get download failed: {done.stderr}"
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
    for name in _TABLES:
        link = root / "usr/sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
    root.rename(folder)
    shutil.rmtree(work)


def _download(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *_PACKAGES]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
