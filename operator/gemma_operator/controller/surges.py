"""What placement knows of rollouts: whether one replica more has room, and the claim of a surge that is being applied.

A surge claims one replica more than its deployment wants. Once it is applied the Deployment says so (`placed` reads
it); from the decision until then only this room knows, so that two rollouts, or a rollout and a placement, are never
given the same GPUs. That is all it remembers, and only while the apply is under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from gemma_operator.api import names
from gemma_operator.backends.decision import Manifest
from gemma_operator.backends.kubernetes.rollout import Way, read
from gemma_operator.backends.kubernetes.snapshot import Key, Snapshot
from gemma_operator.controller.fleet import Fleet
from gemma_operator.planner.placement import PlacedClaim
from gemma_operator.planner.spare import Spare, spare

_NONE = Spare(replicas=0, drained_frees_room=True)


class Surges:
    """One for the placement desk, whose claims it reads."""

    def __init__(self, *, fleet: Fleet, claims: Callable[[], Iterable[PlacedClaim]]) -> None:
        self._fleet = fleet
        self._claims = claims
        self._beginning: Counter[Key] = Counter()

    def room(self, snapshot: Snapshot) -> Spare:
        """For the plan that is about to be rolled out."""
        plan, deployment = snapshot.current_plan, snapshot.deployment
        if plan is None or deployment is None:
            return _NONE
        own = PlacedClaim(
            key=(snapshot.key.namespace, snapshot.key.name),
            pool=plan.pool,
            demand=plan.demand,
            replicas=deployment.spec.replicas,
            node_selector=tuple(sorted(deployment.spec.hardware.node_selector.items())),
        )
        return spare(
            own,
            pools=self._fleet.pools,
            pods=self._fleet.pods,
            placed=self._claims(),
            rules=self._fleet.rules,
            quarantined=self._fleet.quarantined,
            memory_limited=deployment.spec.pod.resources.memory is not None,
        )

    def more(self, key: Key) -> int:
        """Replicas beyond the wanted that a surge is just getting."""
        return self._beginning[key]

    @contextmanager
    def beginning(self, key: Key, applied: Sequence[Manifest]) -> Iterator[None]:
        """While a decision is carried out: what it applies may be a surge."""
        surge = any(_surges(manifest) for manifest in applied)
        if surge:
            self._beginning[key] = 1
        try:
            yield
        finally:
            if surge:
                del self._beginning[key]


def _surges(manifest: Manifest) -> bool:
    way = read((manifest["metadata"].get("annotations") or {}).get(names.ROLLOUT, ""))
    return way is not None and way.way is Way.SURGE
