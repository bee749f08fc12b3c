"""What is said in `status.conditions`: a closed list of types and of reasons, and how they are written.

The clock is the caller's: `merge` gets the time as text, so that the same input gives the same status, and a status
that says nothing new is not written. Every message passes the scrubber here, whoever wrote it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gemma_operator.api.reasons import ConditionType as ConditionType  # noqa: PLC0414 - a condition's words come with it
from gemma_operator.api.reasons import Reason as Reason  # noqa: PLC0414
from gemma_operator.scrub import scrub

MESSAGE_MAX_LENGTH = 512

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it should be; the time of its last transition is `merge`'s business."""

    type: ConditionType
    status: Status
    reason: Reason
    message: str = ""
    observed_generation: int = 0


def ready(reason: Reason, message: str = "", *, generation: int = 0) -> Condition:
    """Ready=True."""
    return Condition(ConditionType.READY, "True", reason, message, generation)


def not_ready(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Ready=False."""
    return Condition(ConditionType.READY, "False", reason, message, generation)


def ready_unknown(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Ready=Unknown: nobody has looked, or nobody may."""
    return Condition(ConditionType.READY, "Unknown", reason, message, generation)


def planned(message: str, *, reason: Reason = Reason.PLANNED, generation: int = 0) -> Condition:
    """Planned=True."""
    return Condition(ConditionType.PLANNED, "True", reason, message, generation)


def not_planned(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Planned=False."""
    return Condition(ConditionType.PLANNED, "False", reason, message, generation)


def provisioned(message: str = "", *, generation: int = 0) -> Condition:
    """Provisioned=True."""
    return Condition(ConditionType.PROVISIONED, "True", Reason.PROVISIONED, message, generation)


def not_provisioned(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Provisioned=False."""
    return Condition(ConditionType.PROVISIONED, "False", reason, message, generation)


def healthy(message: str = "", *, reason: Reason = Reason.SERVING, generation: int = 0) -> Condition:
    """Healthy=True."""
    return Condition(ConditionType.HEALTHY, "True", reason, message, generation)


def not_healthy(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Healthy=False."""
    return Condition(ConditionType.HEALTHY, "False", reason, message, generation)


def reconciling(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Reconciling=True; leave it out when it is not."""
    return Condition(ConditionType.RECONCILING, "True", reason, message, generation)


def stalled(reason: Reason, message: str, *, generation: int = 0) -> Condition:
    """Stalled=True: the message says what the user must do. Leave it out when it is not."""
    return Condition(ConditionType.STALLED, "True", reason, message, generation)


def suspended(message: str, *, generation: int = 0) -> Condition:
    """Suspended=True; Ready is absent beside it."""
    return Condition(ConditionType.SUSPENDED, "True", Reason.SUSPENDED, message, generation)


def overlapping(message: str, *, generation: int = 0) -> Condition:
    """Overlapping=True, for an AcceleratorPool."""
    return Condition(ConditionType.OVERLAPPING, "True", Reason.OVERLAPPING, message, generation)


def stamp(conditions: Iterable[Condition], *, generation: int) -> tuple[Condition, ...]:
    """All of them said of one generation."""
    return tuple(replace(condition, observed_generation=generation) for condition in conditions)


def merge(
    previous: Sequence[Mapping[str, Any]], wanted: Sequence[Condition], *, now_iso: str
) -> list[dict[str, Any]]:
    """The new `status.conditions`: exactly the wanted ones, in one order whatever theirs was.

    `lastTransitionTime` moves only when a status flips, so merging the same twice changes nothing. Of two
    conditions of one type the later counts.
    """
    before = {condition.get("type"): condition for condition in previous}
    by_type = {condition.type: condition for condition in wanted}
    return [
        _to_dict(by_type[kind], before.get(kind.value, {}), now_iso=now_iso)
        for kind in ConditionType
        if kind in by_type
    ]


def written(message: str) -> str:
    """A message as it goes into status: without secrets, whoever wrote it, and not too long."""
    return cut(scrub(message))


def cut(message: str, *, max_length: int = MESSAGE_MAX_LENGTH) -> str:
    """A message that the API server accepts; what was cut off is marked."""
    return message if len(message) <= max_length else message[: max_length - 1] + "…"


def page() -> str:
    """docs/conditions.md."""
    lines = [
        "# Conditions and reasons",
        "",
        "Made from `gemma_operator/api/reasons.py`; a test holds the two equal. Both lists are closed:",
        "alerts and scripts may match on them. Every condition carries `observedGeneration` and a message",
        "with the remedy.",
        "",
        "| condition | true means |",
        "|---|---|",
        *(f"| `{kind.value}` | {kind.meaning} |" for kind in ConditionType),
        "",
        "| reason | meaning |",
        "|---|---|",
        *(f"| `{reason.value}` | {reason.meaning} |" for reason in Reason),
    ]
    return "\n".join(lines) + "\n"


def _to_dict(condition: Condition, before: Mapping[str, Any], *, now_iso: str) -> dict[str, Any]:
    unflipped = before.get("status") == condition.status
    return {
        "type": condition.type.value,
        "status": condition.status,
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": (before.get("lastTransitionTime") if unflipped else None) or now_iso,
        "reason": condition.reason.value,
        "message": written(condition.message),
    }
