"""The names, types and labels that are API, and what each of them says."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gemma_operator.metrics.registry import DeploymentView, Metrics, PoolView
from gemma_operator.probing.deltas import Delta, since
from gemma_operator.probing.exposition import MOST_NAMES, EngineSample
from gemma_operator.probing.facts import FailureKind, ProbeResult


@dataclass(frozen=True, slots=True)
class Key:
    namespace: str = "team"
    name: str = "chat"


CHAT = Key()
VIEW = DeploymentView(
    backend="Kubernetes",
    variant="31B",
    precision="bf16",
    engine="VLLM",
    engine_version="0.32",
    pool="h100",
    accelerator="nvidia-h100-80gb",
    conditions={"Ready": "True", "Healthy": "Unknown"},
    replicas={"wanted": 2, "starting": 0, "ready": 2, "proved": 1, "wedged": 0, "missing": 1},
    pod_uids=frozenset({"pod", "other"}),
    predicted_kv_tokens=40000,
    startup_seconds={"load": 61.5},
    cost_per_hour=("USD", 4.96),
)
SAMPLE = EngineSample(
    running=3,
    waiting=2,
    kv_usage=0.5,
    kv_tokens=41000,
    prompt_tokens=100,
    generation_tokens=1000,
    requests={"stop": 4},
)
POOL = PoolView(
    source="gke-nodepool",
    pool="h100",
    accelerator="nvidia-h100-80gb",
    total=8,
    free=5,
    claimed=2,
    quarantined=1,
)

#: The table of the design: name → type and labels.
TABLE = {
    "gemma_deployment_info": (
        "gauge",
        {"backend", "variant", "precision", "engine", "engine_version", "pool", "accelerator"},
    ),
    "gemma_deployment_condition": ("gauge", {"type", "status"}),
    "gemma_deployment_replicas": ("gauge", {"state"}),
    "gemma_deployment_requests_running": ("gauge", set()),
    "gemma_deployment_requests_waiting": ("gauge", set()),
    "gemma_deployment_prompt_tokens_total": ("counter", set()),
    "gemma_deployment_generation_tokens_total": ("counter", set()),
    "gemma_deployment_requests_total": ("counter", {"finished_reason"}),
    "gemma_deployment_kv_cache_usage_ratio": ("gauge", set()),
    "gemma_deployment_kv_tokens": ("gauge", {"source"}),
    "gemma_deployment_probe_latency_seconds": ("gauge", set()),
    "gemma_deployment_probe_failures_total": ("counter", set()),
    "gemma_deployment_startup_seconds": ("gauge", {"phase"}),
    "gemma_deployment_cost_per_hour": ("gauge", {"currency"}),
    "gemma_deployment_data_age_seconds": ("gauge", {"source"}),
}
POOL_TABLE = {"gemma_pool_accelerators": ("gauge", {"source", "pool", "accelerator", "state"})}
CONTROLLER_TABLE = {
    "controller_runtime_reconcile_total": ("counter", {"controller", "result"}),
    "controller_runtime_reconcile_errors_total": ("counter", {"controller"}),
    "controller_runtime_reconcile_time_seconds": ("histogram", {"controller"}),
    "controller_runtime_active_workers": ("gauge", {"controller"}),
    "workqueue_depth": ("gauge", {"name", "controller"}),
    "workqueue_adds_total": ("counter", {"name", "controller"}),
    "workqueue_retries_total": ("counter", {"name", "controller"}),
    "workqueue_queue_duration_seconds": ("histogram", {"name", "controller"}),
    "rest_client_requests_total": ("counter", {"method", "code"}),
    "leader_election_master_status": ("gauge", {"name"}),
}


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock) -> Metrics:
    """The leader's, with one deployment of two pods."""
    metrics = Metrics(clock=clock)
    metrics.leader(True)
    metrics.deployment(CHAT, VIEW)
    return metrics


def families(metrics: Metrics):
    return list(text_string_to_metric_families(metrics.exposition().decode()))


def values(metrics: Metrics, name: str, *labels: str, of: Key = CHAT):
    """The series of one name for one object: by one label, or the single value without one."""
    found = {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in families(metrics)
        for sample in family.samples
        if sample.name == name and sample.labels.get("name") == of.name
    }
    if labels:
        return {key[0] if len(labels) == 1 else key: value for key, value in found.items()}
    return found.get(())


def shown(metrics: Metrics, prefix: str) -> dict[str, tuple[str, set[str]]]:
    table = {}
    for family in families(metrics):
        for sample in family.samples:
            suffixes = ("_bucket", "_sum", "_count") if family.type == "histogram" else ()
            name = next(
                (sample.name.removesuffix(s) for s in suffixes if sample.name.endswith(s)), sample.name
            )
            if name.startswith(prefix):
                labels = set(sample.labels) - {"le"}
                assert table.setdefault(name, (family.type, labels)) == (family.type, labels)
    return table


def fill(metrics: Metrics) -> None:
    metrics.sample(CHAT, "pod", SAMPLE, since(None, SAMPLE))
    metrics.probe(CHAT, "pod", ProbeResult(None, model="chat", tokens=1, seconds=0.3))
    metrics.pools([POOL])
    metrics.request("get", 200)


def test_all_names_of_the_table_and_no_other(metrics):
    fill(metrics)
    named = {name: (kind, labels | {"namespace", "name"}) for name, (kind, labels) in TABLE.items()}
    assert shown(metrics, "gemma_") == named | POOL_TABLE


def test_names_of_controller_runtime(metrics):
    fill(metrics)
    for name, kind_and_labels in CONTROLLER_TABLE.items():
        assert shown(metrics, name)[name] == kind_and_labels


def test_nothing_but_the_tables_and_the_process(metrics):
    fill(metrics)
    others = shown(metrics, "").keys() - TABLE.keys() - POOL_TABLE.keys() - CONTROLLER_TABLE.keys()
    assert {name for name in others if not name.startswith("process_")} == set()
    assert b"_created" not in metrics.exposition()


def test_every_series_is_there_once(metrics):
    fill(metrics)
    metrics.pools([POOL, replace(POOL, total=1)])
    lines = [line.rsplit(b" ", 1)[0] for line in metrics.exposition().splitlines() if line[:1] != b"#"]
    assert len(lines) == len(set(lines))


def test_info_says_what_is_served(metrics):
    assert values(metrics, "gemma_deployment_info", "variant", "pool") == {("31B", "h100"): 1}


def test_info_is_one_series_after_another_plan(metrics):
    metrics.deployment(CHAT, replace(VIEW, variant="12B", pool="l4"))
    assert values(metrics, "gemma_deployment_info", "variant", "pool") == {("12B", "l4"): 1}


def test_a_condition_is_1_for_its_status_alone(metrics):
    assert values(metrics, "gemma_deployment_condition", "type", "status") == {
        ("Ready", "True"): 1,
        ("Ready", "False"): 0,
        ("Ready", "Unknown"): 0,
        ("Healthy", "True"): 0,
        ("Healthy", "False"): 0,
        ("Healthy", "Unknown"): 1,
    }


def test_replicas_by_state(metrics):
    assert values(metrics, "gemma_deployment_replicas", "state") == dict(VIEW.replicas)


def test_gauges_are_sums_or_the_worst_over_replicas(metrics, clock):
    metrics.sample(CHAT, "pod", SAMPLE, Delta())
    clock.seconds += 7
    metrics.sample(CHAT, "other", replace(SAMPLE, running=1, kv_usage=0.9, kv_tokens=39000), Delta())
    clock.seconds += 3
    metrics.probe(CHAT, "pod", ProbeResult(None, seconds=0.2))
    metrics.probe(CHAT, "other", ProbeResult(None, seconds=1.5))
    assert values(metrics, "gemma_deployment_requests_running") == 4
    assert values(metrics, "gemma_deployment_requests_waiting") == 4
    assert values(metrics, "gemma_deployment_kv_cache_usage_ratio") == 0.9
    assert values(metrics, "gemma_deployment_kv_tokens", "source") == {"predicted": 40000, "measured": 39000}
    assert values(metrics, "gemma_deployment_probe_latency_seconds") == 1.5
    assert values(metrics, "gemma_deployment_data_age_seconds", "source") == {"engine": 10}


def test_what_is_not_known_is_not_shown(metrics):
    for name in ("requests_running", "kv_cache_usage_ratio", "probe_latency_seconds", "data_age_seconds"):
        assert values(metrics, f"gemma_deployment_{name}") is None
    metrics.deployment(CHAT, DeploymentView(pod_uids=frozenset({"pod"})))
    assert values(metrics, "gemma_deployment_cost_per_hour", "currency") == {}
    assert values(metrics, "gemma_deployment_kv_tokens", "source") == {}


def test_no_replica_at_all_is_a_known_zero(metrics):
    metrics.deployment(CHAT, replace(VIEW, pod_uids=frozenset()))
    assert values(metrics, "gemma_deployment_requests_running") == 0


def test_counters_begin_at_zero_with_the_object(metrics):
    assert values(metrics, "gemma_deployment_generation_tokens_total") == 0
    assert values(metrics, "gemma_deployment_probe_failures_total") == 0


def test_failed_probes_are_counted(metrics):
    metrics.probe(CHAT, "pod", ProbeResult(FailureKind.TIMEOUT, seconds=20.0))
    metrics.probe(CHAT, "other", ProbeResult(FailureKind.STATUS, seconds=0.1))
    metrics.probe(CHAT, "pod", ProbeResult(None, seconds=0.1))
    assert values(metrics, "gemma_deployment_probe_failures_total") == 2


def test_counters_grow_over_restarts_and_replicas_that_come_and_go(metrics):
    def lives(pod_uid: str, *tokens: int) -> None:
        previous = None
        for count in tokens:
            sample = EngineSample(prompt_tokens=count, generation_tokens=count, requests={"stop": count})
            metrics.sample(CHAT, pod_uid, sample, since(previous, sample))
            previous = sample

    lives("pod", 1000, 1100, 40)  # +100, a restart, +40
    metrics.deployment(CHAT, replace(VIEW, pod_uids=frozenset({"other"})))
    lives("other", 500, 510)  # another replica's past is not counted
    metrics.deployment(CHAT, replace(VIEW, pod_uids=frozenset()))
    assert values(metrics, "gemma_deployment_generation_tokens_total") == 150
    assert values(metrics, "gemma_deployment_prompt_tokens_total") == 150
    assert values(metrics, "gemma_deployment_requests_total", "finished_reason") == {"stop": 150}


def test_ways_to_end_that_an_engine_makes_up_again_and_again_are_few_series(metrics):
    for number in range(100):
        metrics.sample(CHAT, "pod", EngineSample(), Delta(requests={f"reason {number}": 1}))
    ended = values(metrics, "gemma_deployment_requests_total", "finished_reason")
    assert sum(ended.values()) == 100
    assert len(ended) == MOST_NAMES + 1
    assert ended["other"] == 100 - MOST_NAMES


def test_gauges_of_a_replica_that_went_go_with_it(metrics):
    metrics.sample(CHAT, "pod", SAMPLE, Delta())
    metrics.sample(CHAT, "other", SAMPLE, Delta())
    metrics.deployment(CHAT, replace(VIEW, pod_uids=frozenset({"other"})))
    assert values(metrics, "gemma_deployment_requests_running") == 3


def test_series_go_when_the_object_goes_and_late_news_do_not_bring_them_back(metrics):
    other = Key(name="other")
    metrics.deployment(other, VIEW)
    fill(metrics)
    metrics.forget(CHAT)
    metrics.sample(CHAT, "pod", SAMPLE, Delta(generation_tokens=5))
    metrics.probe(CHAT, "pod", ProbeResult(None))
    assert b'name="chat"' not in metrics.exposition()
    assert values(metrics, "gemma_deployment_info", "variant", of=other) == {"31B": 1}


def test_only_the_leader_shows_deployments_and_pools(metrics):
    fill(metrics)
    metrics.leader(False)
    assert b"\ngemma_" not in metrics.exposition()
    assert b'leader_election_master_status{name="gemma-operator"} 0.0' in metrics.exposition()
    metrics.leader(True)
    assert values(metrics, "gemma_deployment_replicas", "state") != {}


def pools(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["pool"], sample.labels["state"]): sample.value
        for family in families(metrics)
        for sample in family.samples
        if sample.name == "gemma_pool_accelerators"
    }


def test_pools_of_one_name_are_one_and_gone_pools_are_gone(metrics):
    metrics.pools([POOL, replace(POOL, total=4, free=4, claimed=0, quarantined=0)])
    assert pools(metrics) == {
        ("h100", "total"): 12,
        ("h100", "free"): 9,
        ("h100", "claimed"): 2,
        ("h100", "quarantined"): 1,
    }
    metrics.pools([replace(POOL, pool="l4")])
    assert {pool for pool, _ in pools(metrics)} == {"l4"}


def test_labels_are_escaped(metrics):
    odd = 'a"b\\c\nd'
    metrics.pools([replace(POOL, pool=odd)])
    assert {pool for pool, _ in pools(metrics)} == {odd}


def test_the_controller_counts_what_it_does(metrics):
    metrics.reconciled("success", 0.005)
    metrics.reconciled("error", 0.3)
    metrics.controller.added()
    metrics.controller.retried()
    metrics.controller.waited(0.02)
    metrics.controller.depth = lambda: 7
    metrics.controller.active_workers = lambda: 3
    metrics.request("patch", 200)
    metrics.request("PATCH", 200)
    metrics.request("get", 0)
    text = metrics.exposition().decode()
    for line in (
        'controller_runtime_reconcile_total{controller="gemmadeployment",result="success"} 1.0',
        'controller_runtime_reconcile_errors_total{controller="gemmadeployment"} 1.0',
        'controller_runtime_reconcile_time_seconds_bucket{controller="gemmadeployment",le="0.005"} 1.0',
        'controller_runtime_reconcile_time_seconds_bucket{controller="gemmadeployment",le="+Inf"} 2.0',
        'controller_runtime_reconcile_time_seconds_count{controller="gemmadeployment"} 2.0',
        'controller_runtime_active_workers{controller="gemmadeployment"} 3.0',
        'workqueue_depth{controller="gemmadeployment",name="gemmadeployment"} 7.0',
        'workqueue_adds_total{controller="gemmadeployment",name="gemmadeployment"} 1.0',
        'workqueue_retries_total{controller="gemmadeployment",name="gemmadeployment"} 1.0',
        'rest_client_requests_total{code="200",method="PATCH"} 2.0',
        'rest_client_requests_total{code="<error>",method="GET"} 1.0',
        'leader_election_master_status{name="gemma-operator"} 1.0',
    ):
        assert line in text, line
