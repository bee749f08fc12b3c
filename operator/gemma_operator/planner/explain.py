"""What the status says of a decision: the plan's reason, what is waited for, the nearest miss, and the
alternatives.

A message says what to change where the user can. Nothing here holds a figure that moves by itself (free
GPUs, ages): these texts stand in the status, and the status is not written at rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gemma_operator.planner.alternatives import alternatives
from gemma_operator.planner.choice import Choice, Outcome
from gemma_operator.planner.values import Code, Feasible, Fit, GivenUp, Rejection, Request
from gemma_operator.planner.words import gib, load, miss, number, shortened, what, where
from gemma_operator.planner.worth import MIB, headroom_mib

__all__ = [
    "alternatives",
    "given_up",
    "has_room",
    "no_pools",
    "nothing_fits",
    "reason",
    "unknown_accelerators",
    "waiting",
]

MAX_REASON: Final = 512
ARROW: Final = "\u2192"
HAS_ROOM: Final = "that has room"
_GROWN: Final = " once its pool has grown"

_SETTING_WORDS: Final = {
    "contextLength": "tokens of context",
    "kvCachePrecision": "KV cache",
    "maxBatchedTokens": "batched tokens",
    "maxSequences": "sequences",
}
#: What a node may be short of beside its accelerators.
_HOST_WORDS: Final = {
    "cpu": "CPU",
    "memory": "memory",
    "ephemeral-storage": "ephemeral storage",
    "pods": "a place for a pod",
}
#: What to change, for the reason that stands in the way of everything.
_REMEDIES: Final = {
    Code.WEIGHTS_TOO_LARGE: "allow a smaller variant or precision, or larger or more GPUs",
    Code.KV_CACHE_TOO_SMALL: "lower serving.contextLength or concurrency, or allow larger or more GPUs",
    Code.SPOT: "change hardware.spot",
    Code.SHARED: "set hardware.sharedAccelerators: Allowed, or add whole GPUs",
    Code.POOL_NOT_ALLOWED: "change hardware.pools",
    Code.ACCELERATOR_NOT_ALLOWED: "change hardware.accelerators",
    Code.NO_CHECKPOINT: "allow another precision",
    Code.CONTEXT_TOO_LONG: "lower serving.contextLength or allow a larger variant",
    Code.MODALITY_MISSING: "allow a variant that takes it, or leave the modality out",
}
#: Of what hinders all candidates, the nearest to serving is told first.
_NEAREST: Final = (
    Code.KV_CACHE_TOO_SMALL,
    Code.WEIGHTS_TOO_LARGE,
    Code.TAINTED,
    Code.SHARED,
    Code.SPOT,
    Code.INCOMPATIBLE,
    Code.ACCELERATOR_NOT_ALLOWED,
    Code.POOL_NOT_ALLOWED,
    Code.NODE_TOO_SMALL,
    Code.UNKNOWN_MEMORY,
    Code.POOL_REFUSED,
)


def reason(fit: Fit, request: Request, *, room: str = HAS_ROOM) -> str:
    """Why this plan, and what was given up for it; `room`: see `has_room`."""
    parts = [f"{what(fit.candidate)} on {where(fit.candidate)}: the first of the order {room}"]
    if fit.given_up:
        parts.append(given_up(fit.given_up, fit, request))
    if fit.tight:
        parts.append(f"{_tight(fit, request)}, so the engine may refuse to start")
    parts.extend(fit.limits)
    if fit.unverified:
        parts.append("unverified: " + ", ".join(fit.unverified))
    return shortened("; ".join(parts), MAX_REASON)


def has_room(choice: Choice) -> str:
    """Where a choice has room: on nodes that its pool has yet to bring, or for some replicas only."""
    best = choice.best
    if choice.outcome is Outcome.SCALE_UP:
        return f"{HAS_ROOM}{_GROWN}"
    if best is None or choice.outcome is not Outcome.PARTLY:
        return HAS_ROOM
    most, grown = best.room.now, ""
    if best.room.after_scale_up > most:
        most, grown = best.room.after_scale_up, _GROWN
    why = choice.barred or f"its nodes are short of {_HOST_WORDS.get(choice.limit, 'GPUs')}"
    return f"{HAS_ROOM}, for {most} of {choice.replicas} replicas{grown}: {why}"


def _tight(fit: Fit, request: Request) -> str:
    band_mib = fit.memory.band_bytes // MIB
    if headroom_mib(fit, concurrency=request.concurrency) < band_mib:
        return f"fits only inside the {gib(band_mib)} band of the estimate"
    return "fits, but what lies outside --gpu-memory-utilization may not"


def given_up(settings: Sequence[GivenUp], fit: Fit, request: Request) -> str:
    """What was taken below its first choice, and for what."""
    steps = ", ".join(
        f"{number(each.wanted)} {ARROW} {number(each.taken)} {_SETTING_WORDS.get(each.setting, each.setting)}"
        for each in settings
    )
    return f"{steps} to keep {load(fit.settings.context_length, request.concurrency)}"


def waiting(choice: Choice, request: Request) -> str:
    """What a deployment waits for that would fit somewhere."""
    fit = choice.fit
    if fit is None:
        return "nothing fits"
    others = (
        "" if len(request.variants) * len(request.precisions) == 1 else ", nor has any other pool that fits"
    )
    short = _HOST_WORDS.get(choice.limit, "")
    why, until = "", "GPUs are free"
    if choice.held:
        why, until = f": every node of it {choice.held}", "one of them takes pods"
    elif short:
        why, until = f": its nodes have GPUs free and are short of {short}", f"{short} is free"
    return shortened(
        f"{what(fit.candidate)} fits on {where(fit.candidate)}, which has no room now{why}{others}; "
        f"it is placed as soon as {until} or nodes are added",
        MAX_REASON,
    )


def barred(choice: Choice) -> str:
    """What a namespace forbids that would fit and has room."""
    fit = choice.fit
    if fit is None:
        return choice.barred
    return shortened(
        f"{what(fit.candidate)} has room on {where(fit.candidate)}, and the namespace does not allow it: "
        f"{choice.barred}; it is placed as soon as it may be",
        MAX_REASON,
    )


def unknown_accelerators(unknown: Mapping[str, Sequence[str]]) -> str:
    """Names that the catalog lacks, with the nearest that it has."""
    said = [
        f"{name} ({'nearest: ' + ', '.join(nearest) if nearest else 'nothing is near'})"
        for name, nearest in unknown.items()
    ]
    return shortened(f"hardware.accelerators: not in the catalog: {'; '.join(said)}", MAX_REASON)


def no_pools() -> str:
    """A cluster without GPUs."""
    return "no pool of accelerators is known: add GPU nodes, or declare an AcceleratorPool"


def nothing_fits(verdict: Feasible, request: Request) -> str:
    """The nearest miss of a request that no known pool can hold, and the remedy."""
    if request.node_selector and all(each.candidate.shape is None for each in verdict.rejections):
        labels = ", ".join(f"{key}={value}" for key, value in request.node_selector)
        said = f"no pool has a node with the labels of hardware.nodeSelector ({labels})"
        return shortened(f"{said}: correct it, or label the nodes", MAX_REASON)
    if not verdict.rejections:
        return no_pools()
    missed = nearest(verdict.rejections)
    remedy = _REMEDIES.get(missed.code)
    parts = [
        f"no pool can hold an allowed candidate for {load(request.context_length, request.concurrency)}",
        f"nearest: {miss(missed)}",
    ]
    if remedy:
        parts.append(remedy)
    return shortened("; ".join(parts), MAX_REASON)


def nearest(rejections: Sequence[Rejection]) -> Rejection:
    """The one that misses by least."""
    return min(rejections, key=_distance)


def _distance(rejected: Rejection) -> tuple[int, int]:
    """How far a candidate is from serving: first by kind, then by what is missing."""
    kind = _NEAREST.index(rejected.code) if rejected.code in _NEAREST else len(_NEAREST)
    details = rejected.details
    if rejected.code is Code.KV_CACHE_TOO_SMALL:
        return kind, int(details["needed_mib"]) - int(details["available_mib"])
    if rejected.code is Code.WEIGHTS_TOO_LARGE:
        return kind, int(details["weights_mib"]) - int(details["usable_mib"])
    return kind, rejected.candidate.tensor_parallel
