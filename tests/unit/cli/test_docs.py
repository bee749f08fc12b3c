"""What README and docs show of the command line can be typed, and README's figures are what it answers."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from gemma_operator import cli

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Up to where the shell takes over, or a remark begins two blanks further on.
CALL = re.compile(r"(?:^|[\s/(])gemma-operator +(.+?)(?=\s{2,}|\s*[|&;)\n]|$)", re.MULTILINE)


def commands(text):
    """The words of each gemma-operator call."""
    for call in CALL.findall(text.replace("\\\n      ", "")):
        yield shlex.split(call)


SHOWN = [
    (path.name, words)
    for path in PAGES
    for block in re.findall(r"```(?:console|sh)\n(.*?)```", path.read_text(), re.DOTALL)
    for words in commands(block)
]
EXAMPLES = [(name, words) for name in cli.installed() for words in commands(cli.load(name).EPILOG)]


def test_commands_are_found():
    assert len(SHOWN) >= 8
    assert len(EXAMPLES) >= 30


@pytest.mark.parametrize(("where", "words"), [*SHOWN, *EXAMPLES], ids=str)
def test_a_command_that_is_shown_can_be_typed(where, words, capsys):
    try:
        cli._parser("gemma-operator", words).parse_args(words)
    except SystemExit:
        pytest.fail(f"{where}: {capsys.readouterr().err}")


def test_readmes_plan_is_the_one_that_is_made(capsys):
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "memoryMiB" in each)
    shown = yaml.safe_load(block)
    words = ["--variant", "31B", "--precision", "bf16", "--gpu", "nvidia-h100-80gb"]
    assert cli.main(["memory", *words, "--modalities", "text,image", "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert shown["memoryMiB"] == {
        "weights": said["weightsMiB"],
        "kvCache": said["kvCacheMiB"],
        "overhead": said["overheadMiB"],
        "band": said["bandMiB"],
        "total": said["totalMiB"],
    }
    assert f"→ {said['maxBatchedTokens']} batched tokens" in shown["reason"]


def test_readme_shows_every_sample():
    deployments = {
        obj["metadata"]["name"]
        for path in (ROOT / "manifests/samples").glob("*.yaml")
        for obj in yaml.safe_load_all(path.read_text())
        if obj["kind"] == "GemmaDeployment"
    }
    shown = re.findall(r"^ +\d+\.\d s  (\S+)", README, re.MULTILINE)
    assert sorted(shown) == sorted(deployments)
    assert len(shown) == 10, "README says ten"


def test_every_page_is_reached_from_readme():
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")}
