"""What an engine measured is part of every later sum for the same inputs, and the same engine is not tried twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api.conditions import Reason
from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import correction, remarks
from gemma_operator.planner.correction import Refusal
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.plan import from_annotation, from_fit, from_status, to_annotation, to_status
from gemma_operator.planner.values import PlannedMemory
from plans import a_plan
from unit.planner.builders import a_request, a_shape

L4 = a_shape("l4")
E4B = a_request(variants=("E4B",), precisions=("bf16",))
PLAN = a_plan(memory=PlannedMemory(weights=30000, kv_cache=3000, overhead=1400, band=1024, total=34400))


def kv(*, needed, available):
    return Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=needed - available, kv_cache_mib=available)


@pytest.mark.parametrize(
    ("refusal", "mib"),
    [
        (kv(needed=2500, available=2000), 1000),  # 3000 promised, 2000 there
        (kv(needed=3600, available=3100), 500),  # as much as promised, and the engine needs more of it
        (kv(needed=2500, available=2499), 501),
        (Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=0, kv_cache_mib=-300), 3300),
        (Refusal(Reason.OUT_OF_MEMORY, short_mib=686), 686),
        (Refusal(Reason.KV_CACHE_TOO_SMALL, short_mib=0, kv_cache_mib=3000), 1),
    ],
)
def test_the_correction_is_what_was_promised_beyond_what_was_measured(refusal, mib):
    assert correction.correction_mib(PLAN, refusal) == mib


def sums(*, mib, request=E4B):
    catalog = correction.corrected(packaged(), "VLLM", mib)
    return feasible(request, [L4], catalog)


def test_corrected_sums_have_so_much_more_overhead_and_so_much_less_cache():
    (before,), (after,) = sums(mib=0).fits, sums(mib=300).fits
    assert after.settings == before.settings
    more = after.memory.overhead_bytes - before.memory.overhead_bytes
    less = before.memory.kv_cache_bytes - after.memory.kv_cache_bytes
    assert more == less == pytest.approx(300 * 1024**2, abs=2)
    assert after.memory.total_bytes == before.memory.total_bytes


def test_without_a_correction_the_catalog_is_the_same():
    assert correction.corrected(packaged(), "VLLM", 0) is packaged()


def test_a_correction_that_leaves_no_room_is_a_rejection_with_its_figures():
    mib = sums(mib=0).fits[0].memory.kv_cache_bytes // 1024**2 + 2000
    verdict = sums(mib=mib)
    assert verdict.fits == ()
    assert max(rejection.details.get("overhead_mib", 0) for rejection in verdict.rejections) > mib


def a_plan_of(fit):
    return from_fit(
        fit, E4B, catalog=packaged(), inputs_hash="0123456789abcdef", planned_at="2026-11-25T09:00:00Z"
    )


def test_the_very_engine_that_refused_is_no_candidate_any_more():
    found = sums(mib=0)
    assert correction.without(found, a_plan_of(found.fits[0])).fits == ()


def test_the_same_engine_with_other_settings_or_elsewhere_is_one():
    found = sums(mib=0)
    plan = a_plan_of(found.fits[0])
    shorter = sums(mib=0, request=a_request(variants=("E4B",), precisions=("bf16",), context_length=4096))
    assert correction.without(shorter, plan).fits == shorter.fits
    elsewhere = feasible(E4B, [a_shape("l4", pool="other")], packaged())
    assert correction.without(elsewhere, plan).fits == elsewhere.fits


def test_a_correction_survives_in_the_annotation_and_in_the_status():
    found = sums(mib=300)
    plan = replace(a_plan_of(found.fits[0]), correction_mib=300)
    assert from_annotation(to_annotation(plan)) == plan
    again = from_status(to_status(plan), found, E4B, catalog=packaged())
    assert (again.correction_mib, again.memory) == (300, plan.memory)


def test_a_plan_says_what_was_measured():
    assert remarks.of(a_plan()) == ""
    assert remarks.of(a_plan(correction_mib=300)) == (
        "reckoned with 300 MiB a GPU more than before, as an engine that refused to start measured"
    )
