"""The `gemma_deployment_*` families: one object a series set, gone when the object goes.

Counters add up what probing saw happen, so they grow on when engines restart and replicas come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from gemma_operator.probing.deltas import Delta
from gemma_operator.probing.exposition import EngineSample, told_apart

_STATUSES = ("True", "False", "Unknown")


class Key(Protocol):
    """Names a GemmaDeployment; hashable."""

    @property
    def namespace(self) -> str:
        """Of the object."""
        ...

    @property
    def name(self) -> str:
        """Of the object."""
        ...


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """What the reconciler knows of one GemmaDeployment. What is not known yet is empty or None."""

    backend: str = ""
    variant: str = ""
    precision: str = ""
    engine: str = ""
    engine_version: str = ""
    pool: str = ""
    accelerator: str = ""
    #: Type → status, as in the object's conditions.
    conditions: Mapping[str, str] = field(default_factory=dict)
    #: State → count: wanted, starting, ready, proved, wedged, missing.
    replicas: Mapping[str, int] = field(default_factory=dict)
    #: Its pods; the gauges of others are forgotten.
    pod_uids: frozenset[str] = frozenset()
    predicted_kv_tokens: int | None = None
    startup_seconds: Mapping[str, float] = field(default_factory=dict)
    #: Currency and amount an hour, for all wanted replicas.
    cost_per_hour: tuple[str, float] | None = None


@dataclass(slots=True)
class _Replica:
    sample: EngineSample | None = None
    seen_seconds: float = 0.0
    probe_seconds: float | None = None


@dataclass(slots=True)
class _State:
    view: DeploymentView
    replicas: dict[str, _Replica] = field(default_factory=dict)
    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    probe_failures: int = 0

    @property
    def samples(self) -> list[EngineSample]:
        return [replica.sample for replica in list(self.replicas.values()) if replica.sample is not None]


class Deployments(Collector):
    """Holds what is known and shows it; only the leader does."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._states: dict[Key, _State] = {}
        self.shown = False

    def deployment(self, key: Key, view: DeploymentView) -> None:
        """What the reconciler sees now."""
        state = self._states.get(key)
        if state is None:
            self._states[key] = _State(view)
            return
        state.view = view
        for gone in state.replicas.keys() - view.pod_uids:
            del state.replicas[gone]

    def sample(self, key: Key, pod_uid: str, sample: EngineSample, delta: Delta) -> None:
        """What one replica shows. Late news of an object that is gone are no news."""
        state = self._states.get(key)
        if state is None:
            return
        replica = state.replicas.setdefault(pod_uid, _Replica())
        replica.sample = sample
        replica.seen_seconds = self._clock()
        state.prompt_tokens += delta.prompt_tokens
        state.generation_tokens += delta.generation_tokens
        for said, count in delta.requests.items():
            reason = told_apart(said, state.requests)
            state.requests[reason] = state.requests.get(reason, 0) + count

    def probe(self, key: Key, pod_uid: str, *, seconds: float, failed: bool) -> None:
        """How one question for a token went."""
        state = self._states.get(key)
        if state is None:
            return
        state.replicas.setdefault(pod_uid, _Replica()).probe_seconds = seconds
        state.probe_failures += failed

    def forget(self, key: Key) -> None:
        """The object is gone, and its series with it."""
        self._states.pop(key, None)

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """The names, so that the registry need not collect to learn them."""
        return [family.empty() for family in _FAMILIES]

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The series of all objects, family by family; a copy, as scrapes run beside the event loop."""
        if not self.shown:
            return
        states = list(self._states.items())
        now = self._clock()
        for family in _FAMILIES:
            shown = family.empty()
            for key, state in states:
                for labels, value in family.series(state, now):
                    shown.add_metric([key.namespace, key.name, *labels], value)
            yield shown


_Series = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class _Family:
    """One row of the table of names."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    help: str
    labels: tuple[str, ...]
    series: Callable[[_State, float], _Series]

    def empty(self) -> GaugeMetricFamily | CounterMetricFamily:
        return self.kind(
            f"gemma_deployment_{self.name}", self.help, labels=["namespace", "name", *self.labels]
        )


def _info(state: _State, _now: float) -> _Series:
    view = state.view
    labels = (
        view.backend,
        view.variant,
        view.precision,
        view.engine,
        view.engine_version,
        view.pool,
        view.accelerator,
    )
    yield labels, 1


def _conditions(state: _State, _now: float) -> _Series:
    for kind, current in state.view.conditions.items():
        for status in _STATUSES:
            yield (kind, status), float(status == current)


def _replicas(state: _State, _now: float) -> _Series:
    return [((name,), count) for name, count in state.view.replicas.items()]


def _running(state: _State, _now: float) -> _Series:
    yield from _over_engines(state, lambda sample: sample.running)


def _waiting(state: _State, _now: float) -> _Series:
    yield from _over_engines(state, lambda sample: sample.waiting)


def _over_engines(state: _State, value: Callable[[EngineSample], int]) -> _Series:
    """A sum, where anything is known: no replica at all is a known 0, an unseen one is not."""
    samples = state.samples
    if samples or not state.view.pod_uids:
        yield (), sum(map(value, samples))


def _prompt_tokens(state: _State, _now: float) -> _Series:
    yield (), state.prompt_tokens


def _generation_tokens(state: _State, _now: float) -> _Series:
    yield (), state.generation_tokens


def _requests(state: _State, _now: float) -> _Series:
    return [((reason,), count) for reason, count in list(state.requests.items())]


def _kv_usage(state: _State, _now: float) -> _Series:
    usages = [sample.kv_usage for sample in state.samples if sample.kv_usage is not None]
    return [((), max(usages))] if usages else []


def _kv_tokens(state: _State, _now: float) -> _Series:
    if state.view.predicted_kv_tokens is not None:
        yield ("predicted",), state.view.predicted_kv_tokens
    measured = [sample.kv_tokens for sample in state.samples if sample.kv_tokens is not None]
    if measured:
        yield ("measured",), min(measured)


def _probe_latency(state: _State, _now: float) -> _Series:
    replicas = list(state.replicas.values())
    known = [replica.probe_seconds for replica in replicas if replica.probe_seconds is not None]
    return [((), max(known))] if known else []


def _probe_failures(state: _State, _now: float) -> _Series:
    yield (), state.probe_failures


def _startup(state: _State, _now: float) -> _Series:
    return [((phase,), seconds) for phase, seconds in state.view.startup_seconds.items()]


def _cost(state: _State, _now: float) -> _Series:
    if state.view.cost_per_hour is not None:
        currency, amount = state.view.cost_per_hour
        yield (currency,), amount


def _data_age(state: _State, now: float) -> _Series:
    replicas = list(state.replicas.values())
    seen = [replica.seen_seconds for replica in replicas if replica.sample is not None]
    return [(("engine",), max(0.0, now - min(seen)))] if seen else []


_GAUGE = GaugeMetricFamily
_COUNTER = CounterMetricFamily
_FAMILIES = (
    _Family(
        _GAUGE,
        "info",
        "What the deployment is served by, by its plan.",
        ("backend", "variant", "precision", "engine", "engine_version", "pool", "accelerator"),
        _info,
    ),
    _Family(_GAUGE, "condition", "1 for the status that a condition has.", ("type", "status"), _conditions),
    _Family(_GAUGE, "replicas", "Replicas by state.", ("state",), _replicas),
    _Family(_GAUGE, "requests_running", "Requests that engines are working on.", (), _running),
    _Family(_GAUGE, "requests_waiting", "Requests that wait in engines.", (), _waiting),
    _Family(_COUNTER, "prompt_tokens", "Prompt tokens read.", (), _prompt_tokens),
    _Family(_COUNTER, "generation_tokens", "Tokens generated.", (), _generation_tokens),
    _Family(_COUNTER, "requests", "Requests ended, by how.", ("finished_reason",), _requests),
    _Family(_GAUGE, "kv_cache_usage_ratio", "KV cache in use, of the fullest replica.", (), _kv_usage),
    _Family(
        _GAUGE,
        "kv_tokens",
        "Tokens that the KV cache of one replica holds: as planned, and by the engine's own word.",
        ("source",),
        _kv_tokens,
    ),
    _Family(_GAUGE, "probe_latency_seconds", "Last probe of the slowest replica.", (), _probe_latency),
    _Family(_COUNTER, "probe_failures", "Probes that brought no token of the model.", (), _probe_failures),
    _Family(_GAUGE, "startup_seconds", "Seconds that the last start took, by phase.", ("phase",), _startup),
    _Family(_GAUGE, "cost_per_hour", "Price an hour of the wanted replicas.", ("currency",), _cost),
    _Family(_GAUGE, "data_age_seconds", "Age of the oldest figure shown.", ("source",), _data_age),
)
