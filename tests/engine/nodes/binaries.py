"""What runs on a node beside Debian's packages: built once from pinned Go modules, like the sandbox's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from gemma_operator.sandbox import golang
from gemma_operator.sandbox.build import KUBERNETES_VERSION
from gemma_operator.sandbox.paths import cache_root

_MODULES = Path(__file__).with_name("modules")
_STAMP = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"


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
    build = partial(_build, say=say)
    return once(f"node-{_key()}", build, purpose="building a node's programs", say=say)


def _key() -> str:
    digest = hashlib.sha256(repr((_PROGRAMS, os.uname().machine)).encode())
    for file in sorted(_MODULES.glob("*/*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _build(out: Path, *, say: Say) -> None:
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
    with tempfile.TemporaryDirectory() as work:  # Go wants to write beside go.mod
        modules = shutil.copytree(_MODULES, Path(work) / "modules")
        for program in _PROGRAMS:
            command = [go, "build", "-trimpath", "-ldflags", program.linker_flags]
            where = modules / program.module
            run([*command, "-o", str(out / program.name), program.package], program.name, where)
