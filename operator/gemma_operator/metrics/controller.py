"""How the operator itself does, under the names of controller-runtime: its dashboards and alerts then fit.

Names, labels and buckets: kubernetes-sigs/controller-runtime, pkg/internal/controller/metrics/metrics.go,
pkg/metrics/workqueue.go and client-go's rest_client_requests_total. prometheus_client's own counters are
not used: they would add a `_created` series to each.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

CONTROLLER = "gemmadeployment"

_RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    *(1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
    *(15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0),
)
_QUEUE_BUCKETS = tuple(float(f"1e{exponent}") for exponent in range(-8, 4))

_Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


def _zero() -> int:
    return 0


class _Durations:
    """A histogram's plain state."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        names = [*map(str, self._bounds), "+Inf"]
        family.add_metric(
            labels, buckets=list(zip(names, accumulate(self._counts), strict=True)), sum_value=self._sum
        )


class ControllerMetrics(Collector):
    """Counts what the controller does. Depth and busy workers are read when Prometheus asks."""

    def __init__(self) -> None:
        self._reconciles: dict[str, int] = dict.fromkeys(("success", "error", "requeue", "requeue_after"), 0)
        self._reconcile_seconds = _Durations(_RECONCILE_BUCKETS)
        self._adds = 0
        self._retries = 0
        self._queue_seconds = _Durations(_QUEUE_BUCKETS)
        self._requests: dict[tuple[str, str], int] = {}
        self.depth: Callable[[], int] = _zero
        self.active_workers: Callable[[], int] = _zero
        self.is_leader = False

    def reconciled(self, result: str, seconds: float) -> None:
        """One pass of the reconciler: success, error, requeue or requeue_after."""
        self._reconciles[result] = self._reconciles.get(result, 0) + 1
        self._reconcile_seconds.observe(seconds)

    def added(self) -> None:
        """A key entered the queue."""
        self._adds += 1

    def retried(self) -> None:
        """A key goes back into the queue because its reconcile failed."""
        self._retries += 1

    def waited(self, seconds: float) -> None:
        """A key was taken from the queue."""
        self._queue_seconds.observe(seconds)

    def request(self, verb: str, code: int | str) -> None:
        """One answer of the API server; `<error>` where none came, as client-go writes it."""
        labels = (verb.upper(), str(code) if code else "<error>")
        self._requests[labels] = self._requests.get(labels, 0) + 1

    def describe(self) -> Iterable[_Family]:
        """The names, without reading callables that are not there yet."""
        return list(self.collect())

    def collect(self) -> Iterator[_Family]:
        """All of them; they are shown by the leader and by standbys."""
        yield from self._reconcile_families()
        yield from self._queue_families()
        requests = CounterMetricFamily(
            "rest_client_requests", "Requests to the API server.", labels=["method", "code"]
        )
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count)
        yield requests
        leader = GaugeMetricFamily(
            "leader_election_master_status", "1 while this replica leads.", labels=["name"]
        )
        leader.add_metric(["gemma-operator"], float(self.is_leader))
        yield leader

    def _reconcile_families(self) -> Iterator[_Family]:
        total = CounterMetricFamily(
            "controller_runtime_reconcile", "Reconciles by result.", labels=["controller", "result"]
        )
        for result, count in list(self._reconciles.items()):
            total.add_metric([CONTROLLER, result], count)
        yield total
        errors = CounterMetricFamily(
            "controller_runtime_reconcile_errors", "Reconciles that failed.", labels=["controller"]
        )
        errors.add_metric([CONTROLLER], self._reconciles["error"])
        yield errors
        seconds = HistogramMetricFamily(
            "controller_runtime_reconcile_time_seconds", "Length of a reconcile.", labels=["controller"]
        )
        self._reconcile_seconds.add_to(seconds, [CONTROLLER])
        yield seconds
        workers = GaugeMetricFamily(
            "controller_runtime_active_workers", "Workers that reconcile now.", labels=["controller"]
        )
        workers.add_metric([CONTROLLER], self.active_workers())
        yield workers

    def _queue_families(self) -> Iterator[_Family]:
        labels, names = [CONTROLLER, CONTROLLER], ["name", "controller"]
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait.", labels=names)
        depth.add_metric(labels, self.depth())
        yield depth
        adds = CounterMetricFamily("workqueue_adds", "Keys added.", labels=names)
        adds.add_metric(labels, self._adds)
        yield adds
        retries = CounterMetricFamily("workqueue_retries", "Keys put back after a failure.", labels=names)
        retries.add_metric(labels, self._retries)
        yield retries
        seconds = HistogramMetricFamily(
            "workqueue_queue_duration_seconds", "How long a key waits before it is taken.", labels=names
        )
        self._queue_seconds.add_to(seconds, labels)
        yield seconds
