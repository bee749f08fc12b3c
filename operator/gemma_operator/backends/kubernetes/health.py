"""What the replicas of one deployment amount to: counted once, read by every policy. Pure.

A replica counts as proved when it generated a token of the planned model; as served when the Service's
EndpointSlices hold it, ready, at the port. `current` means made from the Deployment as it is rendered now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_operator.backends.kubernetes.snapshot import Replica, Snapshot
from gemma_operator.probing.facts import (
    FailureKind,
    ReplicaFacts,
    Verdict,
    counts_as_proved,
    serves_users,
    verdict,
)

#: Failures of a server that is up.
_ANSWERED: Final = frozenset(
    {
        FailureKind.STATUS,
        FailureKind.REJECTED,
        FailureKind.NO_TOKEN,
        FailureKind.WRONG_MODEL,
        FailureKind.BROKEN,
    }
)


@dataclass(frozen=True, slots=True)
class Health:
    """Replicas by what they are. Terminating ones are counted nowhere but in `leaving`."""

    wanted: int
    current: tuple[Replica, ...]
    outdated: tuple[Replica, ...]
    leaving: tuple[Replica, ...]
    #: Current, ready, served and proved.
    proved: tuple[Replica, ...]
    #: Of any generation, ready, served and proved.
    answering: tuple[Replica, ...]
    #: Those of them that refuse every user.
    keyless: tuple[Replica, ...]
    #: Of any generation, once started: until then the start-up probe is what counts.
    wedged: tuple[Replica, ...]
    ready: int

    @property
    def missing(self) -> int:
        """Replicas that are wanted and not proved."""
        return max(0, self.wanted - len(self.proved))

    @property
    def serves_users(self) -> bool:
        """At least one replica lets somebody else in than the operator."""
        return len(self.answering) > len(self.keyless)

    @property
    def bound(self) -> int:
        """Current replicas that the scheduler gave a node."""
        return sum(1 for replica in self.current if replica.node)

    @property
    def live(self) -> int:
        """Replicas that are not on their way out."""
        return len(self.current) + len(self.outdated)


def health(snapshot: Snapshot, *, wanted: int, intent: str, port: int) -> Health:
    """Count the replicas of `snapshot`; `intent` is the one that the rendered pod template carries."""
    live = [replica for replica in snapshot.replicas if not replica.terminating and _counts(replica)]
    served = {address.pod_uid for address in snapshot.served if address.ready and address.port == port}
    answering = tuple(
        replica
        for replica in live
        if replica.ready and replica.uid in served and counts_as_proved(snapshot.facts.get(replica.uid))
    )
    return Health(
        wanted=wanted,
        current=tuple(replica for replica in live if replica.intent == intent),
        outdated=tuple(replica for replica in live if replica.intent != intent),
        leaving=tuple(replica for replica in snapshot.replicas if replica.terminating),
        proved=tuple(replica for replica in answering if replica.intent == intent),
        answering=answering,
        keyless=tuple(replica for replica in answering if not serves_users(snapshot.facts.get(replica.uid))),
        wedged=tuple(r for r in live if r.started and verdict(snapshot.facts.get(r.uid)) is Verdict.WEDGED),
        ready=sum(1 for replica in live if replica.ready),
    )


def _counts(replica: Replica) -> bool:
    """A pod that is over (evicted, refused by its node) is no replica; its Deployment makes another."""
    return replica.phase not in ("Failed", "Succeeded")


def states(counted: Health) -> Mapping[str, int]:
    """The states of `gemma_deployment_replicas`: starting is what runs or waits without a proof."""
    return {
        "wanted": counted.wanted,
        "ready": counted.ready,
        "proved": len(counted.answering),
        "wedged": len(counted.wedged),
        "starting": max(0, counted.live - len(counted.answering) - len(counted.wedged)),
        "missing": max(0, counted.wanted - len(counted.answering)),
    }


def probe_trouble(snapshot: Snapshot, replicas: tuple[Replica, ...]) -> tuple[Replica, ReplicaFacts] | None:
    """The replica whose probes fail the longest, if any: what an SRE looks at first.

    One that is still starting does not fail: its server is not up yet.
    """
    failing = [
        (replica, facts)
        for replica in replicas
        if (facts := snapshot.facts.get(replica.uid)) is not None
        and facts.failure is not None
        and facts.failed_probes > 0
        and (replica.ready or replica.started)
    ]
    return max(failing, key=lambda pair: (pair[1].failed_probes, pair[0].name), default=None)


def failing_starts(snapshot: Snapshot, replicas: tuple[Replica, ...]) -> tuple[Replica, ReplicaFacts] | None:
    """A replica that answers and still has not passed its start-up probe: its engine is up, and does not generate.

    503 is what a server or a proxy answers that is not up yet.
    """
    failing = [
        (replica, facts)
        for replica in replicas
        if not replica.started
        and (facts := snapshot.facts.get(replica.uid)) is not None
        and facts.failure is not None
        and facts.failure.kind in _ANSWERED
        and not facts.failure.detail.startswith("HTTP 503")
    ]
    return min(failing, key=lambda pair: pair[0].name, default=None)


def out_of_reach(snapshot: Snapshot, counted: Health) -> bool:
    """Kubernetes calls every replica ready, and the operator gets to none of them: it is the one who does not know.

    A refused connection is an answer of the replica's own node, and one of several that cannot be reached is its fault.
    """
    ready = [replica for replica in counted.current if replica.ready]
    return len(ready) >= max(1, counted.wanted) and all(
        verdict(snapshot.facts.get(replica.uid)) is Verdict.OUT_OF_REACH for replica in ready
    )


def is_wrong_model(facts: ReplicaFacts) -> bool:
    """The engine answered, but with another model."""
    return facts.failure is not None and facts.failure.kind is FailureKind.WRONG_MODEL
