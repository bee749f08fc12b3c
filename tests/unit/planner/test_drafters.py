"""A drafter is taken only where nothing is given up for it, and what it takes is in the sum."""

from dataclasses import replace

import pytest

from gemma_operator.api.parse import parse_deployment
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import DrafterEvidence
from gemma_operator.engines.registry import engine_named
from gemma_operator.planner import sums
from gemma_operator.planner.demand import demand, disk_bytes
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.plan import from_fit
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.sum_lines import DRAFTER
from gemma_operator.planner.values import DRAFTING, Candidate, Drafting
from gemma_operator.planner.vllm import drafting
from plans import some_serving
from unit.planner.shapes import ALL_VARIANTS, a_pool, a_request

GIB = 1024**3
MEASURED = DrafterEvidence(engine="VLLM", since="0.21.0", before=None, overhead_gib=0.25, source="a test")
NAMED = frozenset({DRAFTING})
H100, A100 = a_pool("nvidia-h100-80gb"), a_pool("nvidia-a100-80gb")


def with_evidence(*evidence, variant="31B"):
    """The packaged catalog, as if start-ups had shown what the drafter takes."""
    known = packaged().variants[variant]
    drafter = replace(known.drafter, evidence=evidence)
    return replace(packaged(), variants={**packaged().variants, variant: replace(known, drafter=drafter)})


def fitted(catalog, *, pool=A100, gpus=2, variant="31B", tuning="Instruct", **asked):
    request = a_request(
        variant,
        precisions=("bf16",),
        tuning=tuning,
        **{"context_length": 32768, "named_features": NAMED, **asked},
    )
    checkpoint = next(
        c for c in catalog.checkpoints if (c.variant, c.precision, c.tuning) == (variant, "bf16", tuning)
    )
    candidate = Candidate(catalog.variants[variant], checkpoint, "bf16", pool, gpus)
    return request, Fitting(request, catalog).fit(candidate)


def refusal(fit):
    return next(said for said in fit.limits if said.startswith("no drafter"))


def without(catalog, **asked):
    return fitted(catalog, **asked, speculative_decoding="Disabled")[1]


def test_a_measured_drafter_is_taken_and_gives_up_nothing():
    _, fit = fitted(with_evidence(MEASURED))
    plain = without(with_evidence(MEASURED))
    assert fit.settings.drafting == Drafting("google/gemma-4-31B-it-assistant", 4)
    assert replace(fit.settings, drafting=None) == plain.settings
    assert (fit.given_up, fit.tight, fit.unverified) == (plain.given_up, plain.tight, plain.unverified)


def test_its_weights_are_shared_out_and_come_off_the_kv_cache():
    _, fit = fitted(with_evidence(MEASURED))
    plain = without(with_evidence(MEASURED))
    weights, overhead = int(0.90 * GIB / 2), GIB // 4
    assert fit.memory.weights_bytes - plain.memory.weights_bytes == weights
    assert fit.memory.overhead_bytes - plain.memory.overhead_bytes == overhead
    assert plain.memory.kv_cache_bytes - fit.memory.kv_cache_bytes == weights + overhead
    assert fit.memory.total_bytes == plain.memory.total_bytes
    assert fit.kv_tokens < plain.kv_tokens


@pytest.mark.parametrize("variant", ALL_VARIANTS)
def test_the_packaged_catalog_has_no_evidence_so_nothing_drafts(variant):
    _, fit = fitted(packaged(), variant=variant)
    assert fit.settings.drafting is None
    assert f"google/gemma-4-{variant}-it-assistant takes of a GPU was not measured" in refusal(fit)


def test_its_files_lie_in_the_pod_too():
    """0.90 GiB of the drafter, beside 31B's own; where the weights are cached elsewhere nothing lies in the pod."""
    request, fit = fitted(with_evidence(MEASURED))
    _, plain = fitted(packaged())
    with_files, without_files = (demand(request, each, packaged()).ephemeral_bytes for each in (fit, plain))
    assert with_files - without_files == disk_bytes(fit) - disk_bytes(plain) == int(0.90 * GIB)
    elsewhere = replace(request, weights_in_pod=False)
    assert demand(elsewhere, fit, packaged()) == demand(elsewhere, plain, packaged())


def test_who_did_not_ask_is_told_nothing():
    _, fit = fitted(packaged(), named_features=frozenset())
    assert not any("drafter" in said for said in fit.limits)


@pytest.mark.parametrize(
    ("evidence", "version"),
    [
        (DrafterEvidence("VLLM", "0.33.0", None, 0.25, ""), "0.32"),
        (DrafterEvidence("VLLM", "0.21.0", "0.32.0", 0.25, ""), "0.32"),
        (DrafterEvidence("OTHER", "0.21.0", None, 0.25, ""), "0.32"),
    ],
)
def test_evidence_is_of_one_engine_and_its_versions(evidence, version):
    _, fit = fitted(with_evidence(evidence), engine_version=version)
    assert fit.settings.drafting is None


def test_a_variant_without_a_drafter_says_so():
    catalog = packaged()
    bare = replace(catalog.variants["31B"], drafter=None)
    _, fit = fitted(replace(catalog, variants={**catalog.variants, "31B": bare}))
    assert refusal(fit) == "no drafter: 31B has none"


def test_a_drafter_of_unknown_size_is_not_taken():
    _, fit = fitted(with_evidence(MEASURED, variant="E4B"), variant="E4B")
    assert "was not measured" in refusal(fit)


def test_a_base_model_has_no_drafter():
    _, fit = fitted(with_evidence(MEASURED), tuning="Base")
    assert "made for the instruction-tuned model" in refusal(fit)


def test_disabled_is_obeyed():
    assert without(with_evidence(MEASURED)).settings.drafting is None


def test_what_is_known_against_it_leaves_it_out_and_not_the_candidate():
    _, fit = fitted(with_evidence(MEASURED), engine_version="0.24.0", features=frozenset({"tool-calling"}))
    assert fit.settings.drafting is None
    assert "vllm#41967" in refusal(fit)


def test_a_warning_that_only_the_drafter_brings_leaves_it_out():
    _, fit = fitted(with_evidence(MEASURED), pool=a_pool("nvidia-b200"), gpus=1)
    assert "vllm#48082" in refusal(fit)
    assert fit.unverified == ()


def test_it_never_eats_the_band():
    """31B BF16 on one H100 gives up sequences to hold its context: nothing is left for a drafter."""
    _, fit = fitted(with_evidence(MEASURED), pool=H100, gpus=1)
    assert fit.settings.drafting is None
    assert fit.given_up
    assert "GiB more of each GPU than the settings leave" in refusal(fit)


def test_rows_of_logits_that_no_profile_sees_must_fit_beside_the_utilization():
    """1024 sequences with 4 drafts each: 6.0 GiB beyond the profile, of 6.3 that are left alone; with 8 drafts 12."""
    catalog = with_evidence(MEASURED)
    _, four = fitted(catalog, pool=H100)
    known = catalog.variants["31B"]
    eager = replace(known, drafter=replace(known.drafter, tokens=8))
    _, eight = fitted(replace(catalog, variants={**catalog.variants, "31B": eager}), pool=H100)
    assert (four.settings.max_sequences, four.settings.drafting.tokens) == (1024, 4)
    assert eight.settings.drafting is None
    assert "take 12.0 GiB outside --gpu-memory-utilization, which leaves 6.3 GiB" in refusal(eight)


def test_unprofiled_rows_by_hand():
    request, fit = fitted(with_evidence(MEASURED))
    terms = Fitting(request, packaged()).needs.overhead_terms(
        fit.candidate, batched_tokens=2496, sequences=256
    )
    # second runner: 1.5 MiB a row; a step verifies 5 rows a sequence; the forward pass kept 0.40
    drafter = packaged().variants["31B"].drafter
    kept = max(0.164 * 2496 / 1024, 0.375)
    assert drafting.unprofiled_bytes(drafter, terms) == pytest.approx((1.875 - kept) * GIB)


def test_the_whole_sum_shows_it():
    catalog = with_evidence(MEASURED)
    request, fit = fitted(catalog)
    found = sums.sum_of(fit.candidate, fit, request=request, catalog=catalog)
    drafters = [(line.section, line.size_bytes) for line in found.lines if line.label == DRAFTER]
    assert drafters == [("weights", int(0.90 * GIB / 2)), ("overhead", GIB // 4)]
    assert found.available_bytes == fit.memory.kv_cache_bytes
    assert found.fits == sums.YES


def test_the_plan_tells_downloads_and_flags_it():
    catalog = with_evidence(MEASURED)
    request, fit = fitted(catalog)
    plan = from_fit(fit, request, catalog=catalog, inputs_hash="", planned_at="")
    plain = from_fit(without(catalog), request, catalog=catalog, inputs_hash="", planned_at="")
    assert "drafts 4 tokens a step with google/gemma-4-31B-it-assistant" in plan.reason
    assert plan.weights_on_disk_bytes - plain.weights_on_disk_bytes == int(0.90 * GIB)
    vllm = engine_named("VLLM")
    assert vllm.settings(vllm.arguments(plan, some_serving())) == plan.settings


@pytest.mark.parametrize(
    ("serving", "named"),
    [({}, False), ({"speculativeDecoding": "Auto"}, True), ({"speculativeDecoding": "Disabled"}, False)],
)
def test_a_wish_that_was_written_is_known_as_one(serving, named):
    deployment = parse_deployment(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": {"serving": serving},
        }
    )
    assert (DRAFTING in from_spec("team", deployment.spec).named_features) is named
