"""Room that several GPUs keep for adding up what each has reckoned.

From two GPUs on, on cards for which the engine has a table, it adds up and normalises in one kernel
(`fuse_allreduce_rms`, on by default) and keeps buffers for the largest tensor that it does so with. They are made when
the model is compiled, after the engine's first look at the card, so that its KV cache is smaller by them. What NCCL,
the custom all-reduce and symmetric memory keep is made before that look (v1/worker/gpu_worker.py, init_device) and lies
in the part of the card that utilization leaves alone; what NCCL adds at its first calls is in the base.

Source: vLLM 0.19.1 to 0.33.0, config/vllm.py (enable_allreduce_rms_fusion),
compilation/passes/fusion/allreduce_rms_fusion.py, distributed/device_communicators/flashinfer_all_reduce.py; flashinfer
0.7.2, comm/trtllm_ar.py and comm/trtllm_mnnvl_ar.py. No log of Gemma on several of these cards was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.overheads import AllReduce
from gemma_operator.catalog.records import Variant
from gemma_operator.planner.vllm import versions

MIB: Final = 1024**2
_BF16_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Buffers:
    """So many tensors of one size, in steps of what the driver gives."""

    tensors: int = 0
    tensor_bytes: int = 0
    rounded_to_bytes: int = 1

    @property
    def size_bytes(self) -> int:
        """On each GPU."""
        return -(-self.tensors * self.tensor_bytes // self.rounded_to_bytes) * self.rounded_to_bytes


NONE: Final = Buffers()


def buffers(
    model: AllReduce | None,
    variant: Variant,
    *,
    engine_version: str,
    capability: tuple[int, int] | None,
    gpus: int,
    max_batched_tokens: int,
    compiled: bool,
) -> Buffers:
    """Those that the engine keeps; `NONE` on one GPU and on cards for which it has no table."""
    if model is None:
        return NONE
    table = {(size.compute_capability, size.gpus): size.largest_mib for size in model.sizes}
    largest_mib = table.get((capability, gpus)) if capability is not None else None
    kept = versions.newest(model.workspaces, engine_version)
    if largest_mib is None or kept is None or not (compiled or kept.eager):
        return NONE
    largest = int(largest_mib * MIB)
    if compiled and variant.linears is not None:
        token = variant.linears.hidden * _BF16_BYTES
        largest = min(largest // token, max_batched_tokens) * token
    return Buffers(kept.tensors + kept.tensors_per_gpu * gpus, largest, kept.rounded_to_mib * MIB)
