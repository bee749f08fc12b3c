"""`gemma-operator pools`, run as the command line does."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from gemma_operator.cli import main

NODES = Path(__file__).parents[2] / "data" / "nodes"
ROWS = {row["file"]: row for row in csv.DictReader((NODES / "expected.csv").read_text().splitlines())}

#: The hardware would do, and still a GemmaDeployment that asks for nothing is not planned there.
HARDWARE_ALONE = {
    "eks-auto-mode-g5-spot.yaml": "spot",
    "eks-karpenter-provisioner-g5-spot-tainted.yaml": "spot",
    "gke-l4-preemptible-computeclass.yaml": "spot",
    "gfd-docs-a100-40gb-mig-mixed-three-profiles.yaml": "driver 450",
    "k3s-a30-vmware.yaml": "driver 535",
    "lambda-k3s-h100-pcie.yaml": "driver 535",
    "onprem-azurevm-a100-80gb-mig-single-1g10gb.yaml": "driver 515",
}
#: Not read yet: see tests/unit/hardware/test_published_nodes.py. "unsure" is no expectation.
NOT_READ = {
    "coreweave-rtx-pro-6000.yaml",
    "dra-aks-a100-80gb-resourceslice.yaml",
    "dra-eks-h100-eight-gpus-resourceslices.yaml",
    "dra-h200-resourceslice.yaml",
    "nrp-gh200-480gb.yaml",
}


@pytest.fixture
def pools(capsys):
    def run(*files, output="json"):
        words = [word for file in files for word in ("--nodes", str(file))]
        assert main(["pools", *words, "-o", output]) == 0
        printed = capsys.readouterr()
        return json.loads(printed.out)["pools"] if output == "json" else printed.out

    return run


@pytest.mark.parametrize("file", [file for file in ROWS if file not in {*NOT_READ, *HARDWARE_ALONE}])
def test_a_published_node_is_usable_as_expected(pools, file):
    usable = any(pool["usable"] for pool in pools(NODES / file))
    assert usable is ROWS[file]["usable_for_vllm_cuda"].startswith("yes")


@pytest.mark.parametrize("file", HARDWARE_ALONE)
def test_hardware_that_would_do_says_what_stands_in_the_way(pools, file):
    assert ROWS[file]["usable_for_vllm_cuda"].startswith("yes")
    for pool in pools(NODES / file):
        assert not pool["usable"]
        assert HARDWARE_ALONE[file] in pool["reason"]


def test_a_pool_has_exactly_these_fields(pools):
    (pool,) = pools(NODES / "k3s-l4-gce.yaml")
    assert len(pool.pop("shape")) == 8
    assert pool == {
        "name": "nvidia-l4",
        "source": "group",
        "resourceName": "nvidia.com/gpu",
        "accelerator": "nvidia-l4",
        "memoryMiB": 23034,
        "computeCapability": "8.9",
        "acceleratorsPerNode": 1,
        "nodes": 1,
        "sharing": "none",
        "spot": None,
        "usable": True,
        "reason": "",
    }


@pytest.mark.parametrize("file", ROWS)
def test_a_pool_that_is_not_usable_says_why(pools, file):
    for pool in pools(NODES / file):
        assert pool["usable"] is (pool["reason"] == "")


def test_a_pool_whose_nodes_take_no_pods_is_not_usable_now(pools, tmp_path):
    node = yaml.safe_load((NODES / "k3s-l4-gce.yaml").read_text())
    cordoned = {**node, "spec": {"unschedulable": True}}
    deleted = {
        **node,
        "metadata": {**node["metadata"], "name": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"},
    }
    listed = tmp_path / "nodes.yaml"
    listed.write_text(yaml.safe_dump_all([cordoned, deleted]))
    (pool,) = pools(listed)
    assert (pool["nodes"], pool["usable"]) == (2, False)
    assert pool["reason"] == "every node of it is being deleted or is cordoned"
    listed.write_text(yaml.safe_dump_all([cordoned, {**node, "metadata": {**node["metadata"], "name": "c"}}]))
    (pool,) = pools(listed)
    assert pool["usable"]


@pytest.mark.parametrize(("most", "reason"), [(0, "it has no node, and its limits let none come"), (1, "")])
def test_a_pool_without_a_node_is_usable_where_one_may_come(pools, tmp_path, most, reason):
    spec = {
        "accelerator": "nvidia-l4",
        "acceleratorsPerNode": 1,
        "nodeSelector": {"a": "b"},
        "maxNodes": most,
    }
    declared = {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "AcceleratorPool",
        "metadata": {"name": "l4"},
        "spec": spec,
    }
    listed = tmp_path / "pools.yaml"
    listed.write_text(yaml.safe_dump(declared))
    (pool,) = pools(listed)
    assert (pool["nodes"], pool["usable"], pool["reason"]) == (0, reason == "", reason)


def test_files_are_read_together(pools, tmp_path):
    declared = {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "AcceleratorPool",
        "metadata": {"name": "h100"},
        "spec": {"accelerator": "nvidia-h100-80gb", "acceleratorsPerNode": 8, "nodeSelector": {"a": "b"}},
    }
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(declared))
    found = pools(NODES / "k3s-l4-gce.yaml", tmp_path / "pool.yaml")
    assert [(pool["source"], pool["nodes"]) for pool in found] == [("accelerator-pool", 0), ("group", 1)]


def test_the_table_has_a_line_a_pool_and_says_yes_and_no(pools):
    lines = pools(NODES / "k3s-l4-gce.yaml", NODES / "eks-g4dn-t4-gfd.yaml", output="table").splitlines()
    assert lines[0].split() == [
        *("NAME", "SOURCE", "RESOURCE", "ACCELERATOR", "MEMORY", "MiB", "CC", "ACCELERATORS"),
        *("NODES", "SHARING", "SPOT", "USABLE", "REASON"),
    ]
    assert lines[1].split()[-2:] == ["yes", "-"]
    assert "no" in lines[2].split()
    assert "Turing" in lines[2]


def test_yaml_holds_the_same_as_json(pools):
    file = NODES / "k3s-l4-gce.yaml"
    assert yaml.safe_load(pools(file, output="yaml"))["pools"] == pools(file)


def test_a_fleet_without_accelerators_is_an_answer(pools):
    assert pools(NODES / "aks-nap-cpu-node.yaml") == []
    assert pools(NODES / "aks-nap-cpu-node.yaml", output="table").startswith("no pools: ")


def test_devices_of_dra_are_shown_with_the_reason_why_they_are_not_used(capsys):
    assert main(["pools", "--nodes", str(NODES / "dra-h200-resourceslice.yaml")]) == 0
    shown = capsys.readouterr()
    assert "nvidia-h200" in shown.out
    assert "ResourceClaim" in shown.out
    assert shown.err == ""


def test_other_kinds_are_passed_over_aloud(capsys, tmp_path):
    (tmp_path / "service.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: s}\n")
    assert main(["pools", "--nodes", str(tmp_path / "service.yaml")]) == 0
    assert "1 of kind Service passed over" in capsys.readouterr().err
