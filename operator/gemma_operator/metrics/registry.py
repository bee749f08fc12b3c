"""The door to the metrics: what happened goes in by methods, the exposition comes out as bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from gemma_operator.metrics.controller import ControllerMetrics
from gemma_operator.metrics.deployments import Deployments, DeploymentView, Key
from gemma_operator.metrics.pools import Pools, PoolView
from gemma_operator.probing.deltas import Delta
from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import ProbeResult

__all__ = ["DeploymentView", "Key", "Metrics", "PoolView"]

#: What `exposition` writes.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Everything that this process says to Prometheus, in a registry of its own."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.controller = ControllerMetrics()
        self._deployments = Deployments(clock=clock)
        self._pools = Pools()
        self._registry = CollectorRegistry()
        for collector in (self._deployments, self._pools, self.controller):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)

    def deployment(self, key: Key, view: DeploymentView) -> None:
        """What the reconciler sees of one object. Its counters begin here, at 0."""
        self._deployments.deployment(key, view)

    def sample(self, key: Key, pod_uid: str, sample: EngineSample, delta: Delta) -> None:
        """What a scrape of one replica showed, and added."""
        self._deployments.sample(key, pod_uid, sample, delta)

    def probe(self, key: Key, pod_uid: str, result: ProbeResult) -> None:
        """How asking one replica for a token went."""
        self._deployments.probe(key, pod_uid, seconds=result.seconds, failed=result.kind is not None)

    def forget(self, key: Key) -> None:
        """The object is gone: no series stays."""
        self._deployments.forget(key)

    def pools(self, views: Iterable[PoolView]) -> None:
        """All pools as they are now."""
        self._pools.pools(views)

    def reconciled(self, result: str, seconds: float) -> None:
        """One pass of the reconciler: success, error, requeue or requeue_after."""
        self.controller.reconciled(result, seconds)

    def request(self, verb: str, code: int | str) -> None:
        """One answer of the API server; code 0 where none came."""
        self.controller.request(verb, code)

    def leader(self, leads: bool) -> None:
        """Only the leader shows deployments and pools: two replicas would double every sum."""
        self.controller.is_leader = leads
        self._deployments.shown = leads
        self._pools.shown = leads
        if not leads:
            self._pools.pools(())  # counted anew by whoever leads; deployments are forgotten one by one

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes. May run in a thread beside the event loop."""
        return generate_latest(self._registry)
