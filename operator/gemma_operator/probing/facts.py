"""What is known of a replica, and what that says about it. Pure: the caller brings the clock.

A proof is a token that the planned model really generated: asked for by the operator, or seen in the
engine's own counters while it served real traffic. A queue that is full but moves is not wedged.

Facts change by three events only, `after_probe`, `after_scrape` and `after_hearing`; when to look is the prober's
business.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from gemma_operator.probing import deltas
from gemma_operator.probing.exposition import EngineSample


class FailureKind(Enum):
    """How a probe failed."""

    REFUSED = "refused the connection"
    UNREACHABLE = "cannot be reached"
    TIMEOUT = "did not answer in time"
    #: 5xx, or 429 of a full queue.
    STATUS = "answered with an error"
    #: Any other 4xx: the server works and did not like the question.
    REJECTED = "rejected the request"
    NO_TOKEN = "answered 200 without a token"  # noqa: S105 - no password
    WRONG_MODEL = "serves another model"
    BROKEN = "answered with something that is not a completion"


#: Real traffic answers these. What an answer itself got wrong, only a better answer can mend.
_MENDED_BY_TRAFFIC = frozenset(
    {FailureKind.REFUSED, FailureKind.UNREACHABLE, FailureKind.TIMEOUT, FailureKind.STATUS}
)
#: A full queue can look like this.
_SLOW = frozenset({FailureKind.TIMEOUT, FailureKind.STATUS})
#: A new pod can cure these. A refused connection is a container that the kubelet is restarting, an
#: unreachable one a node or a network that fails, and the others are the same in the next pod.
_CURED_BY_REPLACEMENT = frozenset(
    {FailureKind.TIMEOUT, FailureKind.STATUS, FailureKind.NO_TOKEN, FailureKind.BROKEN}
)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed probe; `detail` is scrubbed and bounded."""

    kind: FailureKind
    detail: str
    at_seconds: float


@dataclass(frozen=True, slots=True)
class Heard:
    """What a replica's guard said in an answer; None: nothing, since there is none or one that does not count."""

    user_keys: int | None


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What became of asking for one token. `kind` None: the planned model generated it."""

    kind: FailureKind | None
    #: Scrubbed and bounded; empty where it succeeded.
    detail: str = ""
    model: str = ""
    tokens: int = 0
    seconds: float = 0.0
    #: None where no answer came.
    heard: Heard | None = None

    @property
    def own_tokens(self) -> int:
        """Tokens that the engine's counters hold because of this probe.

        An error may have cost one. A probe that ended in time-out was called off; if its token comes all
        the same, then the engine did work.
        """
        unanswered = self.kind in (FailureKind.REFUSED, FailureKind.UNREACHABLE, FailureKind.TIMEOUT)
        return 0 if unanswered else max(self.tokens, 1)


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """What probing saw of one pod. Times are seconds of the prober's monotonic clock; None: never."""

    pod_uid: str
    proved_at_seconds: float | None = None
    proved_model: str = ""
    #: When its counters or its KV cache last moved while it was looked at.
    progressed_at_seconds: float | None = None
    scraped_at_seconds: float | None = None
    #: In a row, since the last proof.
    failed_probes: int = 0
    #: Those of them with no progress after them or between them.
    still_probes: int = 0
    failure: Failure | None = None
    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    #: Tokens that the engine says it can hold (its own cache_config_info), None while unknown.
    measured_kv_tokens: int | None = None
    probe_seconds: float | None = None
    #: The last scrape, to count from.
    sample: EngineSample | None = None
    #: Tokens since that scrape which the operator itself asked for: they are no traffic.
    own_tokens: int = 0
    #: In its last answer; None: it has not answered yet.
    heard: Heard | None = None
    #: A look has ended, whatever it saw: one that still starts may have refused it.
    looked_at: bool = False


class Verdict(Enum):
    """What the facts say. Only a change of verdict wakes the reconciler."""

    UNKNOWN = "unknown"
    PROVED = "proved"
    #: Probes fail, but requests run and progress: not wedged.
    BUSY = "busy"
    #: It works, and its guard has no key of users: the operator alone is answered.
    KEYLESS = "keyless"
    #: The last probe failed; it was proved before, or never.
    FAILING = "failing"
    #: Not even a connection: the fault may be between here and there.
    OUT_OF_REACH = "out of reach"
    WEDGED = "wedged"


#: Probes that fail in a row, with no progress meanwhile, before a replica counts as wedged.
WEDGED_AFTER = 2
#: The same for a replica that this process never saw well (the operator was restarted). The first probes
#: come in quick succession; by the sixth they are a probe period apart.
UNPROVED_WEDGED_AFTER = 6


def verdict(facts: ReplicaFacts | None) -> Verdict:
    """What one replica is, by its facts alone."""
    if facts is None:
        return Verdict.UNKNOWN
    if facts.failed_probes == 0 or facts.failure is None:
        return _working(facts, Verdict.PROVED) if facts.proved_at_seconds is not None else Verdict.UNKNOWN
    if _wedged(facts, facts.failure.kind):
        return Verdict.WEDGED
    if facts.failure.kind is FailureKind.UNREACHABLE:
        return Verdict.OUT_OF_REACH
    return _working(facts, Verdict.BUSY) if _moves(facts, facts.failure.kind) else Verdict.FAILING


def counts_as_proved(facts: ReplicaFacts | None) -> bool:
    """Whether this replica's engine does what was planned; who is let in to it is another question."""
    return (
        facts is not None
        and facts.proved_at_seconds is not None
        and verdict(facts) in (Verdict.PROVED, Verdict.BUSY, Verdict.KEYLESS)
    )


def serves_users(facts: ReplicaFacts | None) -> bool:
    """Proved, and not known to refuse every user."""
    return counts_as_proved(facts) and verdict(facts) is not Verdict.KEYLESS


def counts_keys(facts: ReplicaFacts) -> bool:
    """It is behind a guard that says how many keys it has, so it is asked for them at each look."""
    return facts.heard is not None and facts.heard.user_keys is not None


def _working(facts: ReplicaFacts, otherwise: Verdict) -> Verdict:
    return Verdict.KEYLESS if facts.heard == Heard(0) else otherwise


def _moves(facts: ReplicaFacts, kind: FailureKind) -> bool:
    """The probe waited in a queue that moves: there was progress since it began to fail.

    Running 0 with some waiting is not moving, whatever was generated before.
    """
    return kind in _SLOW and facts.running > 0 and facts.still_probes < min(facts.failed_probes, WEDGED_AFTER)


def _wedged(facts: ReplicaFacts, kind: FailureKind) -> bool:
    if kind not in _CURED_BY_REPLACEMENT:
        return False
    if facts.proved_at_seconds is not None:
        return facts.still_probes >= WEDGED_AFTER
    # never proved: only what is seen to stand still with work before it, as /metrics answers meanwhile
    in_sight = facts.scraped_at_seconds is not None and facts.running + facts.waiting > 0
    return in_sight and facts.still_probes >= UNPROVED_WEDGED_AFTER


def may_be_slow(facts: ReplicaFacts) -> bool:
    """The last probe failed in a way that a full queue can look like: the counters tell the two apart."""
    return facts.failure is not None and facts.failure.kind in _SLOW


def after_probe(facts: ReplicaFacts, result: ProbeResult, *, now_seconds: float) -> ReplicaFacts:
    """The facts once an answer came, or failed to come."""
    own_tokens = facts.own_tokens + result.own_tokens
    facts = after_hearing(facts, result.heard)
    if result.kind is None:
        return replace(
            _proved(facts, result.model, now_seconds), own_tokens=own_tokens, probe_seconds=result.seconds
        )
    return replace(
        facts,
        failed_probes=facts.failed_probes + 1,
        still_probes=facts.still_probes + 1,
        failure=Failure(kind=result.kind, detail=result.detail, at_seconds=now_seconds),
        probe_seconds=result.seconds,
        own_tokens=own_tokens,
    )


def after_hearing(facts: ReplicaFacts, heard: Heard | None) -> ReplicaFacts:
    """Without an answer what was said last holds: a replica that is silent has not been given a key."""
    return facts if heard is None else replace(facts, heard=heard)


def after_scrape(
    facts: ReplicaFacts, sample: EngineSample, *, now_seconds: float, model_name: str
) -> ReplicaFacts:
    """The facts once the engine's counters were read.

    Tokens that others asked for prove the replica, if its counters name the planned model and no other. An
    engine that restarted has proved nothing yet.
    """
    delta = deltas.since(facts.sample, sample)
    seen = replace(
        facts,
        scraped_at_seconds=now_seconds,
        running=sample.running,
        waiting=sample.waiting,
        kv_usage=sample.kv_usage,
        measured_kv_tokens=sample.kv_tokens if sample.kv_tokens is not None else facts.measured_kv_tokens,
        sample=sample,
        own_tokens=0,
    )
    if delta.restarted:
        return replace(seen, proved_at_seconds=None, proved_model="")
    traffic = delta.generation_tokens > facts.own_tokens
    if traffic and sample.models == {model_name} and _mended_by_traffic(facts):
        return _proved(seen, model_name, now_seconds)
    if traffic or _works(facts, sample, delta):
        return replace(seen, progressed_at_seconds=now_seconds, still_probes=0)
    return seen


def _proved(facts: ReplicaFacts, model: str, now_seconds: float) -> ReplicaFacts:
    return replace(
        facts,
        proved_at_seconds=now_seconds,
        proved_model=model,
        progressed_at_seconds=now_seconds,
        failed_probes=0,
        still_probes=0,
        failure=None,
    )


def _mended_by_traffic(facts: ReplicaFacts) -> bool:
    return facts.failure is None or facts.failure.kind in _MENDED_BY_TRAFFIC


def _works(facts: ReplicaFacts, sample: EngineSample, delta: deltas.Delta) -> bool:
    """Work that shows before a token does.

    The prefill of a very long prompt keeps everything else waiting for longer than two probes; it takes KV
    blocks chunk by chunk meanwhile, and only at its end counts the prompt.
    """
    if sample.running == 0 or facts.sample is None:
        return False
    took_blocks = sample.kv_usage is not None and sample.kv_usage > (facts.sample.kv_usage or 0.0)
    return took_blocks or (delta.prompt_tokens > 0 and facts.own_tokens == 0)
