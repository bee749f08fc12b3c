"""`gemma-operator memory`, run as the command line does."""

import json

import pytest
import yaml

from gemma_operator.catalog.loader import packaged
from gemma_operator.cli import main
from gemma_operator.planner.vllm.kv_cache import capacity

KEYS = {
    "weightsMiB",
    "kvCacheMiB",
    "overheadMiB",
    "bandMiB",
    "totalMiB",
    "fits",
    "numBlocks",
    "maxConcurrency",
    "maxContextLength",
}
MIB = 1024**2


@pytest.fixture
def memory(capsys):
    def run(variant, precision, gpu, *more, output="json"):
        words = ["memory", "--variant", variant, "--precision", precision, *(["--gpu", gpu] if gpu else [])]
        code = main([*words, "-o", output, *more])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if output == "json" and code != 2 else printed.out, printed.err

    return run


def test_what_fits_says_where_each_mib_goes(memory):
    code, found, _ = memory("31B", "bf16", "nvidia-h100-80gb")
    card = packaged().accelerators["nvidia-h100-80gb"]
    assert (code, found["fits"]) == (0, "yes")
    assert set(found) >= KEYS
    assert found["usableMiB"] == card.visible_mib * found["gpuMemoryUtilization"] // 100
    assert found["weightsMiB"] + found["kvCacheMiB"] + found["overheadMiB"] == found["totalMiB"]
    assert 0 <= found["usableMiB"] - found["totalMiB"] <= 2
    assert found["kvCacheTokens"] >= found["contextLength"] == 32768


def as_the_engine_plans(found, context):
    return capacity(
        "31B",
        max_model_len=context,
        max_num_batched_tokens=found["maxBatchedTokens"],
        tensor_parallel_size=found["acceleratorsPerReplica"],
        kv_cache_element_bytes=2 if found["kvCachePrecision"] == "BF16" else 1,
        available_bytes=found["kvCacheMiB"] * MIB,
    )


@pytest.mark.parametrize("more", [(), ("--context", "8192", "--concurrency", "3"), ("--kv-bytes", "2")])
def test_blocks_concurrency_and_the_longest_context_are_what_the_engine_makes_of_it(memory, more):
    _, found, _ = memory("31B", "bf16", "nvidia-b200", *more)
    held = as_the_engine_plans(found, found["contextLength"])
    assert 0 <= found["numBlocks"] - held.num_blocks <= 1  # MiB are rounded down
    assert found["maxConcurrency"] == pytest.approx(held.max_concurrency, abs=0.02)
    longest = found["maxContextLength"]
    assert found["contextLength"] <= longest <= 262144
    assert as_the_engine_plans(found, longest).max_concurrency >= found["concurrency"]


def test_one_token_more_than_the_longest_context_does_not_fit(memory):
    given = ("--batched-tokens", "4096", "--sequences", "64", "--kv-bytes", "2")
    _, found, _ = memory("31B", "bf16", "nvidia-h100-80gb", *given)
    longest = found["maxContextLength"]
    assert longest < 262144
    assert memory("31B", "bf16", "nvidia-h100-80gb", *given, "--context", str(longest))[1]["fits"] == "tight"
    code, more, _ = memory("31B", "bf16", "nvidia-h100-80gb", *given, "--context", str(longest + 1))
    assert (code, more["fits"]) == (1, "no")


def test_what_does_not_fit_says_why_in_gib_and_keeps_its_figures(memory):
    code, found, _ = memory("31B", "bf16", "nvidia-l4")
    assert (code, found["fits"], found["numBlocks"], found["maxContextLength"]) == (1, "no", 0, 0)
    assert set(found) >= KEYS
    assert "GiB of weights" in found["reason"]
    assert memory("31B", "bf16", "nvidia-l4", output="table")[1].split()[:2] == ["fits", "no"]


def test_a_context_that_is_too_long_is_answered_with_the_longest_that_fits(memory):
    code, found, _ = memory("12B", "bf16", "nvidia-l40s", "--context", "262144", "--concurrency", "8")
    assert (code, found["fits"]) == (1, "no")
    assert 8192 < found["maxContextLength"] < 262144


def test_what_fits_only_inside_the_band_is_tight_and_exits_0(memory):
    _, found, _ = memory("31B", "bf16", "nvidia-h100-80gb", "--sequences", "64", "--batched-tokens", "4096")
    inside = str(found["maxContextLength"] - 1)
    given = ("--sequences", "64", "--batched-tokens", "4096", "--kv-bytes", "2", "--context", inside)
    code, tight, _ = memory("31B", "bf16", "nvidia-h100-80gb", *given)
    assert (code, tight["fits"]) == (0, "tight")
    spare = tight["usableMiB"] - tight["weightsMiB"] - tight["overheadMiB"] - tight["kvCacheNeededMiB"]
    assert spare < tight["bandMiB"]


def test_more_gpus_hold_more(memory):
    assert memory("31B", "bf16", "nvidia-l40s")[0] == 1
    code, found, _ = memory("31B", "bf16", "nvidia-l40s", "--gpus", "2")
    assert (code, found["acceleratorsPerReplica"]) == (0, 2)


def test_context_and_concurrency_are_kept(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4", "--context", "8192", "--concurrency", "4")
    assert (found["contextLength"], found["concurrency"]) == (8192, 4)
    assert found["maxConcurrency"] >= 4


@pytest.mark.parametrize(
    ("flag", "value", "key", "taken"),
    [
        ("--batched-tokens", "3000", "maxBatchedTokens", 3000),
        ("--sequences", "7", "maxSequences", 7),
        ("--utilization", "0.5", "gpuMemoryUtilization", 50),
        ("--utilization", "0.925", "gpuMemoryUtilization", 92.5),
        ("--utilization", "0.98", "gpuMemoryUtilization", 98),
        ("--kv-bytes", "1", "kvCachePrecision", "FP8"),
    ],
)
def test_a_given_setting_is_taken_as_it_is(memory, flag, value, key, taken):
    _, found, _ = memory("E4B", "bf16", "nvidia-l40s", flag, value)
    assert found[key] == taken
    assert found["unverified"] == []


def test_without_graphs_more_is_left(memory):
    graphs, eager = (memory("E4B", "bf16", "nvidia-l4", *more)[1] for more in ((), ("--eager",)))
    assert eager["overheadMiB"] < graphs["overheadMiB"]


def test_text_alone_leaves_the_towers_out(memory):
    both, text = (memory("31B", "bf16", "nvidia-b200", "--modalities", m)[1] for m in ("text,image", "text"))
    assert 1000 < both["weightsMiB"] - text["weightsMiB"] < 1300


def test_the_rules_are_those_of_the_version(memory):
    old, new = (memory("31B", "bf16", "nvidia-b200", "--engine", v)[1] for v in ("0.19.1", "0.32"))
    assert (old["gpuMemoryUtilization"], new["gpuMemoryUtilization"]) == (90, 92)
    unknown = memory("31B", "bf16", "nvidia-b200", "--engine", "0.99")[1]
    assert any("0.99" in note for note in unknown["unverified"])


def test_an_unknown_gpu_needs_its_memory_and_is_unverified(memory):
    code, _, error = memory("12B", "w4a16", "nvidia-l5")
    assert code == 2
    assert "nearest: nvidia-l4" in error
    size = ("--gpu-memory-mib", "16311")
    code, _, error = memory("12B", "w4a16", None, *size)
    assert code == 2
    assert "--compute-capability" in error
    code, found, _ = memory("12B", "w4a16", None, *size, "--compute-capability", "12.0")
    assert (code, len(found["unverified"])) == (0, 1)
    assert "from its memory alone" in found["unverified"][0]


def test_an_unknown_checkpoint_is_reckoned_by_its_precision_and_unverified(memory):
    _, known, _ = memory("31B", "fp8", "nvidia-h100-80gb")
    code, found, _ = memory("31B", "fp8", "nvidia-h100-80gb", "--checkpoint", "me/mine-fp8")
    assert (code, found["checkpoint"], found["weightsMiB"]) == (0, "me/mine-fp8", known["weightsMiB"])
    assert "me/mine-fp8 is not in the catalog" in found["unverified"][0]


@pytest.mark.parametrize("modalities", ["text", "text,image"])
@pytest.mark.parametrize(("variant", "precision"), [("26B-A4B", "nvfp4"), ("31B", "nvfp4"), ("31B", "w4a16")])
def test_of_several_checkpoints_the_one_is_taken_that_a_plan_takes(
    memory, capsys, tmp_path, variant, precision, modalities
):
    """The leanest of those that serve what is asked: RedHat's 26B-A4B, and for text alone LilaRest's 31B."""
    spec = {
        "model": {"variants": [variant], "precisions": [precision]},
        "serving": {"modalities": modalities.split(",")},
    }
    manifest = {"apiVersion": "gemma-operator.io/v1alpha1", "kind": "GemmaDeployment", "spec": spec}
    (tmp_path / "asked.json").write_text(json.dumps({**manifest, "metadata": {"name": "chat"}}))
    (tmp_path / "none.yaml").write_text("")
    files = ("-f", str(tmp_path / "asked.json"), "--nodes", str(tmp_path / "none.yaml"))
    assert main(["plan", *files, "--what-if", "gpu=nvidia-l40s:1", "-o", "json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    _, found, _ = memory(variant, precision, "nvidia-l40s", "--modalities", modalities)
    assert found["checkpoint"] == plan["checkpoint"]["repo"]
    assert (found["weightsMiB"], found["kvCacheMiB"]) == (
        plan["memoryMiB"]["weights"],
        plan["memoryMiB"]["kvCache"],
    )


def test_a_precision_that_nobody_published_has_no_repo(memory):
    _, found, _ = memory("12B", "fp8", "nvidia-l4")
    assert found["checkpoint"] is None
    assert "the fp8 checkpoint of 12B is not in the catalog" in found["unverified"][0]


def test_variant_and_precision_are_read_in_any_case(memory):
    assert memory("26b-a4b", "BF16", "nvidia-b200") == memory("26B-A4B", "bf16", "nvidia-b200")
    code, _, error = memory("27B", "bf16", "nvidia-b200")
    assert code == 2
    assert "--variant: 27B is none of 31B, 26B-A4B, 12B, E4B, E2B" in sorted_names(error)


def sorted_names(error):
    """The names in the order of the API, whatever the catalog's."""
    head, _, names = error.strip().partition("none of ")
    order = ("31B", "26B-A4B", "12B", "E4B", "E2B")
    return f"{head}none of {', '.join(sorted(names.split(', '), key=order.index))}"


@pytest.mark.parametrize(
    ("variant", "engine", "modalities", "batch", "starts"),
    [
        ("12B", "0.32", "text,video", "2495", False),
        ("12B", "0.32", "text,video", "2496", True),
        ("31B", "0.20.0", "text,video", "2048", False),
        ("31B", "0.19.1", "text,video", "2048", True),  # the rule begins with 0.20.0
        ("31B", "0.32", "text,image", "2048", True),
        ("31B", "0.32", "text,image", "279", False),
        ("31B", "0.32", "text", "64", True),
        ("E4B", "0.32", "text,video", "64", True),  # not of those that take items whole
    ],
)
def test_a_batch_that_holds_no_whole_item_is_refused_as_the_engine_refuses_it(
    memory, variant, engine, modalities, batch, starts
):
    given = ("--engine", engine, "--modalities", modalities, "--batched-tokens", batch)
    code, found, _ = memory(variant, "bf16", "nvidia-b200", *given)
    assert (code, found["fits"]) == ((0, "yes") if starts else (1, "no"))
    assert starts or f"does not start with {batch} batched tokens" in found["reason"]
    assert set(found) >= KEYS


def test_sequences_that_nobody_gave_are_no_more_than_the_batch(memory):
    """vLLM engine/arg_utils.py lowers its own default to the batch."""
    _, found, _ = memory("E4B", "bf16", "nvidia-l4", "--batched-tokens", "100")
    assert (found["maxBatchedTokens"], found["maxSequences"]) == (100, 100)


def test_the_whole_card_cannot_be_asked_for_and_almost_the_whole_is_doubted(memory):
    code, found, _ = memory("E2B", "bf16", "nvidia-l4", "--utilization", "1")
    assert (code, found["fits"]) == (1, "no")
    assert "take 0.98 at most" in found["reason"]
    code, found, _ = memory("E2B", "bf16", "nvidia-l4", "--utilization", "0.99")
    assert (code, found["fits"]) == (0, "tight")
    assert "left alone hold the engine's own CUDA context" in found["unverified"][0]
    assert memory("E2B", "bf16", "nvidia-l4", "--utilization", "0.98")[1]["fits"] == "yes"


def test_memory_that_is_its_hosts_is_said(memory):
    code, found, _ = memory("31B", "nvfp4", "nvidia-gb10", "--engine", "0.33.0")
    assert (code, found["gpuMemoryUtilization"]) == (0, 80)
    assert "is its host's" in found["unverified"][0]


def test_a_known_checkpoint_of_another_precision_is_bad_input(memory):
    code, _, error = memory("31B", "fp8", "nvidia-h100-80gb", "--checkpoint", "google/gemma-4-31B-it")
    assert code == 2
    assert "is 31B bf16" in error


def test_a_refused_card_says_why_and_keeps_its_figures(memory):
    code, found, _ = memory("E2B", "w4a16", "nvidia-t4")
    assert (code, found["fits"]) == (1, "no")
    assert "Turing" in found["reason"]
    assert found["weightsMiB"] > 5000


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--context", "1"), "--context: 31B takes 256 to 262,144 tokens, not 1"),
        (("--context", "262145"), "--context: 31B takes 256 to 262,144 tokens, not 262,145"),
        (("--concurrency", "0"), "--concurrency: 1 to 4096 requests, not 0"),
        (("--concurrency", "4097"), "--concurrency: 1 to 4096 requests, not 4097"),
        (("--modalities", "smell"), "--modalities: 'smell' is none of text, image, video, audio"),
        (("--modalities", ""), "--modalities: '' is none of"),
        (("--modalities", "audio"), "--modalities"),
        (("--engine", "0.32.0.1"), "--engine: not a version: '0.32.0.1'"),
        (("--engine", "newest"), "--engine: not a version: 'newest'; write it like 0.32"),
        (("--engine", "v0.32"), "--engine: not a version: 'v0.32'"),
        (("--engine", "0.32.0rc1"), "--engine: not a version: '0.32.0rc1'"),
        (("--engine", ""), "--engine: not a version: ''"),
        (("--checkpoint", ""), "--checkpoint: it is empty"),
        (("--precision", "int4"), "--precision: int4 is none of bf16, fp8, nvfp4, w4a16"),
        (("--gpu", ""), "give --gpu NAME"),
        (("--gpu", "h100"), "the catalog has no h100; nearest: nvidia-h100-80gb, nvidia-h100-nvl"),
        (("--gpu", "qqq"), "the catalog has no qqq; docs/planner.md lists its names"),
        (("--gpu-memory-mib", "0"), "--gpu-memory-mib: a GPU has 1024 to 4,194,304 MiB, not 0"),
        (("--compute-capability", ""), "--compute-capability: '' is not like 8.9"),
        (("--compute-capability", "8.9.1"), "--compute-capability: '8.9.1' is not like 8.9"),
        (("--utilization", "1.2"), "--utilization: 1.2 is not from 0.0001 to 1"),
        (("--utilization", "92.5"), "--utilization: 92.5 is no fraction of the card: write 0.925"),
        (("--utilization", "0.92345"), "at most four decimals"),
        (("--utilization", "0"), "--utilization"),
        (("--utilization", "nan"), "--utilization"),
        (("--sequences", "0"), "--sequences"),
        (("--compute-capability", "nine"), "--compute-capability"),
        (("--gpus", "3"), "--gpus"),
        (("--sequences", "4", "--concurrency", "8"), "--sequences: 4 requests run at once"),
        (("--sequences", "256", "--batched-tokens", "255"), "--batched-tokens: the engine takes no fewer"),
        (("--gpu-memory-mib", "81559"), "--gpu-memory-mib: nvidia-l4 has 23,034 MiB, not 81,559"),
        (("--compute-capability", "9.0"), "--compute-capability: nvidia-l4 has 8.9, not 9.0"),
    ],
)
def test_bad_input_exits_2_and_names_the_flag(memory, more, says):
    code, _, error = memory("31B", "bf16", "nvidia-l4", *more)
    assert code == 2
    assert says in error


def test_a_gpu_and_modalities_are_read_in_any_case(memory):
    plain = memory("E4B", "bf16", "nvidia-l4", "--modalities", "text,image")
    assert memory("E4B", "bf16", "NVIDIA-L4", "--modalities", "Text, IMAGE,text") == plain
    assert memory("E4B", "bf16", "nvidia-l4", "--modalities", "text", "image") == plain


def test_what_does_not_start_holds_no_tokens(memory):
    code, found, _ = memory("31B", "w4a16", "nvidia-rtx-4090", "--context", "65536")
    assert (code, found["kvCacheTokens"]) == (1, None)


def test_as_yaml_it_says_the_same(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4", "--explain")
    assert yaml.safe_load(memory("E4B", "bf16", "nvidia-l4", "--explain", output="yaml")[1]) == found


def test_the_table_holds_the_same_figures(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4")
    lines = [line.split() for line in memory("E4B", "bf16", "nvidia-l4", output="table")[1].splitlines()]
    assert all([key, str(found[key])] in lines for key in KEYS)


def test_explained_it_ends_at_the_verdict(memory):
    text = memory("E4B", "bf16", "nvidia-l4", "--explain", output="table")[1]
    assert "ON EACH GPU" in text
    assert text.rstrip().endswith("the band: yes")


def test_explained_for_machines_it_has_the_same_steps(memory):
    _, found, _ = memory("E4B", "bf16", "nvidia-l4", "--explain")
    steps = {(step["section"], step["label"]): step["bytes"] for step in found["steps"]}
    assert steps["weights", "weights"] // MIB == found["weightsMiB"]
    assert steps["verdict", "to spare"] > 0


def test_the_calculator_does_not_ask_whether_a_versions_image_starts(memory):
    """0.27.1's published image does not start Gemma 4; its arithmetic can be asked for all the same."""
    code, found, _ = memory("E4B", "bf16", "nvidia-l4", "--engine", "0.27.1")
    assert (code, found["fits"]) == (0, "yes")


def test_who_names_no_modalities_asks_of_a_server_that_limits_nothing(memory):
    """The published loads are of such servers; a plan limits what it does not serve, and its towers are not built."""
    bare, served, heard = (
        memory("E4B", "bf16", "nvidia-l4", *more)[1]["weightsMiB"]
        for more in ((), ("--modalities", "text,image"), ("--modalities", "text,image,audio"))
    )
    audio = packaged().variants["E4B"].parameters["audioTower"] * 2 / MIB
    assert bare == heard
    assert abs(bare - served - audio) <= 1
