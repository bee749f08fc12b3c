"""The closed list of fields that may answer NotImplemented."""

from typing import Any

import pytest

from gemma_operator.api.implemented import NOT_IMPLEMENTED, not_implemented_fields
from gemma_operator.api.v1alpha1 import GemmaDeploymentSpec

SOURCE = {"persistentVolumeClaim": {"claimName": "tune"}}
ONE = {"variants": ["E4B"], "precisions": ["bf16"]}
VERTEX = {"project": "my-project", "region": "us-central1"}


def fields(**spec: Any) -> tuple[str, ...]:
    return not_implemented_fields(GemmaDeploymentSpec.model_validate(spec))


def test_the_list_is_closed():
    assert set(NOT_IMPLEMENTED) == {
        "model.source.image",
        "model.source.objectStore",
        "model.adapters",
        "access.gateway",
        "vertex",
        "autoscaling",
    }


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            {"model": {**ONE, "source": {"image": {"reference": "registry.example.com/tune:1"}}}},
            "model.source.image",
        ),
        (
            {"model": {**ONE, "source": {"objectStore": {"uri": "gs://my-bucket"}}}},
            "model.source.objectStore",
        ),
        ({"model": {"adapters": [{"name": "sql", "source": SOURCE}]}}, "model.adapters"),
        ({"access": {"gateway": {"parentRefs": [{"name": "shared"}]}}}, "access.gateway"),
        ({"vertex": VERTEX, "placement": {"backends": ["Kubernetes", "Vertex"]}}, "vertex"),
        ({"placement": {"backends": ["Vertex"]}}, "vertex"),
        ({"autoscaling": {"maxReplicas": 2}}, "autoscaling"),
    ],
)
def test_a_field_without_a_part_is_named(spec: dict[str, Any], field: str):
    assert fields(**spec) == (field,)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"model": {"tuning": "Instruct", "adapters": []}},
        {"model": {"tuning": "Base"}},
        {"serving": {"engine": {"version": "0.32"}}},
        {"serving": {"engine": {"version": "0.20.2", "name": "VLLM"}}},
        {"placement": {"capacityTimeoutSeconds": 60, "backends": ["Kubernetes"]}},
        {"model": {**ONE, "source": SOURCE}},
        {"weights": {"cache": {"type": "None"}}},
        {"weights": {"cache": {"type": "Node"}}},
        {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "weights"}}},
        {"access": {}},
        {"rollout": {"strategy": "Surge", "drainSeconds": 60}},
        {"replicas": 0, "suspend": True},
    ],
)
def test_what_is_there_and_defaults_that_are_written_out_are_not_named(spec: dict[str, Any]):
    assert fields(**spec) == ()
