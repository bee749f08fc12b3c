"""What runs on a node beside Debian's packages: built once from pinned Go modules, like the sandbox's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gemma_operator.sandbox import golang, locks
from gemma_operator.sandbox.build import KUBERNETES_VERSION
from gemma_operator.sandbox.paths import cache_root

_MODULES = Path(__file__).with_name("modules")
_STAMP = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    module: str
    package: str
    linker_flags: str = "-s -w"


_PROGRAMS = (
    _Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", _STAMP),
    _Program("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", _STAMP),
    _Program("kube-router", "kube-router", "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"),
    _Program("coredns", "coredns", "."),
)


def built(*, say: Say) -> Path:
    """A folder with every program."""
    folder = cache_root() / f"node-{_key()}"
    with locks.held(folder.with_name(f".{folder.name}.lock"), purpose="building a node's programs", say=say):
        if not folder.is_dir():
            _build(folder, say=say)
    return folder


def _key() -> str:
    digest = hashlib.sha256(repr((_PROGRAMS, os.uname().machine)).encode())
    for file in sorted(_MODULES.glob("*/*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _build(folder: Path, *, say: Say) -> None:
    work = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(_MODULES, work / "modules")
    out = work / "bin"
    out.mkdir()

    def run(command: list[str], stage: str, directory: Path | None = None) -> None:
        began = time.monotonic()
        say(f"{stage} …")
        done = subprocess.run(
            command, cwd=directory, env=golang.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{stage}: {' '.join(command)} said: {done.stderr[-2000:]}"
        say(f"{stage}: {time.monotonic() - began:.0f} s")

    wanted = max(golang.wanted_version((_MODULES / p.module / "go.mod").read_text()) for p in _PROGRAMS)
    go = golang.find(wanted, cache=cache_root(), run=run, say=say)
    for program in _PROGRAMS:
        command = [go, "build", "-trimpath", "-ldflags", program.linker_flags]
        run(
            [*command, "-o", str(out / program.name), program.package],
            program.name,
            work / "modules" / program.module,
        )
    out.rename(folder)
    shutil.rmtree(work)
