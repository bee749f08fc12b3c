"""The whole memory sum of one candidate, line by line, so that an SRE can check a plan by hand.

The figures are the planner's own: this asks the same functions that decided and writes down their terms.
Nothing is decided here. A candidate that was rejected is shown with the settings that take least, because
those are the ones that came nearest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.planner import sum_lines, weights
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.needs import Card, Row
from gemma_operator.planner.sum_lines import Line
from gemma_operator.planner.values import Candidate, Fit, Request
from gemma_operator.planner.words import number

MIB: Final = 1024**2
YES, TIGHT, NO = "yes", "tight", "no"


@dataclass(frozen=True, slots=True)
class Sum:
    """What one GPU of a replica holds with the settings shown, and what that amounts to."""

    candidate: Candidate
    row: Row
    sequences: int
    concurrency: int
    utilization_basis_points: int
    usable_bytes: int
    weights_bytes: int
    overhead_bytes: int
    band_bytes: int
    longest_context: int
    #: Inside the band, or doubted for what the sum does not hold.
    tight: bool
    lines: tuple[Line, ...]

    @property
    def available_bytes(self) -> int:
        """What is left for the KV cache: the engine reserves all of it."""
        return max(0, self.usable_bytes - self.weights_bytes - self.overhead_bytes)

    @property
    def blocks(self) -> int:
        """Blocks that the engine's pool has."""
        return self.available_bytes // self.row.layout.block_bytes

    @property
    def concurrency_held(self) -> float:
        """Requests of the context length at once; the engine prints it as its maximum concurrency."""
        return self.blocks / self.row.layout.blocks_per_request

    @property
    def fits(self) -> str:
        """`yes` outside the band, `tight` inside it, else `no`."""
        needed = self.weights_bytes + self.overhead_bytes + self.row.kv_bytes
        if needed > self.usable_bytes:
            return NO
        return TIGHT if self.tight or needed + self.band_bytes > self.usable_bytes else YES


def sum_of(candidate: Candidate, fit: Fit | None, *, request: Request, catalog: Catalog) -> Sum | None:
    """The sum of a candidate; None where nothing tells its memory, or no checkpoint or pool is known."""
    checkpoint, shape = candidate.checkpoint, candidate.shape
    if checkpoint is None or shape is None:
        return None
    fitting = Fitting(request, catalog)
    card = fitting.card(candidate, checkpoint, shape)
    if card is None:
        return None
    row, sequences = (
        (fitting.needs.row_of(fit), fit.settings.max_sequences) if fit else _least(fitting, candidate, card)
    )
    terms = fitting.needs.overhead_terms(candidate, batched_tokens=row.batched_tokens, sequences=sequences)
    # of a fit both hold its drafter too
    weights_bytes = fit.memory.weights_bytes if fit else card.weights_bytes
    overhead_bytes = fit.memory.overhead_bytes if fit else terms.total_bytes
    available = card.device.usable_bytes - weights_bytes - overhead_bytes

    def held(context_length: int) -> bool:
        tried = fitting.needs.row(
            candidate,
            shape,
            context_length=context_length,
            kv_precision=row.kv_precision,
            batched_tokens=row.batched_tokens,
        )
        return tried.kv_bytes <= available

    found = Sum(
        candidate=candidate,
        row=row,
        sequences=sequences,
        concurrency=request.concurrency,
        utilization_basis_points=card.device.utilization_basis_points,
        usable_bytes=card.device.usable_bytes,
        weights_bytes=weights_bytes,
        overhead_bytes=overhead_bytes,
        band_bytes=fitting.band_bytes,
        longest_context=_longest(held, candidate.variant.max_context_tokens),
        tight=fit is not None and fit.tight,
        lines=(),
    )
    lines = (
        *_device_lines(candidate, card),
        *_weights_lines(found, card, request, fitting),
        *sum_lines.overhead_lines(
            terms,
            gpus=candidate.tensor_parallel,
            taken_bytes=overhead_bytes,
            batch=row.batched_tokens,
            sequences=sequences,
        ),
        *_kv_lines(found, sum_lines.Cut(candidate, row, fitting.rules.in_flight_batches)),
        *_verdict_lines(found),
    )
    return replace(found, lines=lines)


def _least(fitting: Fitting, candidate: Candidate, card: Card) -> tuple[Row, int]:
    assert candidate.shape is not None
    rows = fitting.needs.rows(candidate, candidate.shape, card.tier)
    least = min(rows, key=lambda row: row.kv_bytes + card.least_overhead_bytes(row))
    return least, card.overheads[least.batched_tokens][-1][0]


def _longest(held: Callable[[int], bool], most: int) -> int:
    """The longest context that is held, 0 where none is: what it takes only grows with its length."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if held(middle) else (low, middle - 1)
    return low


def _device_lines(candidate: Candidate, card: Card) -> Iterator[Line]:
    shape, device = candidate.shape, card.device
    assert shape is not None
    if shape.device_memory_mib is not None:
        yield Line(
            "card", "as the driver reports it", shape.device_memory_mib * MIB, _mib(shape.device_memory_mib)
        )
    yield Line("card", "seen by the engine", device.visible_mib * MIB, _mib(device.visible_mib))
    how = f"seen x --gpu-memory-utilization {_fraction(device.utilization_basis_points)}"
    yield Line("card", "usable", device.usable_bytes, how)


def _weights_lines(found: Sum, card: Card, request: Request, fitting: Fitting) -> Iterator[Line]:
    candidate = found.candidate
    checkpoint = candidate.checkpoint
    assert checkpoint is not None
    for term in weights.terms(
        candidate.variant,
        checkpoint,
        tensor_parallel=candidate.tensor_parallel,
        modalities=request.built_modalities(candidate.variant),
        rules=fitting.rules,
        expert_tile=fitting.expert_tile(candidate),
    ):
        if term.parameters:
            shared = f" / {term.shares} GPUs" if term.shares > 1 else ""
            how = f"{term.parameters:,} x {term.bytes_each:.9g} B{shared}"
            yield Line("weights", term.name, int(term.size_bytes), how)
    if buffers := fitting.adapter_bytes(candidate):
        yield Line("weights", "adapters", buffers, f"buffers of {request.adapters}, up to the highest rank")
    if drafter := found.weights_bytes - card.weights_bytes:
        yield Line("weights", sum_lines.DRAFTER, drafter, f"{candidate.variant.name}'s own, as published")
    yield Line("weights", "weights", found.weights_bytes, checkpoint.repo)


def _kv_lines(found: Sum, cut: sum_lines.Cut) -> Iterator[Line]:
    row, layout = found.row, found.row.layout
    yield from cut.lines()
    spare = f" + {layout.spare_blocks} spare" if layout.spare_blocks else ""
    each, needed = number(layout.blocks_per_request), layout.blocks_needed(found.concurrency)
    how = f"{number(needed)} blocks = {found.concurrency} x {each}{spare}"
    yield Line("KV cache", "needed", row.kv_bytes, how)
    yield Line("KV cache", "left", found.available_bytes, "usable - weights - overhead")
    yield Line("KV cache", "blocks", None, f"{number(found.blocks)} = left / a block, rounded down")
    held = f"{found.concurrency_held:.2f} = {number(found.blocks)} / {each}"
    yield Line("KV cache", "requests held at once", None, held)
    longest = f"{number(found.longest_context)} tokens x {found.concurrency}"
    yield Line("KV cache", "longest context that fits", None, f"{longest} with these settings")


def _verdict_lines(found: Sum) -> Iterator[Line]:
    needed = found.weights_bytes + found.overhead_bytes + found.row.kv_bytes
    yield Line("verdict", "needed", needed, "weights + overhead + needed KV cache")
    yield Line("verdict", "band", found.band_bytes, "how far the estimate may be off")
    spare = found.usable_bytes - needed
    words = {
        YES: "not less than the band: yes",
        TIGHT: "less than the band: tight"
        if spare < found.band_bytes
        else "not less than the band, but doubted: tight",
        NO: "less than nothing: no",
    }
    yield Line("verdict", "to spare", spare, words[found.fits])


def _fraction(basis_points: int) -> str:
    whole_percent = basis_points % 100 == 0
    return f"{basis_points / 10_000:.2f}" if whole_percent else f"{basis_points / 10_000:g}"


def _mib(mib: int) -> str:
    return f"{number(mib)} MiB"
