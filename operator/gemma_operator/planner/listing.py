"""Every candidate by a name that can be typed, with what it needs and what its GPU offers: the whole table.

`alternatives` picks ten for the status; this keeps all, in the order of choice and then of preference, for who
asks on the command line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from gemma_operator.planner import words
from gemma_operator.planner.alternatives import by_preference
from gemma_operator.planner.choice import Choice, Ranked
from gemma_operator.planner.sums import NO, TIGHT, YES
from gemma_operator.planner.values import Candidate, Code, Feasible, Fit, Rejection
from gemma_operator.planner.worth import MIB

CHOSEN: Final = "Chosen"
NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class Listed:
    """One candidate. Sizes are MiB of one GPU, None where memory decided nothing."""

    name: str
    candidate: Candidate
    fit: Fit | None
    fits: str
    needs_mib: int | None
    offers_mib: int | None
    code: str
    message: str


def listed(choice: Choice, verdict: Feasible) -> tuple[Listed, ...]:
    """All that was looked at, the chosen one first."""
    entries = [*_fitting(choice), *(_rejected(each) for each in by_preference(verdict))]
    names = _names([entry.candidate for entry in entries])
    return tuple(replace(entry, name=name) for name, entry in zip(names, entries, strict=True))


def called(entries: Sequence[Listed], name: str) -> list[Listed]:
    """Those of that name; what tells shapes and checkpoints apart may be left out."""
    exact = [entry for entry in entries if entry.name == name]
    return exact or [entry for entry in entries if _plain(entry.candidate) == name]


def nearest(entries: Sequence[Listed], name: str) -> list[str]:
    """Names that begin with what was written, or that hold it, else those that look alike."""
    names = [entry.name for entry in entries]
    beginning = [each for each in names if each.startswith(name)]
    holding = [each for each in names if name in each]
    return (beginning or holding or get_close_matches(name, names, n=NEAREST, cutoff=0.4))[:NEAREST]


def _fitting(choice: Choice) -> Iterator[Listed]:
    for ranked in choice.ranked():
        fit = ranked.fit
        offers = fit.memory.usable_bytes // MIB
        code, message = _verdict(choice, ranked)
        yield Listed(
            "",
            fit.candidate,
            fit,
            TIGHT if fit.tight else YES,
            offers - ranked.headroom_mib,
            offers,
            code,
            message,
        )


def _verdict(choice: Choice, ranked: Ranked) -> tuple[str, str]:
    if choice.placed and not ranked.lost_by:
        return CHOSEN, f"the KV cache holds {words.number(ranked.fit.kv_tokens)} tokens"
    code, message = words.not_taken(ranked, choice)
    return code.value, message


def _rejected(rejection: Rejection) -> Listed:
    needs, offers = _sizes(rejection)
    message = words.rejection(rejection)
    return Listed("", rejection.candidate, None, NO, needs, offers, rejection.code.value, message)


def _sizes(rejection: Rejection) -> tuple[int | None, int | None]:
    if rejection.code not in (Code.WEIGHTS_TOO_LARGE, Code.KV_CACHE_TOO_SMALL):
        return None, None
    details = rejection.details
    needs = sum(int(details.get(key, 0)) for key in ("weights_mib", "overhead_mib", "needed_mib"))
    return needs, int(details["usable_mib"])


def _names(candidates: Sequence[Candidate]) -> list[str]:
    """As short as they tell candidates apart: shapes of one pool and checkpoints of one precision only then."""
    plain = Counter(_plain(candidate) for candidate in candidates)
    shaped = Counter(_full(candidate, checkpoint=False) for candidate in candidates)
    names = []
    for candidate in candidates:
        if plain[_plain(candidate)] == 1:
            names.append(_plain(candidate))
        else:
            alone = shaped[_full(candidate, checkpoint=False)] == 1
            names.append(_full(candidate, checkpoint=not alone))
    return names


def _plain(candidate: Candidate) -> str:
    shape = candidate.shape
    served = f"{candidate.variant.name}/{candidate.precision}"
    if shape is None:
        return served
    return f"{served}/{shape.id.source.value}/{shape.id.name}/{candidate.tensor_parallel}"


def _full(candidate: Candidate, *, checkpoint: bool) -> str:
    shape = candidate.shape
    precision = candidate.precision
    if checkpoint and candidate.checkpoint is not None:
        precision = f"{precision}:{candidate.checkpoint.name}"
    if shape is None:
        return f"{candidate.variant.name}/{precision}"
    pool = f"{shape.id.source.value}/{shape.id.name}@{shape.id.shape}"
    return f"{candidate.variant.name}/{precision}/{pool}/{candidate.tensor_parallel}"
