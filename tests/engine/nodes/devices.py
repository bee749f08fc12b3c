"""The GPUs of a node: its kubelet hears of them from a device plugin (device_plugin.py), and gives them to containers.

A device is an id and its health; no container of the tests looks for more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engine.model import environment
from engine.nodes.cluster import RealCluster, say
from gemma_operator.sandbox import processes

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
_PROGRAM = Path(__file__).with_name("device_plugin.py")


def plug_in(cluster: RealCluster, node: str, *, count: int) -> None:
    """So many healthy devices from now on; the first ones stay the same whatever the count."""
    _tell(cluster, node, {f"GPU-{node}-{number}": HEALTHY for number in range(count)})
    # not the node's own component: where the node loses its power, this one waits for the next kubelet
    component = f"devices-{node}"
    if any(running.component == component for running in processes.find(cluster.folder.path)):
        return
    folder = cluster.node_folder(node) / "kubelet/device-plugins"
    processes.spawn(
        (environment.interpreter(), str(_PROGRAM), str(folder), str(_table(cluster, node))),
        component=component,
        folder=cluster.folder.path,
        log_file=cluster.folder.log_of(component),
        environment={"PYTHONPATH": str(environment.site_packages(say=say)), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def call(cluster: RealCluster, node: str, device: str, *, health: str) -> None:
    """What the device plugin calls one device from now on."""
    known = json.loads(_table(cluster, node).read_text())
    assert device in known, f"{node} has no {device}, but {', '.join(known)}"
    _tell(cluster, node, {**known, device: health})


def counted(cluster: RealCluster, node: str) -> int:
    """How many the kubelet says it may give to pods."""
    said = cluster.client.get(f"/api/v1/nodes/{node}")["status"]["allocatable"]
    return int(said.get("nvidia.com/gpu", "0"))


def _tell(cluster: RealCluster, node: str, devices: Mapping[str, str]) -> None:
    table = _table(cluster, node)
    written = table.with_suffix(".new")
    written.write_text(json.dumps(devices))
    written.replace(table)


def _table(cluster: RealCluster, node: str) -> Path:
    return cluster.node_folder(node) / "devices.json"
