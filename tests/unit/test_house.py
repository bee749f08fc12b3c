"""What holds for the whole house: its layout, its locks, and that nothing reaches outside the clone."""

import ast
import configparser
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_the_source_root_is_no_package():
    """`operator/__init__.py` would shadow the standard library's `operator` for every command run at the root."""
    assert (ROOT / "operator/gemma_operator/__init__.py").exists()
    assert not (ROOT / "operator/__init__.py").exists()


@pytest.mark.parametrize("lock", ["dev.txt", "runtime.txt", "go.txt", "engine.txt"])
def test_every_locked_package_is_pinned_and_hashed(lock):
    text = (ROOT / "requirements" / lock).read_text()
    pinned = re.findall(r"^[a-z0-9][^\s=]*==", text, re.MULTILINE | re.IGNORECASE)
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert pinned
    assert len(pinned) == len(entries)
    assert all("--hash=sha256:" in entry for entry in entries)


def test_no_lock_names_a_package_source():
    locks = tracked("requirements/*.txt", "*.sum", "*.mod", "pyproject.toml")
    assert len(locks) >= 6
    named = [
        path.name
        for path in locks
        if re.search(r"index-url|find-links|https?://(?!www\.apache)", path.read_text())
    ]
    assert named == []


def test_nothing_reads_outside_the_clone():
    """Data that tests need lies in tests/data, with its primary source."""
    me = Path(__file__)
    outside = re.compile(r"\.\./shared|/work/|\.library")
    files = [
        path
        for path in tracked()
        if path != me and path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".in", ""}
    ]
    assert [str(path) for path in files if outside.search(path.read_text(errors="ignore"))] == []


def test_no_file_of_the_package_is_longer_than_its_one_thing():
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked("operator/*.py")
        if (count := lines(path)) > 300
    }
    assert long == {}


def lines(path):
    return len(path.read_text().splitlines())


def test_recorded_data_names_its_primary_source():
    folders = {
        path.parent for path in tracked("tests/data/*") if path.suffix in {".csv", ".txt", ".yaml", ".json"}
    }
    assert folders
    without = [
        str(folder.relative_to(ROOT))
        for folder in folders
        if not any((each / "README.md").exists() for each in (folder, *folder.parents) if each != ROOT)
    ]
    assert without == []


def test_what_calls_itself_pure_is_held_to_it():
    """By the contract of `.importlinter` that forbids I/O and clocks, one by one or with its whole room."""
    rules = configparser.ConfigParser()
    rules.read(ROOT / ".importlinter")
    held = rules["importlinter:contract:pure"]["source_modules"].split()
    source = ROOT / "operator"
    claims = {
        ".".join(path.relative_to(source).with_suffix("").parts): ast.get_docstring(
            ast.parse(path.read_text())
        )
        for path in (source / "gemma_operator").rglob("*.py")
    }
    pure = [name for name, said in claims.items() if re.search(r"\bPure\b", said or "")]
    assert len(pure) > 20
    assert [name for name in pure if not any(f"{name}.".startswith(f"{room}.") for room in held)] == []
