"""Where each sample lands on the packaged fleet, all applied at once and in any order."""

import random
from typing import Any

import pytest

from gemma_operator.api.parse import parse_deployment
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.catalog import loader
from gemma_operator.hardware.declared import declared_pool
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import filtered, pools
from gemma_operator.hardware.records import Pool
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.placement import Ask, place_all
from gemma_operator.planner.request import from_spec
from gemma_operator.sandbox import fleet
from manifest_tables import samples

CATALOG = loader.packaged()
# variant, precision, pool, resource, GPUs of one replica
EXPECTED = {
    "agent": ("31B", "bf16", "gke-nodepool/h100", "nvidia.com/gpu", 2),
    "batch": ("E4B", "w4a16", "gke-nodepool/l4-spot", "nvidia.com/gpu", 1),
    "chat": ("31B", "bf16", "gke-nodepool/h100", "nvidia.com/gpu", 1),
    "documents": ("26B-A4B", "bf16", "group/nvidia-a100-80gb", "nvidia.com/gpu", 1),
    "does-not-fit": None,
    "edge": ("E4B", "bf16", "gke-nodepool/l4", "nvidia.com/gpu", 1),
    "long-context": ("31B", "bf16", "gke-nodepool/h100", "nvidia.com/gpu", 2),
    "many-users": ("26B-A4B", "bf16", "group/nvidia-a100-80gb", "nvidia.com/gpu", 2),
    "plan-only": ("31B", "bf16", "accelerator-pool/h200", "nvidia.com/gpu", 1),
    "transcripts": ("12B", "bf16", "group/nvidia-a100-80gb", "nvidia.com/mig-3g.40gb", 1),
}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [case.manifest for case in samples() if case.manifest["kind"] == kind]


@pytest.fixture(scope="module")
def fleet_pools() -> tuple[Pool, ...]:
    nodes = [node_record(node) for node in fleet.nodes(fleet.default())]
    declared = [declared_pool(manifest) for manifest in of_kind("AcceleratorPool")]
    return pools([node for node in nodes if node is not None], declared, CATALOG)


def an_ask(deployment: GemmaDeployment, *, place: int, found: tuple[Pool, ...]) -> Ask:
    request = from_spec(deployment.namespace, deployment.spec)
    shapes = [pool.shape for pool in filtered(found, request.node_selector)]
    return Ask(
        key=(deployment.namespace, deployment.metadata.name),
        uid=deployment.metadata.name,
        created_at=f"2026-01-01T00:00:{place:02d}Z",
        replicas=0 if deployment.spec.suspend else deployment.spec.replicas,
        request=request,
        feasible=feasible(request, shapes, CATALOG),
    )


def landed(choice: Choice) -> tuple[str, str, str, str, int] | None:
    if choice.fit is None or not choice.placed:
        return None
    candidate = choice.fit.candidate
    assert candidate.shape is not None
    pool = candidate.shape.id
    return (
        candidate.variant.name,
        candidate.precision,
        f"{pool.source.value}/{pool.name}",
        pool.resource_name,
        candidate.tensor_parallel,
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_lands_where_its_comment_says(fleet_pools: tuple[Pool, ...], seed: int):
    wanted = [parse_deployment(manifest) for manifest in of_kind("GemmaDeployment")]
    random.Random(seed).shuffle(wanted)

    asks = [an_ask(deployment, place=place, found=fleet_pools) for place, deployment in enumerate(wanted)]
    choices = place_all(asks, pools=fleet_pools, pods=[], placed=[], catalog=CATALOG)

    assert {name: landed(choice) for (_, name), choice in choices.items()} == EXPECTED
