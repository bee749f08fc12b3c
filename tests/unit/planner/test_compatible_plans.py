"""What compatibility.yaml does to plans: candidates that are refused, plans that are marked, sums that change."""

from dataclasses import replace

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import explain
from gemma_operator.planner.compatibility import Compatibility
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.needs import Needs
from gemma_operator.planner.values import Candidate, Code, KvPrecision
from unit.planner.shapes import a_pool, a_request

BF16 = {"precisions": ("bf16",), "context_length": 8192}
LMCACHE = (("kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1"}'),)


def the_fit(request, pool):
    found = feasible(request, [pool], packaged())
    assert found.fits, [r.details for r in found.rejections]
    return found.fits[0]


def the_refusals(request, pool):
    found = feasible(request, [pool], packaged())
    assert not found.fits
    return {(r.code, str(r.details["message"])) for r in found.rejections}


def a_candidate(pool, *, variant="31B", precision="bf16", gpus=1):
    catalog = packaged()
    checkpoint = next(c for c in catalog.checkpoints if (c.variant, c.precision) == (variant, precision))
    return Candidate(catalog.variants[variant], checkpoint, precision, pool, gpus)


@pytest.mark.parametrize(
    ("asked", "pool", "said"),
    [
        ({}, {"compute_capability": (7, 5)}, "vllm#57712"),
        ({}, {"compute_capability": (7, 0)}, "vllm#39878"),
        ({"kv_cache_precision": "FP8"}, {"compute_capability": (8, 0)}, "vllm#49077"),
        ({"engine_version": "0.27.1"}, {}, "vllm#52768"),
        ({"engine_version": "0.18.0"}, {}, "vllm#38826"),
        ({"engine_overrides": (("kv-offloading-size", "64"),)}, {}, "vllm#42348"),
        (
            {"engine_overrides": (("attention-backend", "FLASH_ATTN"),)},
            {"compute_capability": (12, 0)},
            "flashinfer-ai/flashinfer#4546",
        ),
    ],
)
def test_what_is_known_to_be_bad_is_refused_with_its_reference(asked, pool, said):
    refused = the_refusals(a_request("E4B", **{**BF16, **asked}), a_pool(gpus=1, **pool))
    assert {code for code, _ in refused} == {Code.INCOMPATIBLE}
    assert all(said in message for _, message in refused)


def test_twelve_b_is_refused_until_its_version():
    request = a_request("12B", **BF16, engine_version="0.22.1")
    assert any("vllm#44494" in message for _, message in the_refusals(request, a_pool(gpus=1)))
    assert the_fit(replace(request, engine_version="0.23.0"), a_pool(gpus=1))


def test_quantised_experts_are_not_split_over_four_gpus():
    found = feasible(
        a_request("26B-A4B", precisions=("fp8",), context_length=8192), [a_pool(gpus=4)], packaged()
    )
    assert {fit.candidate.tensor_parallel for fit in found.fits} == {1, 2}


def test_an_own_image_may_be_of_a_version_whose_published_one_does_not_start():
    request = a_request("E4B", **BF16, engine_version="0.27.1", engine_image="us/vllm:1")
    fit = the_fit(request, a_pool("nvidia-l4", gpus=1))
    assert any("transformers 5.14.1" in said for said in fit.unverified)


def test_an_own_image_may_run_on_an_older_driver():
    request = a_request("E4B", **BF16)
    pool = a_pool("nvidia-l4", gpus=1, driver_major=535)
    assert the_refusals(request, pool)
    own = the_fit(replace(request, engine_image="us/vllm:cu129"), pool)
    assert any("driver below 580" in said for said in own.unverified)


def test_a_warning_marks_the_plan_and_stands_in_its_reason():
    request = a_request("31B", precisions=("nvfp4",), context_length=8192)
    fit = the_fit(request, a_pool(gpus=1))
    assert any("vllm#49376" in said for said in fit.unverified)
    assert "unverified: NVFP4 runs as weight-only (Marlin)" in explain.reason(fit, request)
    assert the_fit(request, a_pool("nvidia-b200", gpus=1)).unverified == ()


def test_a_limit_stands_in_the_reason_and_marks_nothing():
    request = a_request("E4B", **BF16, modalities=frozenset({"text", "video"}))
    fit = the_fit(request, a_pool("nvidia-l4", gpus=1))
    assert fit.unverified == ()
    assert "a video is sampled to 32 frames at most (vllm#40464)" in explain.reason(fit, request)


def test_tools_are_spoken_of_to_those_who_ask_for_them():
    request = a_request("E4B", **BF16)
    pool = a_pool("nvidia-l4", gpus=1)
    assert the_fit(request, pool).limits == ()
    named = the_fit(replace(request, named_features=frozenset({"tool-calling"})), pool)
    assert any("vllm#50477" in said for said in named.limits)
    assert named.unverified == ()


def test_tools_with_thinking_on_an_old_engine_are_never_silent():
    """Even where neither was written: both are on by default."""
    request = a_request("E4B", **BF16, engine_version="0.22.0")
    fit = the_fit(request, a_pool("nvidia-l4", gpus=1))
    assert any("vllm#44522" in said and "0.24" in said for said in fit.unverified)


def test_a_kv_connector_without_the_hybrid_manager_is_planned_with_what_it_takes():
    """31B keeps 901,120 bytes for each token, in place of 81,920 and its windows."""
    request = a_request("31B", precisions=("fp8",), context_length=32768)
    pool = a_pool("nvidia-h200", gpus=1)
    with_manager, without = the_fit(request, pool), the_fit(replace(request, engine_overrides=LMCACHE), pool)
    assert any("vllm#42437" in said and "11 times" in said for said in without.limits)
    assert without.unverified == ()
    assert with_manager.kv_tokens > without.kv_tokens
    assert without.kv_tokens == without.memory.kv_cache_bytes // (901_120 * 16) * 16


def test_without_the_hybrid_manager_the_cache_grows_eleven_times_as_fast():
    request = a_request("31B", **BF16)
    pool = a_pool("nvidia-h200", gpus=1)

    def growth(overrides):
        needs = Needs(replace(request, engine_overrides=overrides), packaged())
        short, long = (
            needs.row(
                a_candidate(pool),
                pool,
                context_length=length,
                kv_precision=KvPrecision.BF16,
                batched_tokens=2048,
            ).kv_bytes
            for length in (65536, 131072)
        )
        return long - short

    assert growth(()) == 81_920 * 65536
    assert growth(LMCACHE) == 11 * growth(())


def test_the_flag_itself_and_an_old_engine_do_the_same():
    request = a_request("31B", precisions=("fp8",), context_length=32768)
    nixl = (("kv-transfer-config", '{"kv_connector":"NixlConnector"}'),)
    off = replace(request, engine_overrides=(("disable-hybrid-kv-cache-manager", "true"),))
    old = replace(request, engine_overrides=nixl, engine_version="0.21.0")
    assert Compatibility(request, packaged()).hybrid_kv_cache
    assert Compatibility(replace(request, engine_overrides=nixl), packaged()).hybrid_kv_cache
    assert not Compatibility(off, packaged()).hybrid_kv_cache
    assert not Compatibility(old, packaged()).hybrid_kv_cache


def test_a_drafter_is_asked_for_by_itself():
    """A drafter that is refused is left out; the candidate still serves."""
    request = a_request("31B", **BF16, engine_version="0.24.0")
    pool = a_pool(gpus=1)
    known = Compatibility(request, packaged())
    candidate = a_candidate(pool)
    assert known.refusal(candidate, pool) is None
    assert "vllm#41967" in known.refusal(candidate, pool, drafting=True)
    without_tools = Compatibility(replace(request, features=frozenset()), packaged())
    assert without_tools.refusal(candidate, pool, drafting=True) is None
    today = Compatibility(replace(request, engine_version="0.32"), packaged())
    assert today.refusal(candidate, pool, drafting=True, kv_precision=KvPrecision.FP8) is None


def test_an_unknown_capability_is_refused_nothing_and_marked_elsewhere():
    pool = a_pool("unknown", gpus=1, memory_mib=81559, product="NVIDIA-X1")
    fit = the_fit(a_request("E4B", **BF16), pool)
    assert any("NVIDIA-X1" in said for said in fit.unverified)
