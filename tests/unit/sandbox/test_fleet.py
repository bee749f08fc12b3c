from collections import Counter

import pytest

from gemma_operator.errors import UsageError
from gemma_operator.sandbox import fleet


def _counted(resource: str) -> dict[str, int]:
    devices: Counter[str] = Counter()
    for node in fleet.nodes(fleet.default()):
        pool = node["metadata"]["name"].rpartition("-")[0]
        devices[pool] += int(node["status"]["allocatable"].get(resource, "0"))
    return {pool: count for pool, count in devices.items() if count}


def test_the_packaged_fleet_is_mixed():
    assert _counted("nvidia.com/gpu") == {"gke-l4": 16, "gke-l4-spot": 4, "gke-h100": 16, "onprem-a100": 8}
    assert _counted("nvidia.com/mig-3g.40gb") == {"onprem-mig": 2}


def test_every_value_that_the_api_server_wants_as_text_is_text():
    for node in fleet.nodes(fleet.default()):
        for values in (
            node["metadata"]["labels"],
            node["metadata"]["annotations"],
            node["status"]["capacity"],
            node["status"]["allocatable"],
        ):
            assert all(isinstance(value, str) for value in values.values()), node["metadata"]["name"]


def test_spot_nodes_say_so_by_label_and_taint():
    (spot, *_) = [n for n in fleet.nodes(fleet.default()) if n["metadata"]["name"].startswith("gke-l4-spot")]
    assert spot["metadata"]["labels"]["cloud.google.com/gke-spot"] == "true"
    assert {"key": "cloud.google.com/gke-spot", "value": "true", "effect": "NoSchedule"} in spot["spec"][
        "taints"
    ]


def test_allocatable_is_the_capacity_where_the_file_does_not_differ():
    node = fleet.node({"name": "p", "count": 1, "capacity": {"cpu": 8, "nvidia.com/gpu": 2}}, 0)
    assert node["status"]["allocatable"] == node["status"]["capacity"]
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "2"


def test_a_yaml_true_is_a_label_true():
    node = fleet.node({"name": "p", "count": 1, "capacity": {}, "labels": {"spot": True}}, 0)
    assert node["metadata"]["labels"]["spot"] == "true"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("pools: [", "is not yaml"),
        ("[]", "`pools:` with a list"),
        ("pools: [7]", r"pools\[0\]: a pool is a mapping"),
        ("pools: [{name: A, count: 1, capacity: {}}]", r"pools\[0\]\.name"),
        ("pools: [{name: a, count: -1, capacity: {}}]", r"pools\[0\]\.count"),
        ("pools: [{name: a, count: true, capacity: {}}]", r"pools\[0\]\.count"),
        ("pools: [{name: a, count: 1}]", r"pools\[0\]\.capacity"),
        ("pools: [{name: a, count: 1, capacity: {}, labls: {}}]", "unknown labls; known are"),
        ("pools: [{name: a, count: 1, capacity: {}}, {name: a, count: 1, capacity: {}}]", "two pools"),
    ],
)
def test_a_bad_fleet_file_is_named_with_its_place(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        fleet.parse(text, source="f.yaml")
