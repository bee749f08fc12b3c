"""docs/metrics.md has every name that is emitted, with its type and labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gemma_operator.metrics.registry import DeploymentView, Metrics, PoolView
from gemma_operator.probing.deltas import Delta
from gemma_operator.probing.exposition import EngineSample
from gemma_operator.probing.facts import ProbeResult
from snapshots import Key

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text()
ROW = re.compile(r"^\| `(gemma_\w+)` \| (gauge|counter) \| ([\w, ]*)\|", re.MULTILINE)
CHAT = Key("team", "chat")
SAMPLE = EngineSample(running=1, waiting=2, kv_usage=0.5, kv_tokens=9, requests={"stop": 1})
VIEW = DeploymentView(
    conditions={"Ready": "True"},
    replicas=dict.fromkeys(("wanted", "starting", "ready", "proved", "wedged", "missing"), 1),
    pod_uids=frozenset({"one"}),
    predicted_kv_tokens=10,
    startup_seconds={"load": 1.0},
    cost_per_hour=("USD", 1.0),
)


@pytest.fixture
def emitted():
    """Samples of everything that can be said, by name: (type, labels of all its series)."""
    metrics = Metrics()
    metrics.leader(True)
    metrics.deployment(CHAT, VIEW)
    metrics.sample(CHAT, "one", SAMPLE, Delta(requests={"stop": 1}))
    metrics.probe(CHAT, "one", ProbeResult(None, seconds=0.1))
    metrics.pools([PoolView("group", "l4", "nvidia-l4", total=1, free=1, claimed=0)])
    metrics.request("get", 200)
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, (family.type, []))[1].append(sample.labels)
    return found


def test_the_table_is_what_is_emitted(emitted):
    told = {
        name: (kind, {label.strip() for label in labels.split(",") if label.strip()})
        for name, kind, labels in ROW.findall(PAGE)
    }
    shown = {
        name: (kind, set(labels[0]) - ({"namespace", "name"} if "_deployment_" in name else set()))
        for name, (kind, labels) in emitted.items()
        if name.startswith("gemma_")
    }
    assert told == shown


def test_every_state_and_source_is_told(emitted):
    for name, label in (
        ("gemma_deployment_replicas", "state"),
        ("gemma_deployment_kv_tokens", "source"),
        ("gemma_pool_accelerators", "state"),
    ):
        (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        for labels in emitted[name][1]:
            assert f"`{labels[label]}`" in row


def test_the_operators_own_names_are_told(emitted):
    told = set(re.findall(r"`((?:controller_runtime|workqueue|rest_client|leader_election)_\w+)`", PAGE))
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in emitted}
    assert told == {name for name in shown if not name.startswith(("gemma_", "process_"))}


def test_every_name_in_an_example_is_in_the_table(emitted):
    blocks = re.findall(r"```(?:promql|yaml)\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        names = set(re.findall(r"gemma_\w+", block))
        assert names
        assert names <= emitted.keys()
