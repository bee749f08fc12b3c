"""What the status says of Ready already, and how it came to be said. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any, Final

from gemma_operator.api import conditions
from gemma_operator.api.conditions import Condition, Reason
from gemma_operator.backends.kubernetes.snapshot import Snapshot

#: Reasons of a Ready that is on its way.
CALM: Final = frozenset(
    {
        Reason.STARTING_UP,
        Reason.PULLING_IMAGE,
        Reason.DOWNLOADING,
        Reason.ROLLING_OUT,
        Reason.PROVISIONING,
        Reason.NOT_PROVED,
        Reason.NO_ENDPOINTS,
    }
)
_BY_ASKING: Final = frozenset(
    reason.value
    for reason in (
        Reason.PROBE_FAILED,
        Reason.WRONG_MODEL,
        Reason.WEDGED,
        Reason.NOT_PROBED,
        Reason.SECRET_MISSING,
    )
)


def was_ready(snapshot: Snapshot) -> bool:
    """This generation has been Ready before: from then on one replica may be missing."""
    return any(condition.get("status") == "True" for condition in _ready(snapshot))


def was_healthy(snapshot: Snapshot) -> bool:
    """The endpoint answered, whichever generation."""
    return any(
        (condition.get("type"), condition.get("status")) == ("Healthy", "True")
        for condition in snapshot.status.get("conditions", ())
    )


def is_in_trouble(snapshot: Snapshot) -> bool:
    """This generation is not Ready, and not on its way to be."""
    return any(
        condition.get("status") != "True" and condition.get("reason") not in CALM
        for condition in _ready(snapshot)
    )


def was_contested(snapshot: Snapshot) -> bool:
    """It was said of this generation that somebody changes a child back."""
    return _has_reason(snapshot, {Reason.CONFLICT.value})


def learnt_by_asking(snapshot: Snapshot) -> bool:
    """What is said of this generation's Ready is a verdict of the prober, good or bad."""
    return was_ready(snapshot) or _has_reason(snapshot, _BY_ASKING)


def lacks_a_key(snapshot: Snapshot) -> bool:
    """It was said of this generation that a Secret or its key is missing: what a guard says of a start, too."""
    return _has_reason(snapshot, {Reason.SECRET_MISSING.value})


def _has_reason(snapshot: Snapshot, reasons: Set[str]) -> bool:
    return any(condition.get("reason") in reasons for condition in _ready(snapshot))


def _ready(snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
    """The condition Ready as the status has it, where it is of this generation."""
    return (
        condition
        for condition in snapshot.status.get("conditions", ())
        if condition.get("type") == "Ready" and condition.get("observedGeneration") == snapshot.generation
    )


def stands(said: Sequence[Condition], snapshot: Snapshot) -> bool:
    """What is about to be said of Ready is what the status says."""
    ready = next(condition for condition in said if condition.type == "Ready")
    wanted = {
        "type": "Ready",
        "status": ready.status,
        "reason": str(ready.reason),
        "message": conditions.written(ready.message),
        "observedGeneration": snapshot.generation,
    }
    return any(wanted.items() <= before.items() for before in snapshot.status.get("conditions", ()))
