"""Which of all that was looked at is shown beside the plan: at most ten, best first, no two of a kind.

A fleet gives a thousand verdicts and a reader wants to know three things: what would have been taken next,
why not what stands first in the spec, and which pools are out of the question. So half of the places go to
what fits and half to what does not, one of each kind before the second of any.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from gemma_operator.planner import words
from gemma_operator.planner.choice import Choice, Ranked
from gemma_operator.planner.values import Candidate, Code, Feasible, Rejection

MOST: Final = 10
#: Candidates that fit are ranked lazily; so many are enough to find ten kinds.
LOOKED_AT: Final = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Alternative:
    """status.alternatives: what else was looked at, and why it was not taken."""

    backend: str
    variant: str
    precision: str
    pool: str
    accelerator: str
    accelerators_per_replica: int
    code: str
    message: str


def alternatives(choice: Choice, feasible: Feasible) -> tuple[Alternative, ...]:
    """Candidates that were not taken, and why: those that fit first."""
    ranked = islice(choice.ranked(), LOOKED_AT)
    fitting = [each for each in ranked if each.lost_by]  # while waiting, the one that is waited for too
    others = _spread(fitting, kinds=(_served, _kind_of_fit))
    rejected = _spread(by_preference(feasible), kinds=(_pool_and_code, _precision_of, _kind_of_rejection))
    shown = max(MOST // 2, MOST - len(rejected))
    said = [_fits(ranked, choice) for ranked in others[:shown]]
    said += [_rejected(rejection) for rejection in rejected]
    return tuple(dict.fromkeys(said))[:MOST]


def to_status(alternative: Alternative) -> dict[str, Any]:
    """One entry of status.alternatives; what is not known is left out."""
    fields = {
        "backend": alternative.backend,
        "variant": alternative.variant,
        "precision": alternative.precision,
        "pool": alternative.pool,
        "accelerator": alternative.accelerator,
        "acceleratorsPerReplica": alternative.accelerators_per_replica,
        "code": alternative.code,
        "message": alternative.message,
    }
    return {name: value for name, value in fields.items() if value}


def _spread(items: Sequence[T], *, kinds: Sequence[Callable[[T], Hashable]]) -> list[T]:
    """The first of each coarse kind, then of each finer one; what the finest kind holds already is left out."""
    chosen: list[T] = []
    finest = kinds[-1]
    for kind in kinds:
        seen: set[Hashable] = set()
        taken = {finest(item) for item in chosen}
        for item in items:
            if kind(item) not in seen and finest(item) not in taken:
                seen.add(kind(item))
                taken.add(finest(item))
                chosen.append(item)
    return chosen


def by_preference(feasible: Feasible) -> list[Rejection]:
    """What cannot serve, as the user prefers variants and precisions; of one kind, the most GPUs first."""
    order: dict[tuple[str, str], int] = {}
    for served in _preferences(feasible):
        order.setdefault(served, len(order))
    return sorted(
        feasible.rejections,
        key=lambda rejection: (
            rejection.candidate.shape is None,
            order.get(_served_by(rejection.candidate), len(order)),
            -rejection.candidate.tensor_parallel,
        ),
    )


def _preferences(feasible: Feasible) -> Iterator[tuple[str, str]]:
    """Verdicts stand in the user's order within a pool."""
    for rejection in feasible.rejections:
        yield _served_by(rejection.candidate)
    for fit in feasible.fits:
        yield _served_by(fit.candidate)


def _served_by(candidate: Candidate) -> tuple[str, str]:
    return candidate.variant.name, candidate.precision


def _served(ranked: Ranked) -> Hashable:
    return _served_by(ranked.fit.candidate)


def _kind_of_fit(ranked: Ranked) -> Hashable:
    candidate = ranked.fit.candidate
    return _served_by(candidate), _pool_of(candidate), candidate.tensor_parallel


def _precision_of(rejection: Rejection) -> Hashable:
    return _served_by(rejection.candidate)


def _pool_and_code(rejection: Rejection) -> Hashable:
    return _pool_of(rejection.candidate), rejection.code


def _kind_of_rejection(rejection: Rejection) -> Hashable:
    """On more or fewer GPUs of the same pool it is the same story, and so is what no precision changes."""
    served = _served_by(rejection.candidate)
    told_once = rejection.code is Code.INCOMPATIBLE
    return served[0] if told_once else served, _pool_of(rejection.candidate), rejection.code


def _pool_of(candidate: Candidate) -> str:
    shape = candidate.shape
    return f"{shape.id.source.value}/{shape.id.name}" if shape is not None else ""


def _fits(ranked: Ranked, choice: Choice) -> Alternative:
    code, message = words.not_taken(ranked, choice)
    return _alternative(ranked.fit.candidate, code.value, message)


def _rejected(rejection: Rejection) -> Alternative:
    return _alternative(rejection.candidate, rejection.code.value, words.rejection(rejection))


def _alternative(candidate: Candidate, code: str, message: str) -> Alternative:
    shape = candidate.shape
    return Alternative(
        backend=candidate.backend,
        variant=candidate.variant.name,
        precision=candidate.precision,
        pool=_pool_of(candidate),
        accelerator=shape.accelerator if shape is not None else "",
        accelerators_per_replica=candidate.tensor_parallel if shape is not None else 0,
        code=code,
        message=message,
    )
