"""A plan as `plan` prints it: what the status holds, and beside it the room that there is now.

Room moves by itself, so no status holds it; who asks on the command line wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gemma_operator.cli import sum_text, tables
from gemma_operator.planner.alternatives import Alternative
from gemma_operator.planner.choice import Choice
from gemma_operator.planner.listing import Listed
from gemma_operator.planner.plan import money
from gemma_operator.planner.sums import Sum
from gemma_operator.planner.values import Plan

_ALL_HEADER = ("CANDIDATE", "FITS", "NEEDS GiB", "OFFERS GiB", "CODE", "MESSAGE")
_HEADER = ("VARIANT", "PRECISION", "POOL", "GPUS", "CODE", "MESSAGE")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the planner said: a plan, or the reason why there is none."""

    choice: Choice
    plan: Plan | None
    why_not: str
    alternatives: tuple[Alternative, ...]
    candidates: tuple[Listed, ...]
    replicas: int


def lines(key: tuple[str, str], answer: Answer, *, every: bool) -> Iterator[str]:
    """The plan line by line, then what was not taken, or every candidate."""
    namespace, name = key
    if answer.plan is None:
        yield f"{namespace}/{name}: no plan: {answer.why_not}"
    else:
        yield f"{namespace}/{name}"
        rows = [[f"  {title}", text] for title, text in _lines(answer.plan, answer)]
        yield tables.text(rows[0], rows[1:])
    if every and answer.candidates:
        yield ""
        yield tables.text(_ALL_HEADER, [_candidate_row(each) for each in answer.candidates])
    elif answer.alternatives:
        yield ""
        yield "NOT TAKEN"
        yield tables.text(_HEADER, [_row(each) for each in answer.alternatives])


def explained(one: Listed, total: Sum | None) -> Iterator[str]:
    """One candidate: its verdict, then its whole sum."""
    yield f"{one.name}: {one.fits}, {one.code}: {one.message}"
    if total is not None:
        yield ""
        yield from sum_text.lines(total)


def candidate_document(each: Listed) -> dict[str, Any]:
    """One candidate for machines; what memory did not decide is left out."""
    document = {
        "candidate": each.name,
        "fits": each.fits,
        "needsMiB": each.needs_mib,
        "offersMiB": each.offers_mib,
        "code": each.code,
        "message": each.message,
    }
    return {key: value for key, value in document.items() if value is not None}


def _lines(plan: Plan, answer: Answer) -> Iterator[tuple[str, str]]:
    settings, memory = plan.settings, plan.memory
    yield (
        "model",
        f"{plan.variant} {plan.precision}, {plan.repo}{f'@{plan.revision[:7]}' if plan.revision else ''}",
    )
    yield "engine", f"{plan.engine} {plan.engine_version}, {plan.image}"
    yield (
        "pool",
        f"{plan.pool.source.value}/{plan.pool.name} ({plan.pool.resource_name}, shape {plan.pool.shape})",
    )
    yield "GPUs a replica", f"{plan.accelerators_per_replica} x {plan.accelerator}"
    yield (
        "settings",
        ", ".join(
            (
                f"context {settings.context_length}",
                f"{settings.max_sequences} sequences",
                f"{settings.max_batched_tokens} batched tokens",
                f"KV cache {settings.kv_cache_precision.value}",
            )
        ),
    )
    yield "KV cache", f"{plan.kv_tokens} tokens"
    yield (
        "memory, MiB a GPU",
        ", ".join(
            (
                f"weights {memory.weights}",
                f"KV cache {memory.kv_cache}",
                f"overhead {memory.overhead}",
                f"total {memory.total}",
                f"band {memory.band}",
            )
        ),
    )
    yield "room", _room(answer)
    if plan.hourly_cost is not None:
        yield "cost an hour", f"{money(plan.hourly_cost.amount)} {plan.hourly_cost.currency} a replica"
    yield "reason", plan.reason


def _room(answer: Answer) -> str:
    best = answer.choice.best
    if best is None or answer.replicas == 0:
        return "none is needed: no replica is wanted"
    now = min(best.room.now, answer.replicas)
    text = f"{now} of {answer.replicas} replicas now"
    limit = answer.choice.barred or answer.choice.limit
    if now < answer.replicas and limit:
        text += f", limited by {limit}"
    if best.room.after_scale_up > best.room.now and now < answer.replicas:
        text += f", {min(best.room.after_scale_up, answer.replicas)} after a scale-up"
    return text


def _candidate_row(each: Listed) -> Sequence[str]:
    sizes = (f"{mib / 1024:.1f}" if mib is not None else "-" for mib in (each.needs_mib, each.offers_mib))
    return each.name, each.fits, *sizes, each.code, each.message


def _row(alternative: Alternative) -> Sequence[str]:
    gpus = alternative.accelerators_per_replica
    return (
        alternative.variant,
        alternative.precision,
        tables.word(alternative.pool),
        f"{gpus} x {alternative.accelerator}" if gpus else "-",
        alternative.code,
        alternative.message,
    )
