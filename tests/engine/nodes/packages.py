"""What Debian has of a node, unpacked into the cache folder and installed nowhere."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from engine.nodes import debian

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
    build = partial(_unpack, say=say)
    return once(f"debian-node-{key}", build, purpose="unpacking Debian's packages", say=say)


def environment(root: Path) -> dict[str, str]:
    """With which the unpacked programs find each other and their libraries."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    folders = [root / "usr/bin", root / "usr/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    return {
        "PATH": ":".join(str(folder) for folder in folders),
        "LD_LIBRARY_PATH": str(libraries),
        "XTABLES_LIBDIR": str(libraries / "xtables"),
    }


def _unpack(root: Path, *, say: Say) -> None:
    say(f"downloading {len(_PACKAGES)} Debian packages")
    debian.unpack(_PACKAGES, root)
    for name in _TABLES:
        link = root / "usr/sbin" / name
        link.unlink(missing_ok=True)
        link.symlink_to("xtables-nft-multi")
