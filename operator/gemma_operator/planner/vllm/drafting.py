"""What vLLM takes for a drafter beside the model: its weights, and rows of logits that no profiling run sees.

A drafter reads the model's KV cache and has none of its own (model_executor/models/gemma4_mtp.py: queries only; its
layers join the cache groups of the layers that they read), so the blocks of a plan stay as they are. Its embedding
is the model's; its own head stays, of its own width. Linears and head are shared out under tensor parallelism.

The dry run of the sampler has one row a sequence (v1/worker/gpu/model_runner.py, _dummy_sampler_run), a step that
verifies drafts has one more for each drafted token. What these take beyond the profile has only the part of the
card that `--gpu-memory-utilization` leaves alone.

Source: vLLM 0.32.0. Not told by any source: what graphs of the drafter take (`evidence` in variants.yaml).
"""

from __future__ import annotations

from typing import Final

from gemma_operator.catalog.records import Drafter
from gemma_operator.planner.vllm.overhead import Terms

GIB: Final = 1024**3


def weights_bytes(drafter: Drafter, *, tensor_parallel: int) -> int | None:
    """On each GPU; None where nothing tells its size."""
    return None if drafter.disk_gib is None else int(drafter.disk_gib * GIB / tensor_parallel)


def unprofiled_bytes(drafter: Drafter, terms: Terms) -> int:
    """What verifying a full batch of drafts takes beyond what the profiling run kept free."""
    kept = max(terms.forward_gib, terms.sampler_gib)
    return int(max(0.0, terms.sampler_gib * (1 + drafter.tokens) - kept) * GIB)
