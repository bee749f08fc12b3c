"""Each known-bad combination, its verdict and reference, and its nearest neighbour that has none.

The table is written by hand from the upstream threads, not read from compatibility.yaml: an entry that goes, or a
bound that moves, turns its row red.
"""

from dataclasses import replace
from random import Random

import pytest

from gemma_operator.catalog.incompatibilities import Effect, reference
from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.records import Sharing
from gemma_operator.planner.compatibility import Combination, Compatibility, known_bad, matching, of_engine
from gemma_operator.planner.values import Candidate, KvPrecision
from unit.planner.shapes import a_pool, a_request

REFUSE, WARN, LIMIT = Effect.REFUSE, Effect.WARN, Effect.LIMIT
GOOD = Combination(
    variant="31B",
    precision="bf16",
    accelerator="nvidia-h100-80gb",
    compute_capability=(9, 0),
    engine="VLLM",
    engine_version="0.32",
    tensor_parallel=1,
    repository="google/gemma-4-31B-it",
    driver_major=580,
    architecture="amd64",
    modalities=frozenset({"text", "image"}),
    features=frozenset({"tool-calling", "thinking", "thinking-on-request"}),
)


def cc(major, minor):
    return {"compute_capability": (major, minor)}


def v(version):
    return {"engine_version": version}


def uses(*features):
    return {"features": GOOD.features | set(features)}


def flag(name, value):
    return {"flags": {name: value}}


MOE = {"variant": "26B-A4B"}
ARM64 = {"architecture": "arm64"}
FP8_KV = {"kv_cache_precision": "FP8"}
DRAFTS = uses("speculative-decoding")
TOWERS = flag("enable-tower-connector-lora", "true")
LMCACHE = flag("kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}')
NIXL = flag("kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}')
OFFLOADING = flag("kv-transfer-config", '{"kv_connector":"OffloadingConnector","kv_role":"kv_both"}')

#: entry, effect, first reference, a combination that is bad, what makes it good again
TABLE = [
    ("turing", REFUSE, "vllm#57712", cc(7, 5), cc(8, 0)),
    ("volta-and-older", REFUSE, "vllm#39878", cc(7, 0), cc(7, 5)),
    ("driver-before-cuda-13", REFUSE, "vllm#39878", {"driver_major": 535}, {"driver_major": 580}),
    ("driver-before-cuda-13", REFUSE, "vllm#39878", {"driver_major": 570}, {"driver_major": None}),
    ("driver-before-cuda-13", REFUSE, "vllm#39878", {"driver_major": 570}, v("0.19.1")),
    (
        "driver-before-cuda-12",
        REFUSE,
        "vllm#38887",
        {"driver_major": 470, **v("0.19.1")},
        {"driver_major": 535},
    ),
    (
        "driver-and-own-image",
        WARN,
        "vllm#33992",
        {"driver_major": 535, **uses("own-image")},
        {"driver_major": 580},
    ),
    (
        "shared-by-mps",
        WARN,
        "vllm-project/production-stack#504",
        {"sharing": "mps"},
        {"sharing": "time-slicing"},
    ),
    ("fp8-kv-before-ada", REFUSE, "vllm#49077", {**cc(8, 8), **FP8_KV}, cc(8, 9)),
    ("fp8-kv-before-ada", REFUSE, "vllm#49077", {**cc(8, 0), **FP8_KV}, {"kv_cache_precision": "BF16"}),
    ("fp8-kv-before-ada", REFUSE, "vllm#49077", {**cc(8, 6), **FP8_KV}, {"kv_cache_precision": None}),
    ("fp8-kv-on-sm100", REFUSE, "vllm#51828", {**cc(10, 0), **FP8_KV, **v("0.28.0")}, v("0.29.0")),
    ("fp8-kv-on-sm100", REFUSE, "vllm#51828", {**cc(10, 3), **FP8_KV, **v("0.27.0")}, cc(9, 0)),
    ("fp8-kv-on-sm100", REFUSE, "vllm#51828", {**cc(10, 0), **FP8_KV, **v("0.28.0")}, v("0.26.0")),
    ("fp8-weights-before-ada", LIMIT, "vllm#5975", {"precision": "fp8", **cc(8, 0)}, cc(8, 9)),
    (
        "fp8-experts-on-ampere-parallel",
        REFUSE,
        "vllm#42390",
        {**MOE, "precision": "fp8", "tensor_parallel": 2, **cc(8, 6), **v("0.24.0")},
        v("0.25.1"),
    ),
    (
        "fp8-experts-on-ampere-parallel",
        REFUSE,
        "vllm#42390",
        {**MOE, "precision": "fp8", "tensor_parallel": 2, **cc(8, 6), **v("0.24.0")},
        {"tensor_parallel": 1},
    ),
    (
        "quantised-experts-parallel",
        REFUSE,
        "github.com/noonghunna/club-3090 scripts/lib/profiles/models/gemma-4-26b-a4b.yml",
        {**MOE, "precision": "fp8", "tensor_parallel": 4},
        {"tensor_parallel": 2},
    ),
    (
        "quantised-experts-parallel",
        REFUSE,
        "github.com/noonghunna/club-3090 scripts/lib/profiles/models/gemma-4-26b-a4b.yml",
        {**MOE, "precision": "w4a16", "tensor_parallel": 8},
        {"variant": "31B"},
    ),
    (
        "quantised-experts-parallel",
        REFUSE,
        "github.com/noonghunna/club-3090 scripts/lib/profiles/models/gemma-4-26b-a4b.yml",
        {**MOE, "precision": "nvfp4", "tensor_parallel": 4},
        {"precision": "bf16"},
    ),
    (
        "nvfp4-experts-parallel",
        REFUSE,
        "vllm#39595",
        {**MOE, "precision": "nvfp4", "tensor_parallel": 2},
        {"tensor_parallel": 1},
    ),
    (
        "nvfp4-experts-parallel",
        REFUSE,
        "vllm#39595",
        {**MOE, "precision": "nvfp4", "tensor_parallel": 2},
        flag("enable-expert-parallel", "true"),
    ),
    ("nvfp4-without-fp4", WARN, "vllm#49376", {"precision": "nvfp4", **cc(8, 0)}, cc(10, 0)),
    ("nvfp4-without-fp4", WARN, "vllm#49376", {"precision": "nvfp4", **cc(8, 9)}, cc(12, 0)),
    ("nvfp4-without-fp4", WARN, "vllm#49376", {"precision": "nvfp4", **cc(9, 0)}, {"precision": "fp8"}),
    (
        "nvfp4-experts-on-gb10",
        WARN,
        "flashinfer-ai/flashinfer#3683",
        {**MOE, "precision": "nvfp4", **cc(12, 1), **v("0.25.1")},
        v("0.28.0"),
    ),
    ("awq-experts-keys", REFUSE, "vllm#40247", {**MOE, "precision": "w4a16", **v("0.19.1")}, v("0.22.0")),
    (
        "awq-experts-before-0.22",
        WARN,
        "noonghunna/club-3090#333",
        {**MOE, "precision": "w4a16", **v("0.21.0")},
        v("0.22.0"),
    ),
    ("awq-long-context-hang", WARN, "vllm#40002", {**MOE, "precision": "w4a16", **v("0.20.0")}, v("0.20.1")),
    ("nvfp4-experts-keys", WARN, "vllm#39256", {**MOE, "precision": "nvfp4", **v("0.19.1")}, v("0.20.0")),
    (
        "autoround-experts-on-ampere",
        REFUSE,
        "noonghunna/club-3090#333",
        {**MOE, **cc(8, 6), "repository": "Intel/gemma-4-26B-A4B-it-int4-AutoRound"},
        {"repository": "cyankiwi/gemma-4-26B-A4B-it-AWQ-4bit"},
    ),
    (
        "fp8-checkpoints-of-spring",
        WARN,
        "vllm-project/llm-compressor#2714",
        {"precision": "fp8", **v("0.19.1")},
        v("0.20.0"),
    ),
    (
        "fp8-block-garbage",
        WARN,
        "vllm#39407",
        {"repository": "RedHatAI/gemma-4-31B-it-FP8-block", **v("0.19.1")},
        {"repository": "RedHatAI/gemma-4-31B-it-FP8-dynamic"},
    ),
    (
        "fp8-block-warm-up-on-sm120",
        WARN,
        "vllm#47130",
        {"repository": "RedHatAI/gemma-4-31B-it-FP8-block", **cc(12, 0), **v("0.24.0")},
        v("0.23.0"),
    ),
    (
        "fp8-block-warm-up-on-sm120",
        WARN,
        "vllm#47130",
        {"repository": "RedHatAI/gemma-4-31B-it-FP8-block", **cc(12, 1), **v("0.24.0")},
        cc(9, 0),
    ),
    ("gemma4-before-0.19.1", REFUSE, "vllm#38826", v("0.19.0"), v("0.19.1")),
    ("unified-before-0.23", REFUSE, "vllm#44494", {"variant": "12B", **v("0.22.1")}, v("0.23.0")),
    (
        "unified-and-own-image",
        WARN,
        "timothystewart6/vllm-gb10#97",
        {"variant": "12B", **v("0.28.0"), **uses("own-image")},
        v("0.29.0"),
    ),
    ("arm64-image-0.27.1", REFUSE, "0xBakeer/inference-atlas#14", {**v("0.27.1"), **ARM64}, v("0.28.0")),
    (
        "arm64-image-0.27.1",
        REFUSE,
        "0xBakeer/inference-atlas#14",
        {**v("0.27.1"), **ARM64},
        uses("own-image"),
    ),
    ("transformers-5.15", REFUSE, "vllm#52768", v("0.26.0"), v("0.28.0")),
    ("transformers-5.15", REFUSE, "vllm#52768", v("0.27.0"), v("0.25.1")),
    ("transformers-5.15", REFUSE, "vllm#52768", v("0.27.1"), uses("own-image")),
    ("transformers-5.15", REFUSE, "vllm#52768", v("0.27.1"), uses("no-image")),
    ("transformers-5.15-and-own-image", WARN, "vllm#51744", {**v("0.27"), **uses("own-image")}, v("0.28.0")),
    ("graphs-not-reserved", WARN, "vllm#50159", v("0.28.0"), v("0.29.0")),
    ("graphs-not-reserved", WARN, "vllm#50159", v("0.25.1"), MOE),
    ("graphs-not-reserved", WARN, "vllm#50159", v("0.28.0"), flag("enforce-eager", "true")),
    ("slow-attention-before-0.24", LIMIT, "vllm#42175", v("0.23.0"), v("0.24.0")),
    (
        "flash-attention-by-hand",
        REFUSE,
        "vllm#38887",
        {**cc(8, 9), **flag("attention-backend", "FLASH_ATTN")},
        flag("attention-backend", "TRITON_ATTN"),
    ),
    (
        "flash-attention-by-hand-on-sm120",
        REFUSE,
        "flashinfer-ai/flashinfer#4546",
        {**cc(12, 0), **flag("attention-backend", "FLASH_ATTN")},
        {"flags": {}},
    ),
    (
        "flash-attention-by-hand-elsewhere",
        WARN,
        "vllm#48082",
        flag("attention-backend", "FLASH_ATTN"),
        {"flags": {}},
    ),
    (
        "flashinfer-by-hand",
        REFUSE,
        "vllm#40677",
        {**v("0.21.0"), **flag("attention-backend", "FLASHINFER")},
        v("0.24.0"),
    ),
    (
        "flashinfer-by-hand-on-sm120",
        WARN,
        "flashinfer-ai/flashinfer#4546",
        {**cc(12, 0), **flag("attention-backend", "FLASHINFER")},
        cc(9, 0),
    ),
    ("kv-offloading-connector", REFUSE, "vllm#42348", OFFLOADING, NIXL),
    ("kv-offloading-size", REFUSE, "vllm#42348", flag("kv-offloading-size", "64"), {"flags": {}}),
    ("kv-connector-before-0.22", LIMIT, "vllm#30166", {**NIXL, **v("0.21.0")}, v("0.22.0")),
    ("kv-connector-without-hybrid", LIMIT, "vllm#42437", LMCACHE, NIXL),
    (
        "hybrid-manager-off",
        LIMIT,
        "vllm#25363",
        flag("disable-hybrid-kv-cache-manager", "true"),
        flag("disable-hybrid-kv-cache-manager", "false"),
    ),
    ("blocks-by-hand", REFUSE, "vllm#39734", flag("num-gpu-blocks-override", "512"), {"flags": {}}),
    (
        "pipeline-parallel",
        REFUSE,
        "vllm#39669",
        {**v("0.19.1"), **flag("pipeline-parallel-size", "2")},
        flag("pipeline-parallel-size", "1"),
    ),
    (
        "audio-without-ears",
        REFUSE,
        "EvolvingLMMs-Lab/lmms-eval#1539",
        {"modalities": frozenset({"text", "audio"})},
        {"variant": "12B"},
    ),
    (
        "audio-without-ears",
        REFUSE,
        "EvolvingLMMs-Lab/lmms-eval#1539",
        {**MOE, "modalities": frozenset({"text", "audio"})},
        {"variant": "E2B"},
    ),
    (
        "video-frames",
        LIMIT,
        "vllm#40464",
        {"modalities": frozenset({"text", "video"})},
        {"modalities": GOOD.modalities},
    ),
    ("lora-before-0.20", REFUSE, "vllm#40693", {**v("0.19.1"), **uses("lora")}, v("0.20.0")),
    ("lora-on-experts", REFUSE, "vllm#53470", {**MOE, **v("0.24.0"), **uses("lora")}, v("0.25.1")),
    ("lora-on-experts", REFUSE, "vllm#53470", {**MOE, **v("0.24.0"), **uses("lora")}, {"variant": "E4B"}),
    ("lora-of-towers", REFUSE, "vllm#42662", {**TOWERS, **v("0.27.1"), **uses("lora")}, v("0.28.0")),
    ("lora-of-towers", REFUSE, "vllm#42662", {**TOWERS, **v("0.25.1"), **uses("lora")}, {"flags": {}}),
    ("lora-of-unsloth", WARN, "vllm#41754", uses("lora"), {"features": GOOD.features}),
    ("mtp-before-0.21", REFUSE, "vllm#42005", {**v("0.20.2"), **DRAFTS}, v("0.21.0")),
    ("mtp-under-load", WARN, "vllm#43982", {**v("0.22.1"), **DRAFTS}, v("0.23.0")),
    ("mtp-and-tools", REFUSE, "vllm#41967", {**v("0.24.0"), **DRAFTS}, v("0.25.1")),
    (
        "mtp-and-tools",
        REFUSE,
        "vllm#41967",
        {**v("0.21.0"), **DRAFTS},
        {"features": frozenset({"speculative-decoding"})},
    ),
    ("mtp-on-experts-0.25", REFUSE, "vllm#49008", {**MOE, **v("0.25.1"), **DRAFTS}, {"variant": "31B"}),
    ("mtp-on-experts-0.25", REFUSE, "vllm#49008", {**MOE, **v("0.26.0"), **DRAFTS}, v("0.27.0")),
    (
        "mtp-with-fp8-kv-on-hopper",
        REFUSE,
        "vllm#48848",
        {**v("0.30.0"), **FP8_KV, **DRAFTS},
        v("0.31.0"),
    ),
    ("mtp-on-sm100", WARN, "vllm#48082", {**cc(10, 0), **DRAFTS}, cc(9, 0)),
    ("tools-and-thinking-parsers", WARN, "vllm#44522", v("0.22.0"), v("0.24.0")),
    (
        "tools-and-thinking-parsers",
        WARN,
        "vllm#44522",
        v("0.22.0"),
        {"features": frozenset({"tool-calling"})},
    ),
    ("tools-under-load-on-ampere", WARN, "vllm#39392", {**cc(8, 6), **v("0.25.1")}, v("0.28.0")),
    ("turn-tag-in-answers", WARN, "vllm#49955", v("0.28.0"), v("0.29.0")),
    (
        "turn-tag-in-answers",
        WARN,
        "vllm#49955",
        v("0.28.0"),
        {"features": frozenset({"tool-calling", "thinking"})},
    ),
    ("thinking-budget", LIMIT, "vllm#50473", v("0.25.1"), v("0.28.0")),
    ("thinking-budget", LIMIT, "vllm#50473", v("0.25.1"), {"features": frozenset({"tool-calling"})}),
    (
        "forced-tool-choice",
        LIMIT,
        "vllm#50477",
        {"named_features": frozenset({"tool-calling"})},
        {"named_features": frozenset()},
    ),
    (
        "tool-call-after-thought",
        LIMIT,
        "vllm#54256",
        {"named_features": frozenset({"tool-calling"})},
        {"features": frozenset({"tool-calling"})},
    ),
]


def found(asked, effect):
    return {entry.name: entry for entry in matching(packaged().incompatibilities, asked, effect)}


@pytest.mark.parametrize(("name", "effect", "first", "bad", "good"), TABLE)
def test_a_known_combination_has_its_verdict_and_its_neighbour_has_not(name, effect, first, bad, good):
    asked = replace(GOOD, **bad)
    hit = found(asked, effect).get(name)
    assert hit is not None
    assert reference(hit.sources[0]) == first
    assert first in hit.told
    assert name not in found(replace(asked, **good), effect)


def test_every_entry_has_a_row():
    assert {entry.name for entry in packaged().incompatibilities} == {row[0] for row in TABLE}


def test_todays_engine_with_everything_left_open_is_plainly_good():
    """Whatever is said of a `spec: {}` on today's engine would be said of every plan."""
    for variant in packaged().variants:
        for capability in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0)):
            asked = replace(GOOD, variant=variant, compute_capability=capability)
            assert not any(found(asked, effect) for effect in Effect)


def test_there_are_enough_upstream_threads_and_each_message_fits_a_status():
    entries = packaged().incompatibilities
    threads = {
        reference(source)
        for entry in entries
        for source in entry.sources
        if "/issues/" in source or "/pull/" in source
    }
    assert len(threads) >= 25
    assert all(len(entry.told) <= 256 for entry in entries)


def test_a_limit_that_changes_the_sums_is_decided_by_the_request_alone():
    for entry in packaged().incompatibilities:
        if not entry.hybrid_kv_cache:
            asked = (
                entry.variants,
                entry.precisions,
                entry.capabilities,
                entry.tensor_parallel,
                entry.repositories,
            )
            assert asked == (None, None, None, None, ())
            assert entry.effect is Effect.LIMIT


def test_what_is_not_known_matches_nothing_that_asks_for_it():
    unknown = replace(
        GOOD, compute_capability=None, driver_major=None, architecture="", kv_cache_precision="FP8"
    )
    assert known_bad(packaged().incompatibilities, unknown) is None


def test_a_cache_precision_that_is_open_matches_nothing_about_it():
    assert known_bad(packaged().incompatibilities, replace(GOOD, compute_capability=(8, 0))) is None


def test_entries_of_older_engines_are_left_out_for_a_newer_one():
    names = {entry.name for entry in of_engine(packaged().incompatibilities, "VLLM", "0.32")}
    assert "turing" in names
    assert not names & {"mtp-before-0.21", "unified-before-0.23", "transformers-5.15"}
    older = of_engine(packaged().incompatibilities, "VLLM", "0.18.0")
    assert "gemma4-before-0.19.1" in {entry.name for entry in older}


def test_what_is_known_of_one_engine_says_nothing_of_another():
    turing = replace(GOOD, compute_capability=(7, 5))
    assert known_bad(packaged().incompatibilities, turing) is not None
    assert known_bad(packaged().incompatibilities, replace(turing, engine="OTHER")) is None
    assert of_engine(packaged().incompatibilities, "OTHER", "0.32") == ()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://github.com/vllm-project/vllm/issues/1", "vllm#1"),
        ("https://github.com/vllm-project/vllm/pull/2", "vllm#2"),
        ("https://github.com/a/b/pull/3", "a/b#3"),
        ("https://forums.developer.nvidia.com/t/365814", "forums.developer.nvidia.com/t/365814"),
        ("vLLM 0.32.0 config/vllm.py:2177", "vLLM 0.32.0 config/vllm.py:2177"),
    ],
)
def test_a_reference_is_short(source, said):
    assert reference(source) == said


def _one_by_one(candidate, shape, kv_precision, effect):
    """What the entries say of one candidate when nothing is kept from another."""
    asked = replace(
        GOOD,
        variant=candidate.variant.name,
        precision=candidate.precision,
        accelerator=shape.accelerator,
        compute_capability=shape.compute_capability,
        engine_version="0.24.0",
        tensor_parallel=candidate.tensor_parallel,
        kv_cache_precision=kv_precision.value,
        repository=candidate.checkpoint.repo,
        driver_major=shape.driver_major,
        architecture=shape.arch,
        sharing=shape.sharing.value,
    )
    return tuple(entry.told for entry in matching(packaged().incompatibilities, asked, effect))


@pytest.mark.parametrize("seed", range(3))
def test_what_one_candidate_was_told_is_never_told_another(seed):
    """Answers are put together from what is kept by card and by checkpoint, in whatever order they were asked."""
    catalog = packaged()
    cards = [
        a_pool("nvidia-h100-80gb"),
        a_pool("nvidia-h100-80gb", driver_major=570, arch="arm64"),
        a_pool("nvidia-rtx-4090", sharing=Sharing.MPS),
        a_pool("nvidia-a100-80gb"),
        a_pool("nvidia-t4"),
        a_pool("amd-mi300x"),
        a_pool("nvidia-b200", compute_capability=None),
    ]
    asked = [
        (Candidate(catalog.variants[each.variant], each, each.precision, shape, gpus), kv)
        for each in catalog.checkpoints
        for shape in cards
        for gpus in (1, 2, 8)
        for kv in KvPrecision
    ]
    Random(seed).shuffle(asked)
    known = Compatibility(a_request(engine_version="0.24.0", features=GOOD.features), catalog)
    told = set()
    for candidate, kv in asked:
        shape = candidate.shape
        refused = _one_by_one(candidate, shape, kv, REFUSE)
        assert known.refusal(candidate, shape, kv_precision=kv) == next(iter(refused), None)
        assert known.warnings(candidate, shape, kv) == _one_by_one(candidate, shape, kv, WARN)
        assert known.limits(candidate, shape, kv) == _one_by_one(candidate, shape, kv, LIMIT)
        told.update(refused)
    assert len(told) > 5
