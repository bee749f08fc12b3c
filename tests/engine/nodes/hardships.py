"""What can befall a node, each for as long as a `with` lasts: packets that get lost, a full disk, an ill device."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.waiting import until
from engine.nodes import devices, packages
from engine.nodes.cluster import RealCluster, say
from gemma_operator.sandbox import processes

#: Where containerd keeps what it downloads before it is whole.
_ARRIVING = "containerd/root/io.containerd.content.v1.content/ingest"
#: Enough for the small files beside one manifest.
_LITTLE = "size=64k"


@contextlib.contextmanager
def lost_packets(
    cluster: RealCluster, node: str, *, source: str, destination: str
) -> Iterator[Callable[[], int]]:
    """All that comes by from `source` to `destination` is dropped, as by a firewall that answers nothing.

    In the table `raw`, before what enforces policies sees it. Gives how many there were.
    """
    raw = ("iptables", "--table", "raw", "--wait")
    rule = ("PREROUTING", "--source", source, "--destination", destination, "--jump", "DROP")
    _on(cluster, node, *raw, "--insert", *rule)

    def lost() -> int:
        listed = _on(cluster, node, *raw, "--list", "PREROUTING", "1", "--numeric", "--verbose", "--exact")
        return int(listed.split()[0])

    try:
        yield lost
    finally:
        _on(cluster, node, *raw, "--delete", *rule)


@contextlib.contextmanager
def full_disk(cluster: RealCluster, node: str) -> Iterator[None]:
    """The file system to which containerd downloads has next to no room."""
    folder = str(cluster.node_folder(node) / _ARRIVING)
    _on(cluster, node, "mount", "-t", "tmpfs", "-o", _LITTLE, "full", folder)
    try:
        yield
    finally:
        _on(cluster, node, "umount", "--lazy", folder)


@contextlib.contextmanager
def ill_device(cluster: RealCluster, node: str, device: str) -> Iterator[None]:
    """Its device plugin calls it unhealthy."""
    all_of_them = devices.counted(cluster, node)
    devices.call(cluster, node, device, health=devices.UNHEALTHY)
    try:
        yield
    finally:
        devices.call(cluster, node, device, health=devices.HEALTHY)
        until(lambda: devices.counted(cluster, node) == all_of_them, what=f"{device} counts again")


def _on(cluster: RealCluster, node: str, *command: str) -> str:
    """As the node's root: in its network, among its mounts and processes, with its programs."""
    of_the_node = [each for each in processes.find(cluster.folder.path) if each.component == node]
    oldest_first = [each.pid for each in sorted(of_the_node, key=lambda each: each.started_ticks)]
    # the first is outside: it made the namespace of processes for its child
    inside = next(pid for pid in oldest_first if _processes_of(pid) not in (_processes_of("self"), None))
    done = subprocess.run(
        ["nsenter", f"--target={inside}", "--net", "--mount", "--pid", *command],
        env=packages.environment(packages.unpacked(say=say)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


def _processes_of(pid: int | str) -> Path | None:
    """The namespace of processes; None of one that has just ended."""
    with contextlib.suppress(FileNotFoundError):
        return Path("/proc", str(pid), "ns/pid").readlink()
    return None
