"""The memory sum adds up, and its figures are those that the plan was made of."""

from dataclasses import replace

import pytest

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.planner import sums
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.values import Code

CATALOG = packaged()
CARDS = ("nvidia-l4", "nvidia-a100-80gb", "nvidia-h100-80gb", "nvidia-b200")


def verdicts(**serving):
    declared = [DeclaredPool(card, card, 8, (("pool", card),)) for card in CARDS]
    request = from_spec("team", GemmaDeploymentSpec.model_validate({"serving": serving}))
    found = feasible(request, [pool.shape for pool in pools((), declared, CATALOG)], CATALOG)
    return request, found


def test_the_sum_of_a_fit_is_the_fit():
    request, found = verdicts(concurrency=2)
    for fit in found.fits:
        total = sums.sum_of(fit.candidate, fit, request=request, catalog=CATALOG)
        assert (total.weights_bytes, total.overhead_bytes) == (
            fit.memory.weights_bytes,
            fit.memory.overhead_bytes,
        )
        assert (total.available_bytes, total.usable_bytes) == (
            fit.memory.kv_cache_bytes,
            fit.memory.usable_bytes,
        )
        assert total.fits == (sums.TIGHT if fit.tight else sums.YES)
        assert total.longest_context >= fit.settings.context_length


def test_what_was_rejected_for_its_memory_does_not_add_up_either():
    request, found = verdicts(contextLength=131072, concurrency=4)
    for_memory = [r for r in found.rejections if r.code in (Code.KV_CACHE_TOO_SMALL, Code.WEIGHTS_TOO_LARGE)]
    assert for_memory
    for rejection in for_memory:
        total = sums.sum_of(rejection.candidate, None, request=request, catalog=CATALOG)
        assert total.fits == sums.NO
        assert total.longest_context < 131072


@pytest.mark.parametrize("section", ["weights", "overhead"])
def test_the_lines_of_a_section_add_up_to_its_last(section):
    request, found = verdicts()
    for fit in found.fits:
        total = sums.sum_of(fit.candidate, fit, request=request, catalog=CATALOG)
        *terms, last = [line for line in total.lines if line.section == section]
        sizes = {line.label: line.size_bytes for line in terms}
        if section == "overhead":
            passing = ("forward pass", "sampler", "copied words")
            sizes["largest"] = max(sizes.pop(name, 0) for name in passing)
        assert sum(sizes.values()) == pytest.approx(last.size_bytes, abs=16)


def test_without_the_hybrid_manager_there_is_one_group():
    request, found = verdicts()
    flags = (("disable-hybrid-kv-cache-manager", "true"),)
    fit = found.fits[0]
    total = sums.sum_of(
        fit.candidate, None, request=replace(request, engine_overrides=flags), catalog=CATALOG
    )
    block, layer = total.row.layout.block_bytes, "50 x 16,384 B + 10 x 8,192 B"
    how = {line.label: line.how for line in total.lines}
    assert how["a block of the pool"] == f"16 tokens x ({layer})"
    assert block == 16 * (50 * 16384 + 10 * 8192)
    request = next(how for label, how in how.items() if label.startswith("one request"))
    assert request == "512 blocks: 8192 tokens / 16, rounded up"


def test_a_candidate_without_a_pool_has_no_sum():
    request, found = verdicts()
    without = next(each.candidate for each in found.rejections if each.candidate.shape is None)
    assert sums.sum_of(without, None, request=request, catalog=CATALOG) is None
