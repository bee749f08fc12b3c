"""Every rule that can put a candidate out of the question, one by one."""

import random

import pytest

from gemma_operator.catalog.loader import load, packaged
from gemma_operator.hardware.records import Sharing, Taint, Toleration
from gemma_operator.planner.feasible import feasible, unknown_accelerators
from gemma_operator.planner.values import Code
from gemma_operator.planner.vllm import kv_cache
from unit.planner.shapes import ALL_PRECISIONS, ALL_VARIANTS, GPU_TAINT, a_pool, a_request

SMALL = {"precisions": ("bf16",)}


def verdicts(request, *shapes, catalog=None):
    return feasible(request, shapes, catalog or packaged())


def codes(found):
    return {rejection.code for rejection in found.rejections}


def only(found):
    assert len(found.rejections) == 1
    return found.rejections[0]


def gpus_of(found):
    return {fit.candidate.tensor_parallel for fit in found.fits}


def test_without_pools_nothing_fits_and_nothing_is_rejected_for_a_pool():
    found = verdicts(a_request("E4B", **SMALL))
    assert (found.fits, found.rejections) == ((), ())


def test_all_that_divides_a_node_is_a_candidate():
    assert gpus_of(verdicts(a_request("E4B", **SMALL), a_pool(gpus=8))) == {1, 2, 4, 8}
    assert gpus_of(verdicts(a_request("E4B", **SMALL), a_pool(gpus=5))) == {1, 2, 4}


def test_the_maximum_is_a_ceiling():
    assert gpus_of(verdicts(a_request("E4B", **SMALL, max_accelerators=3), a_pool(gpus=8))) == {1, 2}


@pytest.mark.parametrize("sharing", [Sharing.MIG, Sharing.TIME_SLICING, Sharing.MPS])
def test_slices_and_shares_are_taken_one_by_one(sharing):
    pool = a_pool(gpus=4, sharing=sharing, clients_per_device=1, memory_mib=40320)
    assert gpus_of(verdicts(a_request("E4B", **SMALL, shared_accelerators=True), pool)) == {1}


def test_a_precision_without_checkpoint_is_named():
    rejected = only(verdicts(a_request("12B", precisions=("fp8",)), a_pool()))
    assert rejected.code is Code.NO_CHECKPOINT
    assert (rejected.candidate.variant.name, rejected.candidate.precision) == ("12B", "fp8")
    assert rejected.candidate.shape is None


def test_every_pair_without_checkpoint_is_named():
    found = verdicts(a_request(), a_pool())
    missing = {
        (rejection.candidate.variant.name, rejection.candidate.precision)
        for rejection in found.rejections
        if rejection.code is Code.NO_CHECKPOINT
    }
    assert missing == {("12B", "fp8"), ("E4B", "nvfp4"), ("E2B", "nvfp4")}


def test_a_base_model_has_checkpoints_of_its_own():
    found = verdicts(a_request("E4B", tuning="Base", precisions=("bf16", "fp8")), a_pool(gpus=1))
    assert [fit.candidate.checkpoint.repo for fit in found.fits] == ["google/gemma-4-E4B"]
    assert codes(found) == {Code.NO_CHECKPOINT}


def test_a_context_beyond_the_model_is_refused():
    rejected = only(verdicts(a_request("E4B", **SMALL, context_length=131073), a_pool()))
    assert rejected.code is Code.CONTEXT_TOO_LONG
    assert rejected.details == {"context_length": 131073, "max_context_length": 131072}
    assert codes(verdicts(a_request("E4B", **SMALL, context_length=131072), a_pool())) == set()


def test_audio_needs_a_variant_that_hears():
    found = verdicts(a_request(**SMALL, modalities=frozenset({"text", "audio"})), a_pool())
    deaf = {r.candidate.variant.name for r in found.rejections if r.code is Code.MODALITY_MISSING}
    assert deaf == {"31B", "26B-A4B"}
    assert {fit.candidate.variant.name for fit in found.fits} == {"12B", "E4B", "E2B"}


def test_a_checkpoint_may_lack_a_modality_of_its_variant(tmp_path):
    (tmp_path / "checkpoints.yaml").write_text(
        "gemma-4-e4b-it-bf16: {variant: E4B, precision: bf16, repo: us/text, modalities: [text], source: here}\n"
    )
    rejected = only(verdicts(a_request("E4B", **SMALL), a_pool(), catalog=load(tmp_path)))
    assert rejected.code is Code.MODALITY_MISSING
    assert rejected.details["modalities"] == "image"


@pytest.mark.parametrize(
    ("code", "asked", "pool"),
    [
        (Code.POOL_NOT_ALLOWED, {"pools": ("other",)}, {}),
        (Code.POOL_NOT_ALLOWED, {"pools": ("karpenter-nodepool/h100-80gb",)}, {}),
        (Code.POOL_NOT_ALLOWED, {}, {"namespaces": ("team-b",)}),
        (Code.POOL_NOT_ALLOWED, {}, {"namespaces": ()}),
        (Code.ACCELERATOR_NOT_ALLOWED, {"accelerators": ("nvidia-l4",)}, {}),
        (Code.POOL_REFUSED, {}, {"refused": "its MIG layout is invalid"}),
        (Code.SPOT, {}, {"spot": True}),
        (Code.SPOT, {"spot": "Required"}, {"spot": False}),
        (Code.SPOT, {"spot": "Required"}, {"spot": None}),
        (Code.SHARED, {}, {"sharing": Sharing.TIME_SLICING, "clients_per_device": 4}),
        (Code.SHARED, {}, {"sharing": Sharing.MPS, "clients_per_device": 4}),
        (Code.TAINTED, {}, {"taints": (GPU_TAINT, Taint("team", "a", "NoSchedule"))}),
        (Code.TAINTED, {}, {"taints": (Taint("cloud.google.com/gke-spot", "true", "NoSchedule"),)}),
        (Code.TAINTED, {}, {"taints": (Taint("sku", "other", "NoSchedule"),)}),
        (Code.INCOMPATIBLE, {}, {"driver_major": 579}),
        (Code.NODE_TOO_SMALL, {}, {"accelerators_per_node": 0}),
    ],
)
def test_a_pool_is_out_of_the_question(code, asked, pool):
    rejected = only(verdicts(a_request("E4B", **SMALL, **asked), a_pool(**pool)))
    assert rejected.code is code
    assert rejected.candidate.shape is not None


@pytest.mark.parametrize(
    ("asked", "pool"),
    [
        ({"pools": ("h100-80gb",)}, {}),
        ({"pools": ("other", "gke-nodepool/h100-80gb")}, {}),
        ({"accelerators": ("nvidia-l4", "nvidia-h100-80gb")}, {}),
        ({}, {"spot": None}),
        ({"spot": "Allowed"}, {"spot": True}),
        ({"spot": "Required"}, {"spot": True}),
        ({}, {"sharing": Sharing.MIG, "memory_mib": 40320}),
        (
            {},
            {
                "taints": (
                    GPU_TAINT,
                    Taint("sku", "gpu", "NoSchedule"),
                    Taint("amd.com/gpu", "", "NoSchedule"),
                )
            },
        ),
        (
            {"spot": "Allowed"},
            {
                "spot": True,
                "taints": (
                    Taint("cloud.google.com/gke-spot", "true", "NoSchedule"),
                    Taint("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule"),
                ),
            },
        ),
        (
            {"tolerations": (Toleration("team", "Equal", "a", "NoSchedule"),)},
            {"taints": (Taint("team", "a", "NoSchedule"),)},
        ),
        (
            {},
            {
                "taints": (Taint("team", "a", "NoSchedule"),),
                "tolerations": (Toleration("team", "Exists", "", ""),),
            },
        ),
        ({}, {"driver_major": 580}),
        ({}, {"driver_major": None}),
    ],
)
def test_a_pool_is_a_candidate(asked, pool):
    found = verdicts(a_request("E4B", **SMALL, **asked), a_pool(**pool))
    assert codes(found) == set()
    assert found.fits


@pytest.mark.parametrize("name", [c.name for c in packaged().accelerators.values() if c.refused])
def test_a_chip_that_is_recognised_only_to_be_refused(name):
    rejected = only(verdicts(a_request("E2B", **SMALL), a_pool(name, memory_mib=200_000)))
    assert rejected.code is Code.POOL_REFUSED
    assert rejected.details["message"] == packaged().accelerators[name].refused


@pytest.mark.parametrize("name", [c.name for c in packaged().accelerators.values() if not c.refused])
def test_every_other_card_runs_the_smallest_model(name):
    """One whose memory no driver has printed needs a node that tells it."""
    card = packaged().accelerators[name]
    told = {} if card.memory_mib or card.visible_mib else {"memory_mib": 32000}
    assert verdicts(a_request("E2B", precisions=("w4a16",)), a_pool(name, gpus=1, **told)).fits
    if told:
        assert only(verdicts(a_request("E2B", **SMALL), a_pool(name, gpus=1))).code is Code.UNKNOWN_MEMORY


def test_quantised_experts_are_not_shared_by_more_than_two():
    found = verdicts(a_request("26B-A4B", precisions=("fp8",)), a_pool(gpus=8))
    assert gpus_of(found) == {1, 2}
    refused = [r for r in found.rejections if r.code is Code.INCOMPATIBLE]
    assert {r.candidate.tensor_parallel for r in refused} == {4, 8}
    assert all("704-wide" in str(r.details["message"]) for r in refused)


def test_an_fp8_cache_that_the_user_insists_on_needs_a_card_that_can():
    asked = a_request("E4B", **SMALL, kv_cache_precision="FP8")
    assert codes(verdicts(asked, a_pool("nvidia-a100-80gb", gpus=1))) == {Code.INCOMPATIBLE}
    assert verdicts(asked, a_pool("nvidia-l4", gpus=1)).fits


def test_a_card_that_is_too_old_for_the_checkpoint():
    old = a_pool("unknown", gpus=1, memory_mib=49152, compute_capability=(7, 5))
    assert codes(verdicts(a_request("E4B", **SMALL), old)) == {Code.INCOMPATIBLE}


def test_a_checkpoint_may_need_more_than_its_family(tmp_path):
    (tmp_path / "checkpoints.yaml").write_text(
        "gemma-4-e4b-it-bf16: {variant: E4B, precision: bf16, repo: us/new, source: here, tensorParallel: [2],"
        " minimumEngineVersion: '0.31.0', minimumComputeCapability: '9.0'}\n"
    )
    catalog = load(tmp_path)
    on_l4 = verdicts(a_request("E4B", **SMALL), a_pool("nvidia-l4", gpus=2), catalog=catalog)
    assert codes(on_l4) == {Code.INCOMPATIBLE}
    assert {str(r.details["message"]) for r in on_l4.rejections} == {
        "us/new does not divide by 1 GPUs, only by 2",
        "us/new needs compute capability 9.0, nvidia-l4 has 8.9",
    }
    assert gpus_of(verdicts(a_request("E4B", **SMALL), a_pool(gpus=2), catalog=catalog)) == {2}
    older = verdicts(a_request("E4B", **SMALL, engine_version="0.30.0"), a_pool(gpus=2), catalog=catalog)
    assert "us/new needs VLLM 0.31.0, and 0.30.0 is asked for" in {
        str(r.details["message"]) for r in older.rejections
    }


def test_vertex_is_rejected_by_name():
    found = verdicts(a_request("E4B", **SMALL, backends=("Vertex", "Kubernetes")), a_pool(gpus=1))
    assert only(found).code is Code.BACKEND_NOT_AVAILABLE
    assert only(found).candidate.backend == "Vertex"
    assert found.fits
    assert not verdicts(a_request("E4B", **SMALL, backends=("Vertex",)), a_pool(gpus=1)).fits


def test_weights_and_cache_are_rejected_with_numbers():
    found = verdicts(a_request("31B", precisions=("bf16", "w4a16")), a_pool("nvidia-l4", gpus=1))
    by_precision = {r.candidate.precision: r.code for r in found.rejections}
    assert by_precision == {"bf16": Code.WEIGHTS_TOO_LARGE, "w4a16": Code.KV_CACHE_TOO_SMALL}
    assert all(r.details["usable_mib"] == 20753 for r in found.rejections)


def test_the_order_of_pools_changes_nothing():
    pools = [a_pool(name) for name in ("nvidia-l4", "nvidia-h100-80gb", "nvidia-t4", "nvidia-a100-80gb")]
    first = feasible(a_request(), pools, packaged())
    for seed in range(5):
        shuffled = random.Random(seed).sample(pools, len(pools))
        assert feasible(a_request(), shuffled, packaged()) == first


def test_equal_cards_of_two_pools_have_equal_verdicts():
    found = verdicts(a_request("31B"), a_pool(name="one", gpus=2), a_pool(name="two", gpus=2))
    by_pool = {
        name: [(f.settings, f.memory, f.tight) for f in found.fits if f.candidate.shape.id.name == name]
        for name in ("one", "two")
    }
    assert by_pool["one"] == by_pool["two"] != []


def test_a_node_of_eight_h100_holds_everything_there_is():
    found = verdicts(a_request(), a_pool(gpus=8))
    held = {(fit.candidate.variant.name, fit.candidate.precision) for fit in found.fits}
    assert held == {
        (checkpoint.variant, checkpoint.precision)
        for checkpoint in packaged().checkpoints
        if checkpoint.tuning == "Instruct"
    }
    assert {variant for variant, _ in held} == set(ALL_VARIANTS)
    assert {precision for _, precision in held} == set(ALL_PRECISIONS)


def test_an_unknown_accelerator_is_told_the_nearest_names():
    asked = a_request(accelerators=("nvidia-h100", "nvidia-l4", "A100", "nvidia-rtx4090", "qqq"))
    assert unknown_accelerators(asked, packaged()) == {
        "nvidia-h100": ("nvidia-h100-80gb", "nvidia-h100-nvl"),
        "A100": ("nvidia-a100-40gb", "nvidia-a100-80gb"),
        "nvidia-rtx4090": ("nvidia-rtx-4090", "nvidia-rtx-5090", "nvidia-rtx-3090"),
        "qqq": (),
    }
    assert unknown_accelerators(a_request(), packaged()) == {}


def test_a_thousand_candidates_are_judged_without_a_thousand_sums(monkeypatch):
    """By count, not by the clock: equal cards share their verdict, and settings their sums."""
    sums = []
    reckon = kv_cache.layout
    monkeypatch.setattr(kv_cache, "layout", lambda *args, **kwargs: sums.append(1) or reckon(*args, **kwargs))
    pools = [a_pool(name=f"pool-{number}", gpus=8) for number in range(20)]
    found = feasible(a_request(), pools, packaged())
    assert len(found.fits) + len(found.rejections) >= 1000
    assert len(sums) < 200
