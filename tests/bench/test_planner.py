"""What planning costs. Figures are printed (`make bench`), never judged by the clock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench import machine
from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.nodepools import nodepool_record, prospects
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.planner.choice import choose, rank
from gemma_operator.planner.demand import demand
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.placement import ledger_of
from gemma_operator.planner.request import from_spec

CATALOG = packaged()
CARDS = [card.name for card in CATALOG.accelerators.values() if not card.refused]
REQUEST = from_spec("bench", GemmaDeploymentSpec())
CANDIDATES = 1000
NODES = 640
GKE = "cloud.google.com/gke-"


@pytest.fixture(scope="module", autouse=True)
def named():
    machine.say(f"\nplanner, on {machine.name()}")


def shapes(count):
    """Pools of eight, one card after the other; no two with the same number of anything."""
    declared = [
        DeclaredPool(f"p{number}", CARDS[number % len(CARDS)], 8, (("p", str(number)),), max_nodes=1)
        for number in range(count)
    ]
    return pools((), declared, CATALOG)


def of_candidates(wanted):
    """As many pools as give so many verdicts."""
    for count in range(1, 200):
        found = shapes(count)
        verdict = feasible(REQUEST, [pool.shape for pool in found], CATALOG)
        if len(verdict.fits) + len(verdict.rejections) >= wanted:
            return found, verdict
    raise AssertionError("no fleet is large enough")


def test_feasible():
    found, verdict = of_candidates(CANDIDATES)
    seen = [pool.shape for pool in found]
    count = len(verdict.fits) + len(verdict.rejections)
    figure = f"feasible, {count} candidates on {len(seen)} pools, nothing kept from before"
    machine.figure(figure, lambda: feasible(REQUEST, seen, CATALOG), rounds=30, aim="< 50 ms")


def test_choose():
    found, verdict = of_candidates(CANDIDATES)
    ranking = rank(verdict, request=REQUEST, catalog=CATALOG)
    ledger = ledger_of(pools=found, pods=(), placed=())
    demands = {id(fit): demand(REQUEST, fit, CATALOG) for fit in verdict.fits}

    def room(fit):
        return ledger.room(fit.candidate.shape.id, demands[id(fit)])

    def work():
        return choose(ranking, replicas=2, room=room)

    assert work().placed
    machine.figure(f"choose among {len(verdict.fits)} that fit", work, rounds=200, aim="< 1 ms")
    machine.figure(
        "rank them, once for equal requests",
        lambda: rank(verdict, request=REQUEST, catalog=CATALOG),
        rounds=30,
        aim="none",
    )


def a_node(number, card):
    return {
        "kind": "Node",
        "metadata": {
            "name": f"node-{number}",
            "labels": {
                f"{GKE}nodepool": f"{card}-{number % 3}",
                f"{GKE}accelerator": card,
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": f"node-{number}",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
            },
        },
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {
                "cpu": "200",
                "memory": "1800Gi",
                "ephemeral-storage": "2000Gi",
                "pods": "110",
                "nvidia.com/gpu": "8",
            },
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def the_fleet():
    cards = ("nvidia-h100-80gb", "nvidia-l4", "nvidia-a100-80gb", "nvidia-h200-141gb")
    return [a_node(number, cards[number % len(cards)]) for number in range(NODES)]


def test_a_fleet_from_records():
    records = [node_record(obj) for obj in the_fleet()]
    assert len(pools(records, (), CATALOG)) == 12
    machine.figure(
        f"{NODES} node records to 12 pools", lambda: pools(records, (), CATALOG), rounds=30, aim="< 100 ms"
    )


def test_a_fleet_with_nodepools_that_may_bring_any_machine():
    """Ten NodePools that name no machine, spot or not: more kinds than anybody uses."""
    records = [node_record(obj) for obj in the_fleet()]
    spot = {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot", "on-demand"]}
    template = {"spec": {"nodeClassRef": {"group": "karpenter.k8s.aws"}, "requirements": [spot]}}
    nodepools = [
        nodepool_record({"metadata": {"name": f"k{number}"}, "spec": {"template": template}})
        for number in range(10)
    ]

    def work():
        return pools(
            records, (), CATALOG, prospects=[p for pool in nodepools for p in prospects(pool, CATALOG)]
        )

    machine.figure(
        f"{NODES} node records and 10 NodePools to {len(work())} pools", work, rounds=10, aim="none"
    )


def test_plan_from_the_shell(tmp_path: Path):
    question = {"kind": "GemmaDeployment", "metadata": {"name": "chat"}, "spec": {}}
    (tmp_path / "cr.yaml").write_text(yaml.safe_dump(question))
    (tmp_path / "nodes.yaml").write_text(yaml.safe_dump_all(the_fleet()[:12]))
    words = ("plan", "-f", str(tmp_path / "cr.yaml"), "--nodes", str(tmp_path / "nodes.yaml"))

    def work():
        subprocess.run(
            [sys.executable, "-m", "gemma_operator", *words], check=True, stdout=subprocess.DEVNULL
        )

    machine.figure("gemma-operator plan, the whole process, 12 nodes", work, rounds=7, aim="< 700 ms")
