"""What `gemma-operator plan` says of a fleet is what the operator writes into status there, word for word.

The command reads the cluster of the kubeconfig, or files as kubectl prints them; the operator reads its watches. Two
ways to one planner: a difference would be in what they read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cluster.teams import a_deployment, condition, says
from cluster.waiting import until

pytestmark = pytest.mark.cluster
_OF_THE_MOMENT = {"plannedAt"}
_READ = "nodes,pods,deployments,acceleratorpools,resourcequotas,limitranges"

ASKED = {
    "all defaults": {},
    "many users": {"serving": {"contextLength": 8192, "concurrency": 64}},
    "long documents": {"serving": {"contextLength": 131072, "concurrency": 2, "modalities": ["text"]}},
    "a small model with films": {"model": {"variants": ["E4B"]}, "serving": {"modalities": ["video"]}},
    "a flag of the engine": {"serving": {"engine": {"name": "VLLM", "extraArgs": ["--enforce-eager"]}}},
    "a drafter": {"serving": {"speculativeDecoding": "Auto"}},
    "an older engine": {"serving": {"engine": {"name": "VLLM", "version": "0.25.1"}}},
}
IMPOSSIBLE = {"model": {"variants": ["31B"]}, "serving": {"contextLength": 262144, "concurrency": 64}}


@pytest.fixture
def said(installed, team, tmp_path):
    """What the command says of one manifest: its exit code and its document."""

    def run(manifest, *words):
        (tmp_path / "asked.yaml").write_text(json.dumps(manifest))
        command = [sys.executable, "-m", "gemma_operator", "plan", "-f", str(tmp_path / "asked.yaml")]
        finished = subprocess.run(
            [*command, "-n", team.namespace, "-o", "json", *words],
            env={**os.environ, "KUBECONFIG": str(installed.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode in (0, 1), finished.stderr
        return finished.returncode, json.loads(finished.stdout)

    return run


def asked_on(team, pools, spec, name="chat"):
    manifest = a_deployment(name, **{**spec, "hardware": {"pools": pools}})
    manifest["metadata"]["namespace"] = team.namespace
    return manifest


def without(plan):
    return {key: value for key, value in plan.items() if key not in _OF_THE_MOMENT}


def answered(team, name="chat"):
    """The status once the operator has planned this generation, whatever came of it."""

    def planned(obj):
        return condition(obj, "Planned").get("observedGeneration") == obj["metadata"]["generation"]

    return team.sees("GemmaDeployment", name, planned)["status"]


def the_fleet_as_kubectl_prints_it(team, folder):
    file = folder / "fleet.json"
    file.write_text(team.kubectl("get", _READ, "-A", "-o", "json"))
    return ("--nodes", str(file))


@pytest.mark.parametrize("spec", ASKED.values(), ids=list(ASKED))
def test_the_plan_is_the_one_in_status(team, operator, said, tmp_path, spec):
    pools = [team.pool("l4", nodes=2), team.pool("h100", nodes=1)]
    manifest = asked_on(team, pools, spec)
    code, from_the_cluster = said(manifest)
    _, from_files = said(manifest, *the_fleet_as_kubectl_prints_it(team, tmp_path))
    team.apply(manifest)
    status = answered(team)
    assert code == 0
    assert without(status["plan"]) == without(from_the_cluster["plan"]) == without(from_files["plan"])
    assert status["alternatives"] == from_the_cluster["alternatives"] == from_files["alternatives"]


def test_what_cannot_be_planned_is_said_in_the_same_words(team, operator, said):
    manifest = asked_on(team, [team.pool("l4", nodes=1)], IMPOSSIBLE)
    code, document = said(manifest)
    team.apply(manifest)
    status = answered(team)
    assert (code, document["plan"], "plan" in status) == (1, None, False)
    assert says("Planned", "False")(team.get("GemmaDeployment", "chat"))
    assert status["alternatives"] == document["alternatives"]


def test_what_runs_takes_its_room_from_both(team, operator, said):
    """One H100 node of eight: the first takes it whole, so the second waits or takes what else there is."""
    pools = [team.pool("h100", nodes=1), team.pool("l4", nodes=1)]
    first = asked_on(team, pools, {"serving": {"contextLength": 32768}, "replicas": 8}, name="first")
    team.apply(first)
    until(lambda: len(team.pods("first")) == 8, what="the first has its eight pods")
    team.ready("first")
    second = asked_on(team, pools, {"model": {"variants": ["31B", "E4B"]}}, name="second")
    code, document = said(second)
    team.apply(second)
    status = answered(team, "second")
    assert code == 0
    assert document["plan"]["pool"]["name"] == pools[1]
    assert without(status["plan"]) == without(document["plan"])
    assert status["alternatives"] == document["alternatives"]
