"""Pools and requests with good defaults, for the planner's own tests."""

from dataclasses import replace

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.records import PoolId, PoolShape, PoolSource, Sharing, Taint
from gemma_operator.planner.values import Request

ALL_VARIANTS = ("31B", "26B-A4B", "12B", "E4B", "E2B")
ALL_PRECISIONS = ("bf16", "fp8", "nvfp4", "w4a16")
GPU_TAINT = Taint("nvidia.com/gpu", "present", "NoSchedule")


def a_pool(accelerator="nvidia-h100-80gb", *, gpus=8, name=None, resource="nvidia.com/gpu", **changes):
    """A pool of that catalog card, tainted as GPU nodes are."""
    card = packaged().accelerators.get(accelerator)
    shape = PoolShape(
        id=PoolId(PoolSource.GKE_NODEPOOL, name or accelerator.removeprefix("nvidia-"), resource, "5ha9e0"),
        accelerator=accelerator,
        product="",
        memory_mib=card.memory_mib if card else None,
        compute_capability=card.compute_capability if card else None,
        accelerators_per_node=gpus,
        sharing=Sharing.NONE,
        clients_per_device=1,
        spot=False,
        arch="amd64",
        driver_major=580,
        taints=(GPU_TAINT,),
        tolerations=(),
        selector=(("cloud.google.com/gke-nodepool", name or accelerator),),
        node_price=None,
        verified=card is not None,
        refused="",
    )
    return replace(shape, **changes)


def a_request(*variants, **changes):
    """`spec: {}` with some fields given."""
    request = Request(
        namespace="team-a",
        backends=("Kubernetes",),
        variants=variants or ALL_VARIANTS,
        precisions=ALL_PRECISIONS,
        tuning="Instruct",
        context_length=None,
        concurrency=1,
        modalities=frozenset({"text", "image"}),
        kv_cache_precision="Auto",
        speculative_decoding="Auto",
        engine="VLLM",
        engine_version="0.32",
        engine_overrides=(),
        pools=None,
        accelerators=None,
        max_accelerators=8,
        spot="Forbidden",
        shared_accelerators=False,
        node_selector=(),
        tolerations=(),
        cpu_millis=None,
        memory_bytes=None,
        ephemeral_bytes=None,
    )
    return replace(request, **changes)
