"""What a fit costs and what it leaves: the figures by which equals are told apart, for the choice and for its words."""

from __future__ import annotations

from typing import Final

from gemma_operator.catalog.records import Price
from gemma_operator.planner.values import Fit

MIB: Final = 1024**2


def node_price_share(fit: Fit) -> Price | None:
    """What one replica costs an hour: its part of a node's accelerators."""
    shape = fit.candidate.shape
    if shape is None or shape.node_price is None or shape.accelerators_per_node < 1:
        return None
    amount = shape.node_price.amount * fit.candidate.tensor_parallel / shape.accelerators_per_node
    return Price(amount=amount, currency=shape.node_price.currency)


def headroom_mib(fit: Fit, *, concurrency: int) -> int:
    """MiB a GPU that nothing of the request needs: the KV cache beyond `concurrency` full contexts among it.

    The engine reserves all that is left for its KV cache, so what is needed is a part of the reserve: the
    tokens asked for out of the tokens that it holds.
    """
    memory = fit.memory
    asked_tokens = min(fit.kv_tokens, fit.settings.context_length * concurrency)
    needed = memory.kv_cache_bytes * asked_tokens // fit.kv_tokens if fit.kv_tokens else memory.kv_cache_bytes
    return (memory.usable_bytes - memory.weights_bytes - memory.overhead_bytes - needed) // MIB
