"""One sentence: observe → decide → act → say.

Level-triggered: a key says where to look, never what happened. Nothing is remembered between two visits but
what another look would find again; what the server answered is put into the tables before the next visit.

What is asked, answered and learnt belongs to one time of leading. It ends with that: see `stand_down`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from gemma_operator.backends.decision import Ask, Decision
from gemma_operator.backends.kubernetes import unmade_jobs
from gemma_operator.backends.kubernetes.act import Act
from gemma_operator.backends.kubernetes.snapshot import Child, Key, Snapshot
from gemma_operator.controller.observe import Sources, observe
from gemma_operator.controller.placement import PlacementDesk
from gemma_operator.controller.policies import decide
from gemma_operator.controller.seen import targets, view_of
from gemma_operator.engines.base import Engine
from gemma_operator.engines.registry import ENGINES
from gemma_operator.errors import NotLeader
from gemma_operator.metrics.registry import Metrics
from gemma_operator.probing.prober import Prober


class Store(Protocol):
    """The GemmaDeployments as the server stores them."""

    def get(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The object, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What the reconciler works with."""

    store: Store
    sources: Sources
    placement: PlacementDesk
    act: Act
    prober: Prober[Key]
    metrics: Metrics
    #: For what has no plan; what has one is made and read by the engine that its plan names.
    default_engine: Engine
    now: Callable[[], datetime]
    leading: Callable[[], bool]


class Reconciler:
    """Brings one GemmaDeployment to where it should be, once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._uids: dict[Key, str] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Look at `key` once; the answer is when to look again (seconds), None: when something changes."""
        parts = self._parts
        obj = parts.store.get(key.namespace, key.name)
        if obj is None:
            self._forget(key)
            return None
        self._remember(key, obj["metadata"]["uid"])
        foreign: Sequence[Child] = ()
        snapshot = observe(obj, parts.sources)
        if missing := parts.act.unknown_children(snapshot):
            foreign = await parts.act.look_for(missing, snapshot)
            snapshot = observe(obj, parts.sources, foreign=foreign)
        if job := unmade_jobs.waiting(snapshot):
            snapshot = replace(snapshot, unmade_job=await parts.act.why_unmade(job, snapshot))
        engine = engine_of(snapshot, parts.default_engine)
        decision = decide(snapshot, now=parts.now(), engine=engine)
        if decision.ask is Ask.ROOM:
            snapshot = replace(snapshot, spare=parts.placement.surges.room(snapshot))
            decision = decide(snapshot, now=parts.now(), engine=engine)
        if decision.ask is Ask.PLACE:
            request = parts.sources.inputs(obj).request
            assert request is not None, "a spec that cannot be read asks for nothing"
            self._insist_on_leading()
            parts.placement.ask(snapshot, request)
            return decision.look_again_after_seconds
        try:
            with parts.placement.surges.beginning(key, decision.apply):
                await parts.act.act(decision, snapshot, now=parts.now())
        finally:
            if parts.leading():  # what runs is asked also while the server refuses a child
                parts.prober.set_targets(key, targets(snapshot, engine))
        self._insist_on_leading()
        self._say(snapshot, decision, engine)
        return decision.look_again_after_seconds

    def stand_down(self) -> None:
        """Somebody else may lead from now on, and everything that this process knows beside the tables is of the past.

        When it leads again, a plan that it answered before would be taken for the newest; and a replica that it goes on
        asking meanwhile, with its key, may have given its address to another pod.
        """
        for key in list(self._uids):
            self._forget(key)

    def _insist_on_leading(self) -> None:
        """A visit that was under way when the lead was lost leaves nothing behind."""
        if not self._parts.leading():
            raise NotLeader("the lead was lost in the middle of a visit")

    def _say(self, snapshot: Snapshot, decision: Decision, engine: Engine) -> None:
        self._parts.metrics.deployment(snapshot.key, view_of(snapshot, decision, engine))
        self._parts.placement.looked_at(snapshot)

    def _remember(self, key: Key, uid: str) -> None:
        known = self._uids.get(key)
        if known is not None and known != uid:
            self._forget(key)
        self._uids[key] = uid

    def _forget(self, key: Key) -> None:
        """The object is gone: series, probes and claims go with it."""
        self._parts.prober.drop(key)
        self._parts.metrics.forget(key)
        self._parts.placement.forget(key)
        if uid := self._uids.pop(key, None):
            self._parts.sources.inputs.forget(uid)
            self._parts.act.forget(uid)


def engine_of(snapshot: Snapshot, default: Engine) -> Engine:
    """The engine of the plan that is to be made, else of the one that runs: whatever the operator's default is now.

    One that is not known is refused by a policy before anything is made; until then the default stands in.
    """
    plan = snapshot.current_plan or snapshot.plan
    return default if plan is None else ENGINES.get(plan.engine, default)
