"""What messages tell people to do can be done: each field is in the CRD, each command is one of kubectl's."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gemma_operator.api.remedies import REMEDIES

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "operator/gemma_operator"
SPEAKERS = ("api/remedies.py", "backends/kubernetes/**/*.py", "controller/*.py", "planner/*.py")
KUBECTL = Path(sys.executable).parent / "kubectl"
CRD = yaml.safe_load((ROOT / "crds/gemma-operator.io_gemmadeployments.yaml").read_text())
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
_ROOTS = "|".join(name for name in SPEC["properties"] if name != "replicas")
#: Not a file's name, nor a call.
_FIELD = re.compile(rf"(?<![\w./`-])(?:{_ROOTS})(?:\.[a-z][A-Za-z]+)+(?<!\.json)(?![\w(.])")
_COMMAND = re.compile(r"`kubectl ([^`]+)`")


def texts():
    """Every piece of text that the speakers may say; docstrings are for us."""
    for pattern in SPEAKERS:
        for path in sorted(PACKAGE.glob(pattern)):
            tree = ast.parse(path.read_text())
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            docs = {
                ast.get_docstring(node, clean=False)
                for node in ast.walk(tree)
                if isinstance(node, documented)
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(v.value if isinstance(v, ast.Constant) else "NAME" for v in node.values)
                elif (
                    isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs
                ):
                    yield node.value


ALL = sorted(set(texts()))
FIELDS = sorted({found.group() for text in ALL for found in _FIELD.finditer(text)})
COMMANDS = sorted({found.group(1) for text in ALL for found in _COMMAND.finditer(text)})


def of_schema(path):
    schema = SPEC
    for name in path.split("."):
        schema = (schema.get("items") or schema).get("properties", {}).get(name)
        if schema is None:
            return False
    return True


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_that_is_named_is_in_the_crd(path):
    assert of_schema(path), [text for text in ALL if path in text]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_is_named_is_one_with_these_flags(command):
    verb, *words = command.split()
    done = subprocess.run([str(KUBECTL), verb, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Unknown" not in done.stdout.splitlines()[0]
    flags = [word.partition("=")[0] for word in words if word.startswith("-")]
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}\b", done.stdout)] == []


def test_there_is_something_to_look_at():
    assert {"serving.contextLength", "pod.resources.memory", "credentials.huggingFaceToken"} <= set(FIELDS)
    assert "logs POD --previous" in COMMANDS


@pytest.mark.parametrize("word", sorted(REMEDIES))
def test_a_remedy_is_one_short_sentence_without_an_end(word):
    text = REMEDIES[word].text
    assert text[0].islower()
    assert not text.endswith(".")
    assert len(text) <= 150
