"""A plan with good defaults: 31B in BF16 on two H100 of one node."""

from dataclasses import replace

from gemma_operator.engines.base import Serving
from gemma_operator.hardware.records import PoolId, PoolSource, Toleration
from gemma_operator.planner.values import KvPrecision, Plan, PlannedMemory, ReplicaDemand, Settings

GIB = 1024**3


def some_settings(**changes) -> Settings:
    return replace(
        Settings(
            context_length=32768,
            max_sequences=256,
            max_batched_tokens=8192,
            kv_cache_precision=KvPrecision.BF16,
            tensor_parallel=2,
            utilization_percent=92,
            modality_limits=(("image", 4), ("video", 0), ("audio", 0)),
        ),
        **changes,
    )


def a_demand(**changes) -> ReplicaDemand:
    return replace(
        ReplicaDemand(
            resource_name="nvidia.com/gpu",
            accelerators=2,
            cpu_millis=8500,
            memory_bytes=48 * GIB,
            ephemeral_bytes=100 * GIB,
        ),
        **changes,
    )


def a_plan(**changes) -> Plan:
    settings = changes.pop("settings", None) or some_settings()
    return replace(
        Plan(
            backend="Kubernetes",
            engine="VLLM",
            engine_version="0.32",
            image="vllm/vllm-openai:v0.32.0",
            variant="31B",
            precision="bf16",
            checkpoint_name="31B-it-bf16",
            repo="google/gemma-4-31B-it",
            revision="68abe48000000000000000000000000000000000",
            pool=PoolId(PoolSource.GKE_NODEPOOL, "h100", "nvidia.com/gpu", "a1b2c3"),
            pool_selector=(("cloud.google.com/gke-nodepool", "h100"),),
            pool_tolerations=(Toleration("nvidia.com/gpu", "Exists", "", "NoSchedule"),),
            accelerator="nvidia-h100-80gb",
            settings=settings,
            demand=a_demand(accelerators=settings.tensor_parallel),
            memory=PlannedMemory(weights=30000, kv_cache=40000, overhead=1400, band=1024, total=71400),
            correction_mib=0,
            kv_tokens=100_000,
            weights_on_disk_bytes=62 * 10**9,
            tight=False,
            unverified=(),
            hourly_cost=None,
            reason="first of its order",
            inputs_hash="0123456789abcdef",
            planned_at="2026-11-25T09:00:00Z",
        ),
        **changes,
    )


def some_serving(**changes) -> Serving:
    return replace(
        Serving(model_name="chat", tuning="Instruct", tool_calling=True, thinking="OnRequest"), **changes
    )
