"""The images that every node has: the one that holds a pod's namespaces, and a Python to ask and answer with."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from engine.nodes import debian
from engine.nodes.oci import Start, write_image

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
PYTHON_PACKAGES = (
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


def built(*, say: Say) -> Path:
    """A folder with one tar an image."""
    key = hashlib.sha256(Path(__file__).read_bytes() + _STAND_IN_PROGRAM.read_bytes()).hexdigest()[:12]
    return once(f"node-images-{key}", partial(_write, say=say), purpose="writing images", say=say)


def _write(folder: Path, *, say: Say) -> None:
    say("writing the images of pause and Python")
    with tempfile.TemporaryDirectory() as work:
        _pause(Path(work) / "pause", folder)
        _python(Path(work) / "python", folder)


def _pause(root: Path, folder: Path) -> None:
    root.mkdir()
    compiler = ["cc", "-static", "-Os", "-x", "c", "-o", str(root / "pause"), "-"]
    subprocess.run(compiler, input=_PAUSE_SOURCE, text=True, check=True)
    write_image(folder / "pause.tar", name=PAUSE, layer_folder=root, start=Start(["/pause"], user="65535"))


def _python(root: Path, folder: Path) -> None:
    debian.unpack(PYTHON_PACKAGES, root)
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
        folder / "python.tar",
        name=PYTHON,
        layer_folder=root,
        start=Start(["/usr/bin/python3"], _ENVIRONMENT, "2000"),
    )
    program = root / "usr/bin/vllm"
    shutil.copy(_STAND_IN_PROGRAM, program)
    program.chmod(0o755)
    start = Start(["/usr/bin/vllm"], _ENVIRONMENT, "2000")
    write_image(folder / "stand-in.tar", name=STAND_IN, layer_folder=root, start=start)
