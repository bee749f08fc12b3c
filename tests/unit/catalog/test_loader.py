"""How files are laid over the packaged catalog, and what a wrong file is told."""

from pathlib import Path

import pytest

from gemma_operator.catalog.loader import load, packaged
from gemma_operator.errors import InvalidCatalog

CARD = "nvidia-l4: {vendor: nvidia, memoryMib: 24000, computeCapability: '8.9'}\n"


def written(folder, name, text):
    (folder / name).write_text(text)
    return folder


def test_a_given_entry_replaces_the_packaged_one_and_leaves_the_others(tmp_path):
    catalog = load(written(tmp_path, "accelerators.yaml", CARD))
    assert catalog.accelerators["nvidia-l4"].memory_mib == 24000
    assert catalog.accelerators["nvidia-l4"].products == ()
    assert catalog.accelerators["nvidia-h100-80gb"] == packaged().accelerators["nvidia-h100-80gb"]
    assert list(catalog.accelerators) == list(packaged().accelerators)


def test_a_checkpoint_of_ones_own_comes_before_the_packaged_ones(tmp_path):
    own = "ours: {variant: 31B, precision: bf16, repo: team/ours, source: here}\n"
    catalog = load(written(tmp_path, "checkpoints.yaml", own))
    assert [c.name for c in catalog.checkpoints] == ["ours", *(c.name for c in packaged().checkpoints)]


def test_a_later_directory_lies_over_an_earlier_one(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    written(first, "accelerators.yaml", CARD)
    written(second, "accelerators.yaml", CARD.replace("24000", "25000"))
    assert load(first, second).accelerators["nvidia-l4"].memory_mib == 25000
    assert load(second, first).accelerators["nvidia-l4"].memory_mib == 24000


def test_the_digest_tells_catalogs_apart(tmp_path):
    assert load().digest == packaged().digest
    assert load(written(tmp_path, "accelerators.yaml", CARD)).digest != packaged().digest


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("accelerators.yaml", "x: {vendor: nvidia, memoryMB: 1}\n", "x: unknown member 'memoryMB'"),
        ("accelerators.yaml", "x: {memoryMib: 1}\n", "x: vendor is missing"),
        ("accelerators.yaml", "x: {vendor: nvidia, memoryMib: '1'}\n", "x: memoryMib must be an integer"),
        (
            "accelerators.yaml",
            "x: {vendor: nvidia, memoryMib: -1}\n",
            "x: memoryMib must be an integer of at",
        ),
        (
            "accelerators.yaml",
            "x: {vendor: nvidia, computeCapability: 8.9}\n",
            "x: computeCapability must be a string",
        ),
        (
            "accelerators.yaml",
            "x: {vendor: nvidia, computeCapability: '8'}\n",
            "x: computeCapability must be like",
        ),
        ("accelerators.yaml", "x: {vendor: nvidia, products: L4}\n", "x: products must be a list"),
        (
            "accelerators.yaml",
            "x: {vendor: nvidia, products: [4]}\n",
            "x: products must be a list of strings",
        ),
        ("accelerators.yaml", "x: []\n", "x: must be a mapping"),
        ("accelerators.yaml", "- x\n", "accelerators.yaml: must be a mapping"),
        ("accelerators.yaml", "5: {vendor: nvidia}\n", "keys must be strings"),
        ("accelerators.yaml", "x: {\n", "cannot be read"),
        (
            "checkpoints.yaml",
            "x: {variant: 7B, precision: bf16, repo: a, source: b}\n",
            "x: variant '7B' is not in",
        ),
        (
            "checkpoints.yaml",
            "x: {variant: 31B, precision: fp8, repo: a, source: b, bytesPerParameter: {experts: 1.0}}\n",
            "x: 31B has no module class 'experts'",
        ),
        (
            "checkpoints.yaml",
            "x: {variant: 31B, precision: bf16, repo: a, source: b, gated: 1}\n",
            "gated must be true",
        ),
        (
            "machine_types.yaml",
            "x: {accelerator: nvidia-x, accelerators: 1}\n",
            "x: accelerator 'nvidia-x' is not in",
        ),
        (
            "compatibility.yaml",
            "x: {message: a, sources: [b], tensorParallel: ['4']}\n",
            "must be a list of integers",
        ),
        ("compatibility.yaml", "x: {message: a, sources: []}\n", "sources must name at least one"),
        ("compatibility.yaml", "x: {message: a, sources: [b], effect: no}\n", "effect must be a string"),
        (
            "compatibility.yaml",
            "x: {message: a, sources: [b], effect: ban}\n",
            "refuse, warn or limit, not 'ban'",
        ),
        (
            "compatibility.yaml",
            "x: {message: a, sources: [b], engineVersion: {until: '1.0'}}\n",
            "unknown member 'until'",
        ),
        (
            "compatibility.yaml",
            "x: {message: a, sources: [b], computeCapability: {below: 8}}\n",
            "below must be a string",
        ),
        ("gpus.yaml", "x: {}\n", "gpus.yaml: not a catalog file; they are variants"),
    ],
)
def test_a_wrong_file_is_named_with_its_entry_and_member(tmp_path, name, text, said):
    with pytest.raises(InvalidCatalog) as refused:
        load(written(tmp_path, name, text))
    assert said in str(refused.value)
    assert name in str(refused.value)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidCatalog, match="nowhere: no such directory"):
        load(tmp_path / "nowhere")


def test_the_catalog_of_the_real_engines_tests_is_one_that_this_version_reads():
    """Its tests take minutes and root; what they stand on must not break unseen."""
    folder = Path(__file__).parents[2] / "engine/model/catalog"
    assert load(folder).variants["E2B"] != packaged().variants["E2B"]
