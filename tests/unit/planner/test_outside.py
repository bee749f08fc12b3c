"""What lies outside `--gpu-memory-utilization` and kills a start whose sum fits."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import explain
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.values import Code, Fit, Rejection
from unit.planner.shapes import a_pool, a_request

ASLEEP = (("enable-sleep-mode", "true"),)


def verdict(card, *, version, overrides=ASLEEP, variant="E4B"):
    request = a_request(
        variant, precisions=("bf16",), engine_version=version, engine_overrides=overrides, max_accelerators=1
    )
    found = feasible(request, [a_pool(card, gpus=1)], packaged())
    (only,) = (*found.fits, *found.rejections)
    return only


def test_a_deployment_that_sleeps_is_refused_where_too_little_is_left_alone():
    """24 GB x 0.08 is 1.8 GiB; what the profiling run does not see was 3.7."""
    refused = verdict("nvidia-l4", version="0.25.1")
    assert isinstance(refused, Rejection)
    assert refused.code is Code.INCOMPATIBLE
    assert "take 0.27.0 or newer" in refused.details["message"]


def test_a_deployment_that_sleeps_is_doubted_where_enough_is_left_alone():
    doubted = verdict("nvidia-h200", version="0.25.1")
    assert isinstance(doubted, Fit)
    assert doubted.tight
    assert any("sleep mode hides" in said for said in doubted.unverified)


def test_the_reason_of_a_doubted_plan_says_what_is_doubted_and_not_that_it_is_inside_the_band():
    fit = verdict("nvidia-h200", version="0.25.1")
    said = explain.reason(fit, a_request("E4B"))
    assert "what lies outside --gpu-memory-utilization may not, so the engine may refuse to start" in said
    assert "band" not in said


@pytest.mark.parametrize(
    ("version", "overrides"),
    [("0.28.0", ASLEEP), ("0.32", ASLEEP), ("0.25.1", ()), ("0.25.1", (("enable-sleep-mode", "false"),))],
)
def test_an_engine_that_sees_all_and_one_that_does_not_sleep_are_not_doubted(version, overrides):
    found = verdict("nvidia-l4", version=version, overrides=overrides)
    assert isinstance(found, Fit)
    assert not found.tight
    assert not any("hides" in said for said in found.unverified)


def test_sleep_mode_stays_unverified_with_every_engine():
    assert "--enable-sleep-mode" in verdict("nvidia-l4", version="0.32").unverified


def test_host_memory_is_said_of_the_one_card_that_has_it():
    found = verdict("nvidia-gb10", version="0.33.0", overrides=())
    assert any("is its host's" in said for said in found.unverified)
    assert verdict("nvidia-h200", version="0.33.0", overrides=()).unverified == ()


def test_a_device_too_small_to_be_used_is_too_small_and_not_asked_for_whole():
    """A slice of 100 MiB shows torch nothing, so nothing of it is left alone at any utilization."""
    request = a_request("E4B", precisions=("bf16",), max_accelerators=1)
    found = feasible(request, [a_pool("nvidia-l4", gpus=1, memory_mib=100)], packaged())
    (refused,) = found.rejections
    assert refused.code is Code.WEIGHTS_TOO_LARGE
