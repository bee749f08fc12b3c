"""What is known of a replica, and what that says about it. Pure: the caller brings the clock.

A proof is a token that the planned model really generated: asked for by the operator, or seen in the
engine's own counters while it served real traffic. A queue that is full but moves is not wedged.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """How a probe failed."""

    REFUSED = "refused the connection"
    TIMEOUT = "did not answer in time"
    STATUS = "answered with an error"
    NO_TOKEN = "answered 200 without a token"
    WRONG_MODEL = "serves another model"
    BROKEN = "answered with something that is not a completion"


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed probe; `detail` is scrubbed and bounded."""

    kind: FailureKind
    detail: str
    at_seconds: float


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What probing saw of one pod. Times are seconds of the prober's monotonic clock; None: never."""

    pod_uid: str
    proved_at_seconds: float | None = None
    proved_model: str = ""
    progressed_at_seconds: float | None = None
    scraped_at_seconds: float | None = None
    #: In a row, since the last proof.
    failed_probes: int = 0
    failure: Failure | None = None
    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    #: Tokens that the engine says it can hold (its own cache_config_info), None while unknown.
    measured_kv_tokens: int | None = None
    probe_seconds: float | None = None


class Verdict(Enum):
    """What the facts say. Only a change of verdict wakes the reconciler."""

    UNKNOWN = "unknown"
    PROVED = "proved"
    #: Probes fail, but requests run and tokens come: not wedged.
    BUSY = "busy"
    #: The last probe failed; it was proved before, or never.
    FAILING = "failing"
    WEDGED = "wedged"


#: Probes that fail in a row, with no token generated meanwhile, before a replica counts as wedged.
WEDGED_AFTER = 2


def verdict(facts: ReplicaFacts | None) -> Verdict:
    """What one replica is, by its facts alone."""
    if facts is None:
        return Verdict.UNKNOWN
    if facts.failed_probes == 0:
        return Verdict.PROVED if facts.proved_at_seconds is not None else Verdict.UNKNOWN
    if _moves(facts):
        return Verdict.BUSY
    was_proved = facts.proved_at_seconds is not None
    return Verdict.WEDGED if was_proved and facts.failed_probes >= WEDGED_AFTER else Verdict.FAILING


def _moves(facts: ReplicaFacts) -> bool:
    """Tokens came after the last failure: the probe waited in a queue that moves.

    Running 0 with some waiting is not moving, whatever was generated before.
    """
    if facts.failure is None or facts.progressed_at_seconds is None or facts.running == 0:
        return False
    slow = facts.failure.kind in (FailureKind.TIMEOUT, FailureKind.STATUS)
    return slow and facts.progressed_at_seconds >= facts.failure.at_seconds


def counts_as_proved(facts: ReplicaFacts | None) -> bool:
    """Whether this replica counts for Ready and Healthy."""
    return verdict(facts) in (Verdict.PROVED, Verdict.BUSY) and facts is not None and bool(facts.proved_at_seconds)
