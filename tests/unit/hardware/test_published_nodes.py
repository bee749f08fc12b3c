"""Every published Node is read as `expected.csv` says."""

import csv
from pathlib import Path

import pytest
import yaml

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.dra import slice_record
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools

NODES = Path(__file__).parents[2] / "data" / "nodes"
ROWS = {row["file"]: row for row in csv.DictReader((NODES / "expected.csv").read_text().splitlines())}

#: Its pool holds nothing to plan for.
WITHOUT_ACCELERATORS = "aks-nap-cpu-node.yaml"
#: Whole-card figures that a planner of slices does not use: each slice's own is read instead.
CARD_BEHIND_SLICES = {"gfd-docs-a100-40gb-mig-mixed-three-profiles.yaml"}
#: The catalog knows these cards by now; the record's reader did not ask for it.
NAMED_SINCE = {
    "lke-rtx4000-ada.yaml": "nvidia-rtx-4000-ada",
    "nrp-gh200-480gb.yaml": "nvidia-gh200-96gb",
    "gke-tpu-v6e-2x2-autoprovisioned.yaml": "google-tpu-v6e",
}


def read(file):
    objects = [obj for obj in yaml.safe_load_all((NODES / file).read_text()) if obj]
    slices = [record for obj in objects if obj["kind"] == "ResourceSlice" and (record := slice_record(obj))]
    return pools([record for obj in objects if (record := node_record(obj))], (), packaged(), slices=slices)


def differences(file):
    row, found = ROWS[file], read(file)
    shapes = [pool.shape for pool in found]
    expected = {
        "accelerator": {NAMED_SINCE.get(file, row["gpu_model_catalog_name"])},
        "compute capability": {row["compute_capability"]},
        "sharing": {row["shared"].partition(":")[0]},
        "spot": {row["spot"]},
        "pool": {row["pool_name_and_source"]},
    }
    actual = {
        "accelerator": {shape.accelerator for shape in shapes} or {"unknown"},
        "compute capability": {dotted(shape.compute_capability) for shape in shapes} or {""},
        "sharing": {shape.sharing.value for shape in shapes} or {"none"},
        "spot": {{True: "yes", False: "no", None: "unknown"}[shape.spot] for shape in shapes} or {"unknown"},
        "pool": {named(shape.id) for shape in shapes} or {"none"},
    }
    if row["memory_mib_per_gpu_as_driver_reports"] and file not in CARD_BEHIND_SLICES:
        expected["memory"] = {int(row["memory_mib_per_gpu_as_driver_reports"])}
        actual["memory"] = {shape.device_memory_mib for shape in shapes}
    if row["gpus_allocatable"]:
        expected["gpus"] = int(row["gpus_allocatable"])
        whole = (pool for pool in found if pool.shape.id.resource_name == "nvidia.com/gpu")
        actual["gpus"] = sum(pool.shape.accelerators_per_node for pool in whole)
    return {key: (actual[key], expected[key]) for key in expected if actual[key] != expected[key]}


def dotted(capability):
    return f"{capability[0]}.{capability[1]}" if capability else ""


def named(id_):
    return "none" if id_.source.value == "group" else f"{id_.source.value}/{id_.name}"


def test_a_node_without_accelerators_makes_no_pool():
    assert read(WITHOUT_ACCELERATORS) == ()


@pytest.mark.parametrize("file", [file for file in ROWS if file != WITHOUT_ACCELERATORS])
def test_a_published_node_is_read_right(file):
    assert differences(file) == {}


def test_every_published_node_is_tried():
    assert {path.name for path in NODES.glob("*.yaml")} == set(ROWS)
