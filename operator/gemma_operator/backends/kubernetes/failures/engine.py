"""What an engine said when it ended: memory, driver, GPU.

Quoted from vLLM 0.20 to 0.32, torch 2.13 and CUDA's runtime 13.0; each with its place in tests/data/failures. It says
something of a container that has not started anew: of one that has, the words are of the past.
"""

from __future__ import annotations

from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.signs import Sign, first_sign, sign
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica

SIGNS: Final[tuple[Sign, ...]] = (
    sign(
        Reason.KV_CACHE_TOO_SMALL,
        "refused to start",
        # "models's" up to 0.21.0, "model's" from 0.22.0 (v1/core/kv_cache_utils.py)
        r"To serve at least one request with the models?'s max seq len",
        r"No available memory for the cache blocks",
        r"Cannot auto-fit max_model_len: not enough GPU memory",
    ),
    sign(
        Reason.OUT_OF_MEMORY,
        "found a GPU that something else uses",
        r"Free memory on device \S+ \([^)]*\) on startup is less than",
        remedy="look for what else uses it with `kubectl describe node NODE`, and at hardware.sharedAccelerators",
    ),
    sign(
        Reason.OUT_OF_MEMORY,
        "ran out of GPU memory",
        r"(?:CUDA|HIP) out of memory",
        r"torch\.(?:cuda\.)?OutOfMemoryError",
        r"CUDA error: out of memory",
    ),
    sign(
        Reason.DRIVER_TOO_OLD,
        "needs a newer GPU driver than its node has",
        r"The NVIDIA driver on your system is too old",
        r"CUDA driver version is insufficient for CUDA runtime version",
        r"system has unsupported display driver / cuda driver combination",
        # libnvidia-container, before the engine begins
        r"unsatisfied condition: (?:cuda|driver)",
    ),
    sign(
        Reason.UNSUPPORTED_ACCELERATOR,
        "has no code for its GPU",
        r"no kernel image is available for execution on the device",
        r"\S* ?is only supported on GPUs with compute capability",
        r"[^\n:]*is not supported for the current GPU",
        r"is not compatible with the current PyTorch installation",
    ),
    sign(
        Reason.DEVICE_UNHEALTHY,
        "lost its GPU",
        r"uncorrectable (?:ECC|NVLink) error",
        r"No CUDA GPUs are available",
        r"Found no NVIDIA driver on your system",
        r"CUDA error: (?:unknown error|initialization error|unspecified launch failure|GPU is lost)",
    ),
)


def engine_said(replica: Replica) -> Trouble | None:
    """Of the engine or of a container before it."""
    for each in replica.containers:
        if found := first_sign(each.words, SIGNS):
            known, words = found
            what = f"{replica.whose(each)} {known.did}"
            return told(known.reason, what, words, pod=replica.name, node=replica.node, remedy=known.remedy)
    return None
