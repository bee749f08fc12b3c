"""The page that people read is what the catalog says."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

from gemma_operator.catalog.incompatibilities import Versions, reference
from gemma_operator.catalog.loader import packaged

ROOT = Path(__file__).parents[3]


def the_script():
    spec = importlib.util.spec_from_file_location(
        "compatibility_docs", ROOT / "hack" / "compatibility_docs.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_generated_from_the_catalog():
    written = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    assert written == the_script().page(packaged()), "run python hack/compatibility_docs.py"


def test_the_page_has_every_entry_with_its_first_source():
    lines = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8").splitlines()
    for entry in packaged().incompatibilities:
        (line,) = [line for line in lines if line.startswith(f"| {entry.name} |")]
        assert reference(entry.sources[0]) in line


def test_an_entry_of_another_engine_says_so_and_one_of_vllm_does_not():
    script = the_script()
    of_vllm, *_ = packaged().incompatibilities
    other = replace(of_vllm, engines=frozenset({"OTHER"}), versions=None)
    versioned = replace(other, engines=frozenset({"OTHER", "VLLM"}), versions=Versions("0.20.0", None, ()))
    told = [script._where(entry) for entry in (of_vllm, other, versioned)]
    assert told == [
        "compute capability 7.5",
        "engine OTHER; compute capability 7.5",
        "compute capability 7.5; OTHER or vLLM from 0.20.0",
    ]


def test_conditions_are_told_in_words():
    rows = {
        line.split(" | ")[0]: line.split(" | ")[1]
        for line in the_script().page(packaged()).splitlines()
        if " | " in line
    }
    assert rows["| fp8-kv-on-sm100"] == (
        "compute capability from 10.0 below 11.0; vLLM from 0.27.0 below 0.29.0; KV cache in FP8"
    )
    assert (
        rows["| transformers-5.15"]
        == "vLLM 0.26.0, 0.27.0, 0.27.1; not with `no-image`; not with `own-image`"
    )
    assert rows["| gemma4-before-0.19.1"] == "vLLM below 0.19.1"
