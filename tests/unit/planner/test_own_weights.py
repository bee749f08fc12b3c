"""A fine-tune in the place of the published checkpoint."""

from dataclasses import replace

import pytest

from gemma_operator.api.parse import parse_deployment
from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import own_weights, plan
from gemma_operator.planner.annotation import from_annotation, to_annotation
from gemma_operator.planner.demand import demand
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.own_weights import OwnWeights
from gemma_operator.planner.request import from_spec, inputs_hash
from unit.planner.builders import a_request, a_shape

CATALOG = packaged()
COMMIT = "0" * 39 + "1"
OWN = OwnWeights("acme/tuned", COMMIT)
TUNED = {"variants": ("E4B",), "precisions": ("bf16",)}


def fits(**changes):
    return feasible(a_request(**TUNED, **changes), [a_shape()], CATALOG).fits


def spec_of(**spec):
    return parse_deployment(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": {"model": {"variants": ["E4B"], "precisions": ["bf16"], **spec.pop("model", {})}, **spec},
        }
    ).spec


def test_it_is_planned_as_the_published_one_under_its_own_name():
    (own,), (published,) = fits(own_weights=OWN), fits()
    assert (own.candidate.checkpoint.repo, own.candidate.checkpoint.revision) == ("acme/tuned", COMMIT)
    assert (own.memory, own.settings) == (published.memory, published.settings)


def test_its_plan_is_unverified_and_says_why():
    (own,) = fits(own_weights=OWN)
    assert own_weights.UNVERIFIED in own.unverified
    assert own_weights.UNVERIFIED not in fits()[0].unverified


@pytest.mark.parametrize("tuning", ["Base", "Instruct"])
def test_a_base_model_may_be_ones_own_where_none_is_published(tuning):
    assert fits(own_weights=OWN, tuning=tuning)


def test_without_a_published_precision_there_is_no_size_to_reckon_with():
    verdict = feasible(
        a_request(variants=("E2B",), precisions=("nvfp4",), own_weights=OWN), [a_shape()], CATALOG
    )
    assert not verdict.fits


def test_the_status_names_the_own_repository_and_leads_back_to_the_plan():
    request = a_request(**TUNED, own_weights=OWN)
    verdict = feasible(request, [a_shape()], CATALOG)
    made = plan.from_fit(
        verdict.fits[0],
        request,
        catalog=CATALOG,
        inputs_hash=inputs_hash(request),
        planned_at="2026-11-26T05:00:00Z",
    )
    status = plan.to_status(made)
    assert (status["checkpoint"], status["unverified"]) == (
        {"repo": "acme/tuned", "revision": COMMIT},
        True,
    )
    assert plan.from_status(status, verdict, request, catalog=CATALOG) == made
    assert from_annotation(to_annotation(made)) == made


def test_the_plan_knows_what_the_config_must_say():
    (fit,) = fits()
    assert dict(own_weights.told_shape(fit.candidate.variant)) == {
        "queryHeads": 8,
        "slidingLayers": 20,
        "slidingKvHeads": 2,
        "slidingHeadDim": 256,
        "slidingWindow": 512,
        "fullLayers": 4,
        "fullKvHeads": 2,
        "fullHeadDim": 512,
    }


@pytest.mark.parametrize("variant", CATALOG.variants)
def test_no_other_variant_has_the_same_shape(variant):
    told = {name: own_weights.told_shape(shape) for name, shape in CATALOG.variants.items()}
    assert [name for name, shape in told.items() if shape == told[variant]] == [variant]


def test_a_claim_and_a_cache_need_no_disk_of_the_pod():
    (fit,) = fits()
    in_pod = a_request(**TUNED)
    elsewhere = replace(in_pod, weights_in_pod=False)
    saved = demand(in_pod, fit, CATALOG).ephemeral_bytes - demand(elsewhere, fit, CATALOG).ephemeral_bytes
    assert saved == pytest.approx(15.9e9, rel=0.1)


def test_the_request_knows_whose_weights_and_where_they_lie():
    hub = spec_of(model={"source": {"huggingFace": {"repo": "acme/tuned", "revision": COMMIT}}})
    claim = spec_of(model={"source": {"persistentVolumeClaim": {"claimName": "models", "path": "a/b"}}})
    root = spec_of(model={"source": {"persistentVolumeClaim": {"claimName": "models"}}})
    cached = spec_of(weights={"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}})
    node = spec_of(weights={"cache": {"type": "Node"}})
    asked = [from_spec("team", spec) for spec in (hub, claim, root, cached, node, spec_of())]
    assert [request.own_weights for request in asked] == [
        OWN,
        OwnWeights("models/a/b", None),
        OwnWeights("models", None),
        None,
        None,
        None,
    ]
    assert [request.weights_in_pod for request in asked] == [True, False, False, False, False, True]
