"""`gemma-operator crd`, run as the command line does."""

import argparse
from pathlib import Path

import pytest
import yaml

from gemma_operator.cli import crd
from gemma_operator.errors import UsageError

ROOT = Path(__file__).parents[3]


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    crd.add_arguments(parser)
    return crd.run(parser.parse_args(words))


def test_the_committed_files_are_those_of_the_models():
    assert run("--check", str(ROOT / "crds")) == 0


def test_what_is_printed_are_two_definitions(capsys: pytest.CaptureFixture[str]):
    assert run() == 0

    kinds = [doc["spec"]["names"]["kind"] for doc in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["GemmaDeployment", "AcceleratorPool"]


def test_what_is_written_passes_the_check(tmp_path: Path):
    assert run("--output-dir", str(tmp_path / "new")) == 0
    assert run("--check", str(tmp_path / "new")) == 0


def test_a_changed_file_is_named_with_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run("--output-dir", str(tmp_path))
    changed = tmp_path / "gemma-operator.io_gemmadeployments.yaml"
    changed.write_text(changed.read_text().replace("Variant", "Size"))

    assert run("--check", str(tmp_path)) == 1
    said = capsys.readouterr().err
    assert f"{changed}: differs" in said
    assert "acceleratorpools" not in said
    assert f"gemma-operator crd --output-dir {tmp_path}" in said


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("--check", str(tmp_path)) == 1
    assert "gemma-operator.io_acceleratorpools.yaml: is missing" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot write to"):
        run("--output-dir", str(tmp_path / "file"))
