"""A plan, its annotation and its status: what goes in comes out, and no float is in it."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.api.status import Plan as PlanModel
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Price
from gemma_operator.hardware.records import PoolId, PoolSource, Toleration
from gemma_operator.planner import plan as plans
from gemma_operator.planner.annotation import from_annotation, to_annotation
from gemma_operator.planner.choice import choose, rank
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import inputs_hash
from gemma_operator.planner.room import Room
from gemma_operator.planner.values import (
    Adapters,
    Drafting,
    KvPrecision,
    Plan,
    PlannedMemory,
    ReplicaDemand,
    Settings,
)
from unit.planner.shapes import a_pool, a_request

AT = "2026-11-25T09:00:00Z"
H100 = a_pool(
    gpus=8, node_price=Price(Decimal("39.2"), "USD"), tolerations=(Toleration("team", "Exists", "", ""),)
)


def planned(request=None, *pools, **options):
    request = request or a_request(
        "31B", precisions=("bf16",), context_length=262144, kv_cache_precision="BF16"
    )
    found = feasible(request, pools or (H100,), packaged())
    choice = choose(rank(found, request=request, catalog=packaged()), replicas=1, room=lambda _: Room(1, 1))
    plan = plans.from_choice(
        choice, request, catalog=packaged(), inputs_hash=inputs_hash(request), planned_at=AT, **options
    )
    return plan, found, request


def test_a_plan_is_what_the_status_shows():
    plan, _, _ = planned()
    assert plans.to_status(plan) == {
        "backend": "Kubernetes",
        "engine": {"name": "VLLM", "version": "0.32", "image": "vllm/vllm-openai:v0.32.0"},
        "variant": "31B",
        "precision": "bf16",
        "checkpoint": {
            "repo": "google/gemma-4-31B-it",
            "revision": "68abe48010cbe15293462fa11e901a60639a44e5",
        },
        "pool": {
            "source": "gke-nodepool",
            "name": "h100-80gb",
            "resourceName": "nvidia.com/gpu",
            "shape": "5ha9e0",
        },
        "accelerator": "nvidia-h100-80gb",
        "acceleratorsPerReplica": 2,
        "contextLength": 262144,
        "maxSequences": 1024,
        "maxBatchedTokens": 8192,
        "kvCachePrecision": "BF16",
        "gpuMemoryUtilization": 92,
        "memoryMiB": {"weights": 30863, "kvCache": 39326, "overhead": 4403, "band": 1024, "total": 74592},
        "tight": False,
        "unverified": False,
        "hourlyCost": {"amount": "9.8", "currency": "USD"},
        "reason": "31B bf16 on 2 \u00d7 nvidia-h100-80gb of gke-nodepool/h100-80gb: "
        "the first of the order that has room",
        "inputsHash": plan.inputs_hash,
        "plannedAt": AT,
    }


def test_the_status_is_what_the_api_takes():
    plan, _, _ = planned()
    shown = plans.to_status(replace(plan, revision="a" * 40, correction_mib=512))
    assert shown["checkpoint"]["revision"] == "a" * 40
    assert shown["correctionMiB"] == 512
    assert PlanModel.model_validate(shown).model_dump(by_alias=True, exclude_none=True, mode="json") == shown


def test_no_float_is_in_it():
    plan, _, _ = planned()
    for text in (json.dumps(plans.to_status(plan)), to_annotation(plan)):
        json.loads(text, parse_float=lambda number: pytest.fail(f"a float: {number}"))


def test_a_plan_can_be_rendered_without_a_fleet():
    plan, _, _ = planned()
    assert plan.pool_selector == H100.selector
    assert plan.pool_tolerations == H100.tolerations
    assert plan.checkpoint_name == "gemma-4-31b-it-bf16"
    assert plan.weights_on_disk_bytes == 2 * 31_273_088_876
    assert (plan.demand.accelerators, plan.accelerators_per_replica) == (2, 2)
    assert plan.kv_tokens > 262144


def test_an_image_of_ones_own_is_taken_as_written():
    plan, _, _ = planned(a_request("31B", engine_image="us/vllm:1"))
    assert plan.image == "us/vllm:1"


@pytest.mark.parametrize(
    ("version", "image"),
    [
        ("0.32", "vllm/vllm-openai:v0.32.0"),
        ("0.32.0", "vllm/vllm-openai:v0.32.0"),
        ("0.32.1", "vllm/vllm-openai:v0.32.1"),
        ("0.33", "vllm/vllm-openai:v0.33.0"),
    ],
)
def test_the_image_of_a_version(version, image):
    assert plans.image(packaged().engines["VLLM"], version) == image


def test_flags_that_nobody_knows_mark_the_plan():
    plan, _, _ = planned(unverified=("--new-flag",))
    assert plan.unverified == ("--new-flag",)
    assert plans.to_status(plan)["unverified"] is True
    assert "unverified: --new-flag" in plan.reason


def test_nothing_chosen_is_no_plan():
    request = a_request("31B")
    found = feasible(request, (), packaged())
    choice = choose(rank(found, request=request, catalog=packaged()), replicas=1, room=lambda _: Room(1, 1))
    with pytest.raises(ValueError, match="nothing was chosen"):
        plans.from_choice(choice, request, catalog=packaged(), inputs_hash="x", planned_at=AT)


def test_a_plan_is_found_again_by_its_status():
    plan, found, request = planned()
    assert plans.from_status(plans.to_status(plan), found, request, catalog=packaged()) == plan


def test_settings_that_were_decided_are_kept():
    """A newer catalog may choose otherwise; what runs stays what it is."""
    plan, found, request = planned()
    status = plans.to_status(plan)
    status |= {
        "maxSequences": 77,
        "maxBatchedTokens": 4096,
        "contextLength": 100_000,
        "kvCachePrecision": "FP8",
        "gpuMemoryUtilization": 88,
        "tight": True,
        "correctionMiB": 300,
        "reason": "as it was",
        "engine": {"name": "VLLM", "version": "0.32.0", "image": "mirror/vllm:1"},
        "memoryMiB": {"weights": 1, "kvCache": 2, "overhead": 3, "band": 4, "total": 6},
    }
    back = plans.from_status(status, found, request, catalog=packaged())
    assert plans.to_status(back) == status


def test_the_tokens_of_settings_that_were_decided_are_their_own():
    plan, found, request = planned()
    status = plans.to_status(plan) | {"contextLength": 131072}
    back = plans.from_status(status, found, request, catalog=packaged())
    assert 131072 < back.kv_tokens < plan.kv_tokens


@pytest.mark.parametrize(
    "change",
    [
        {
            "pool": {
                "source": "gke-nodepool",
                "name": "h100-80gb",
                "resourceName": "nvidia.com/gpu",
                "shape": "other",
            }
        },
        {
            "pool": {
                "source": "group",
                "name": "h100-80gb",
                "resourceName": "nvidia.com/gpu",
                "shape": "5ha9e0",
            }
        },
        {"acceleratorsPerReplica": 16},
        {"checkpoint": {"repo": "google/gemma-4-31B"}},
        {"checkpoint": {"repo": "google/gemma-4-31B-it", "revision": "b" * 40}},
        {"variant": "E4B"},
    ],
)
def test_a_status_whose_candidate_is_gone_gives_no_plan(change):
    plan, found, request = planned()
    assert plans.from_status(plans.to_status(plan) | change, found, request, catalog=packaged()) is None


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("9.8", "9.8"),
        ("10", "10"),
        ("100.00", "100"),
        ("0.3333333333", "0.333333"),
        ("1E+2", "100"),
        ("0.0000001", "0"),
    ],
)
def test_money_is_a_plain_decimal(amount, text):
    assert plans.money(Decimal(amount)) == text


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "7", '{"pool": 3}', "no json", '{"pool":["x","","",""]}']
)
def test_a_text_that_is_no_plan_gives_none(text):
    assert from_annotation(text) is None


def test_what_a_newer_operator_added_is_passed_over():
    plan, _, _ = planned()
    document = json.loads(to_annotation(plan)) | {"somethingNew": 1}
    assert from_annotation(json.dumps(document)) == plan


def test_the_annotation_is_one_short_line():
    plan, _, _ = planned()
    assert "\n" not in to_annotation(plan)
    assert len(to_annotation(plan)) < 2048


words = st.text(max_size=30)
sizes = st.integers(0, 2**40)
pairs = st.lists(st.tuples(words, words), max_size=3).map(tuple)
tolerations = st.lists(st.builds(Toleration, words, words, words, words), max_size=3).map(tuple)
settings = st.builds(
    Settings,
    context_length=sizes,
    max_sequences=sizes,
    max_batched_tokens=sizes,
    kv_cache_precision=st.sampled_from(KvPrecision),
    tensor_parallel=sizes,
    utilization_percent=st.integers(1, 100),
    modality_limits=st.lists(st.tuples(words, sizes), max_size=3).map(tuple),
    async_scheduling=st.booleans(),
    enforce_eager=st.booleans(),
    drafting=st.none() | st.builds(Drafting, words, sizes),
    adapters=st.none() | st.builds(Adapters, sizes, sizes),
)
any_plan = st.builds(
    Plan,
    backend=words,
    engine=words,
    engine_version=words,
    image=words,
    variant=words,
    precision=words,
    checkpoint_name=words,
    repo=words,
    revision=st.none() | words,
    pool=st.builds(PoolId, st.sampled_from(PoolSource), words, words, words),
    pool_selector=pairs,
    pool_tolerations=tolerations,
    accelerator=words,
    settings=settings,
    demand=st.builds(ReplicaDemand, words, sizes, sizes, sizes, sizes),
    memory=st.builds(PlannedMemory, sizes, sizes, sizes, sizes, sizes),
    correction_mib=st.integers(-(2**20), 2**20),
    kv_tokens=sizes,
    weights_on_disk_bytes=sizes,
    tight=st.booleans(),
    unverified=st.lists(words, max_size=3).map(tuple),
    hourly_cost=st.none() | st.builds(Price, st.decimals(0, 10**6, places=4), words),
    reason=words,
    inputs_hash=words,
    planned_at=words,
    chat_template=words,
)


@given(any_plan)
def test_an_annotation_holds_everything(plan):
    assert from_annotation(to_annotation(plan)) == plan
