"""A spec as the planner reads it, and the hash that says whether it is still the same."""

from dataclasses import fields, replace

import pytest

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.hardware.records import Toleration
from gemma_operator.planner.own_weights import OwnWeights
from gemma_operator.planner.request import from_spec, inputs_hash
from unit.planner.shapes import ALL_PRECISIONS, ALL_VARIANTS, a_request

GIB = 1024**3
#: Changing it re-plans every deployment of every user: only on purpose.
HASH_OF_AN_EMPTY_SPEC = "ffbc6e8eaed30683"


def read(spec=None, **options):
    return from_spec("team-a", GemmaDeploymentSpec.model_validate(spec or {}), **options)


def test_an_empty_spec_asks_for_the_best_that_fits():
    assert read() == a_request()
    assert read().variants == ALL_VARIANTS
    assert read().precisions == ALL_PRECISIONS


def test_every_field_that_can_change_a_plan_is_read():
    spec = {
        "model": {"variants": ["E4B", "E2B"], "precisions": ["fp8"], "tuning": "Base"},
        "serving": {
            "contextLength": 4096,
            "concurrency": 7,
            "modalities": ["audio"],
            "kvCachePrecision": "FP8",
            "speculativeDecoding": "Disabled",
            "engine": {"name": "VLLM", "version": "0.33.0", "image": "us/vllm:1"},
        },
        "hardware": {
            "pools": ["gke-nodepool/l4"],
            "accelerators": ["nvidia-l4"],
            "maxAcceleratorsPerReplica": 2,
            "spot": "Allowed",
            "sharedAccelerators": "Allowed",
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "team", "value": "a", "effect": "NoSchedule"}],
        },
        "pod": {"resources": {"cpu": "500m", "memory": "3Gi", "ephemeralStorage": "1Gi"}},
    }
    assert read(spec, engine_overrides=[("enforce-eager", "true")]) == a_request(
        "E4B",
        "E2B",
        precisions=("fp8",),
        tuning="Base",
        context_length=4096,
        concurrency=7,
        modalities=frozenset({"text", "audio"}),
        kv_cache_precision="FP8",
        speculative_decoding="Disabled",
        engine_version="0.33.0",
        engine_overrides=(("enforce-eager", "true"),),
        engine_image="us/vllm:1",
        features=frozenset(),
        pools=("gke-nodepool/l4",),
        accelerators=("nvidia-l4",),
        max_accelerators=2,
        spot="Allowed",
        shared_accelerators=True,
        node_selector=(("zone", "a"),),
        tolerations=(Toleration("team", "Equal", "a", "NoSchedule"),),
        cpu_millis=500,
        memory_bytes=3 * GIB,
        ephemeral_bytes=GIB,
    )


@pytest.mark.parametrize(
    ("spec", "features", "named"),
    [
        ({}, {"tool-calling", "thinking", "thinking-on-request"}, set()),
        (
            {"serving": {"toolCalling": "Enabled"}},
            {"tool-calling", "thinking", "thinking-on-request"},
            {"tool-calling"},
        ),
        ({"serving": {"toolCalling": "Disabled"}}, {"thinking", "thinking-on-request"}, set()),
        ({"serving": {"thinking": "Default"}}, {"tool-calling", "thinking"}, {"thinking"}),
        ({"serving": {"thinking": "Disabled"}}, {"tool-calling"}, set()),
        ({"model": {"tuning": "Base"}}, set(), set()),
        (
            {
                "model": {
                    "variants": ["31B"],
                    "adapters": [
                        {"name": "a", "source": {"huggingFace": {"repo": "a/b", "revision": "0" * 40}}}
                    ],
                }
            },
            {"tool-calling", "thinking", "thinking-on-request", "lora"},
            set(),
        ),
    ],
)
def test_features_are_what_the_server_does_and_the_named_ones_are_written(spec, features, named):
    request = read(spec)
    assert (request.features, request.named_features) == (features, named)


def test_values_are_plain_strings():
    """Enums of the API would print otherwise in a hash and in an annotation."""
    request = read()
    for value in (*request.variants, *request.precisions, *request.backends, *request.modalities):
        assert type(value) is str
    assert {type(request.tuning), type(request.spot), type(request.kv_cache_precision)} == {str}


def test_the_operators_default_version_is_taken_where_none_is_written():
    assert read(default_version="0.33.0").engine_version == "0.33.0"


def test_the_hash_is_the_same_in_every_process():
    assert inputs_hash(a_request()) == HASH_OF_AN_EMPTY_SPEC


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 7},
        {"suspend": True},
        {"serving": {"modelName": "x"}},
        {"pod": {"labels": {"a": "b"}}},
    ],
)
def test_what_cannot_change_a_plan_does_not_change_the_hash(spec):
    assert inputs_hash(read(spec)) == inputs_hash(read())


OTHERWISE = {
    "namespace": "team-b",
    "backends": ("Vertex",),
    "variants": ("31B",),
    "precisions": ("fp8", "bf16"),
    "tuning": "Base",
    "context_length": 8192,
    "concurrency": 2,
    "modalities": frozenset({"text"}),
    "kv_cache_precision": "BF16",
    "speculative_decoding": "Disabled",
    "engine": "OTHER",
    "engine_version": "0.33",
    "engine_overrides": (("enforce-eager", "true"),),
    "pools": ("l4",),
    "accelerators": ("nvidia-l4",),
    "max_accelerators": 4,
    "spot": "Allowed",
    "shared_accelerators": True,
    "node_selector": (("a", "b"),),
    "tolerations": (Toleration("a", "Exists", "", ""),),
    "cpu_millis": 1,
    "memory_bytes": 1,
    "ephemeral_bytes": 1,
    "engine_image": "us/vllm:1",
    "features": frozenset({"lora"}),
    "named_features": frozenset({"tool-calling"}),
    "adapters": 1,
    "own_weights": OwnWeights("a/b", "0" * 40),
    "weights_in_pod": False,
    "every_tower": True,
}


@pytest.mark.parametrize("name", [field.name for field in fields(a_request())])
def test_each_field_of_a_request_changes_the_hash(name):
    assert inputs_hash(replace(a_request(), **{name: OTHERWISE[name]})) != inputs_hash(a_request())


def test_preference_is_an_order_and_a_set_is_none():
    assert inputs_hash(a_request("31B", "E4B")) != inputs_hash(a_request("E4B", "31B"))
    assert inputs_hash(a_request(pools=("a", "b"))) == inputs_hash(a_request(pools=("b", "a")))
    assert len(inputs_hash(a_request())) == 16
