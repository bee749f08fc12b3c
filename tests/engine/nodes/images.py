"""The images that every node has: the one that holds a pod's namespaces, and a Python to ask and answer with."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from engine.nodes.oci import Start, write_image
from gemma_operator.sandbox import locks
from gemma_operator.sandbox.paths import cache_root

PAUSE, PYTHON = "localhost/pause:1", "localhost/python:1"
#: The Python image with a program `vllm` that stands in for the engine.
STAND_IN = "localhost/stand-in:0.32"
_STAND_IN_PROGRAM = Path(__file__).parents[1] / "standin" / "vllm"
_PAUSE_SOURCE = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
static void reap(int number) { (void)number; while (waitpid(-1, NULL, WNOHANG) > 0) {} }
int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
"""
#: Python 3.11 of Debian 12 and the libraries that its standard library is linked to.
_PYTHON_PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libssl3",
    "libbz2-1.0",
    "liblzma5",
    "libffi8",
    "libcrypt1",
    "libuuid1",
    "libsqlite3-0",
)

_ENVIRONMENT = {"PATH": "/usr/bin:/bin"}

Say = Callable[[str], None]


def built(*, say: Say) -> Path:
    """A folder with one tar an image."""
    key = hashlib.sha256(Path(__file__).read_bytes() + _STAND_IN_PROGRAM.read_bytes())
    folder = cache_root() / f"node-images-{key.hexdigest()[:12]}"
    with locks.held(folder.with_name(f".{folder.name}.lock"), purpose="writing images", say=say):
        if not folder.is_dir():
            work = folder.with_name(f"{folder.name}.{os.getpid()}")
            shutil.rmtree(work, ignore_errors=True)
            (work / "out").mkdir(parents=True)
            say("writing the images of pause and Python")
            _pause(work)
            _python(work)
            (work / "out").rename(folder)
            shutil.rmtree(work)
    return folder


def _pause(work: Path) -> None:
    root = work / "pause"
    root.mkdir()
    compiler = ["cc", "-static", "-Os", "-x", "c", "-o", str(root / "pause"), "-"]
    subprocess.run(compiler, input=_PAUSE_SOURCE, text=True, check=True)
    write_image(
        work / "out" / "pause.tar", name=PAUSE, layer_folder=root, start=Start(["/pause"], user="65535")
    )


def _python(work: Path) -> None:
    root, archives = work / "python", work / "archives"
    archives.mkdir()
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *_PYTHON_PACKAGES]
    subprocess.run(command, cwd=archives, check=True, capture_output=True)
    root.mkdir()
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(archive), str(root)], check=True)
    for unneeded in ("usr/share/doc", "usr/share/man", "usr/lib/python3.11/test"):
        shutil.rmtree(root / unneeded, ignore_errors=True)
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/usr/sbin/nologin\nserver:x:2000:0:server:/tmp:/usr/sbin/nologin\n"
    )
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)
    write_image(
        work / "out" / "python.tar",
        name=PYTHON,
        layer_folder=root,
        start=Start(["/usr/bin/python3"], _ENVIRONMENT, "2000"),
    )
    program = root / "usr/bin/vllm"
    shutil.copy(_STAND_IN_PROGRAM, program)
    program.chmod(0o755)
    start = Start(["/usr/bin/vllm"], _ENVIRONMENT, "2000")
    write_image(work / "out" / "stand-in.tar", name=STAND_IN, layer_folder=root, start=start)
