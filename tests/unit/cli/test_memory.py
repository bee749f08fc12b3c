"""`gemma-operator memory`, run as the command line does."""

import json

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.cli import main


@pytest.fixture
def memory(capsys):
    def run(variant, precision, accelerator, *more, output="json"):
        words = ["memory", "--variant", variant, "--precision", precision, "--accelerator", accelerator]
        code = main([*words, "-o", output, *more])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if output == "json" and code != 2 else printed.out, printed.err

    return run


def test_what_fits_says_where_each_mib_goes(memory):
    code, found, _ = memory("31B", "bf16", "nvidia-h100-80gb")
    sizes = found["memoryMiB"]
    card = packaged().accelerators["nvidia-h100-80gb"]
    assert (code, found["fits"], found["tight"]) == (0, True, False)
    assert sizes["usable"] == card.visible_mib * found["gpuMemoryUtilization"] // 100
    assert sizes["weights"] + sizes["kvCache"] + sizes["overhead"] == sizes["total"]
    assert 0 <= sizes["usable"] - sizes["total"] <= 2
    assert found["kvCacheTokens"] >= found["contextLength"] == 32768


def test_what_does_not_fit_says_why_in_gib(memory):
    code, found, _ = memory("31B", "bf16", "nvidia-l4")
    assert (code, found["fits"]) == (1, False)
    assert "GiB of weights" in found["reason"]
    assert "does not fit: " in memory("31B", "bf16", "nvidia-l4", output="table")[1]


def test_more_gpus_hold_more(memory):
    assert memory("31B", "bf16", "nvidia-l40s")[0] == 1
    code, found, _ = memory("31B", "bf16", "nvidia-l40s", "--gpus", "2")
    assert (code, found["acceleratorsPerReplica"]) == (0, 2)


def test_context_and_concurrency_are_kept(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4", "--context", "8192", "--concurrency", "4")
    assert found["contextLength"] == 8192
    assert found["kvCacheTokens"] >= 4 * 8192


def test_an_unknown_gpu_needs_its_memory_and_is_unverified(memory):
    code, _, error = memory("12B", "w4a16", "nvidia-l5")
    assert code == 2
    assert "nearest: nvidia-l4" in error
    code, found, _ = memory("12B", "w4a16", "nvidia-l5", "--memory-mib", "16311")
    assert (code, found["unverified"]) == (0, ["a nvidia-l5 is planned from its memory alone"])


def test_a_refused_card_says_why(memory):
    code, found, _ = memory("E2B", "w4a16", "nvidia-t4")
    assert code == 1
    assert "Turing" in found["reason"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--context", "1"), "spec.serving.contextLength"),
        (("--concurrency", "0"), "spec.serving.concurrency"),
        (("--modalities", "smell"), "spec.serving.modalities"),
        (("--engine-version", "0.99"), "spec.serving.engine.version"),
    ],
)
def test_what_a_deployment_may_not_ask_the_calculator_does_not_take(memory, more, says):
    code, _, error = memory("31B", "bf16", "nvidia-l4", *more)
    assert code == 2
    assert says in error


def test_the_table_holds_the_same_figures(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4")
    text = memory("E4B", "bf16", "nvidia-l4", output="table")[1]
    for key, value in found["memoryMiB"].items():
        assert [key, str(value)] in [line.split()[-2:] for line in text.splitlines()]
