"""The namespaces in which a cluster lives: a hub with the control plane, and one for each node.

The hub is a bridge with no way out, so nothing can leave the machine. The tests themselves stay where they are:
one pair of virtual devices leads from here to the hub, and goes with it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HUB = "198.18.0.1"
#: Where the operator's settings look for a mirror of the model hub.
HUB_PORT = 8090
#: Where the nodes find a stand-in for a registry (tests/engine/nodes/registry.py).
REGISTRY_PORT = 5000
#: Of the pair that leads from the tests to the hub: 198.18.255.0/30.
_HERE, _THERE = "198.18.255.1", "198.18.255.2"


@dataclass(frozen=True, slots=True)
class NodeNet:
    """One node's place: its own address and the subnet of its pods."""

    name: str
    address: str
    pods: str


NODES = (
    NodeNet("node-a", "198.18.0.11", "198.18.10.0/24"),
    NodeNet("node-b", "198.18.0.12", "198.18.20.0/24"),
)


@dataclass(frozen=True, slots=True)
class Network:
    """The namespaces of one cluster, named with `run` so that two clusters are told apart."""

    run: str

    def namespace(self, place: str) -> str:
        """The network namespace of `hub` or of a node."""
        return f"ge-{self.run}-{place}"

    def enter(self, place: str) -> list[str]:
        """What a command is prefixed with to run there."""
        return ["nsenter", f"--net=/run/netns/{self.namespace(place)}"]

    def make(self) -> None:
        """All namespaces, devices and routes."""
        hub = self.namespace("hub")
        _ip("netns", "add", hub)
        self._in("hub", "link", "set", "lo", "up")
        self._in("hub", "link", "add", "bridge", "type", "bridge")
        self._in("hub", "addr", "add", f"{HUB}/24", "dev", "bridge")
        self._in("hub", "link", "set", "bridge", "up")
        for node in NODES:
            self._join(node)
        for node in NODES:
            self._in("hub", "route", "add", node.pods, "via", node.address)
            for other in NODES:
                if other is not node:
                    self._in(node.name, "route", "add", other.pods, "via", other.address)
        self._lead_here()

    def remove(self) -> None:
        """All of it; devices and routes go with their namespaces."""
        for place in (*(node.name for node in NODES), "hub"):
            subprocess.run(["ip", "netns", "del", self.namespace(place)], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._device_here], check=False, capture_output=True)
        folder = Path("/run/netns")
        if folder.is_mount() and not any(folder.iterdir()):  # `ip netns add` leaves it mounted
            subprocess.run(["umount", str(folder)], check=False, capture_output=True)

    @property
    def _device_here(self) -> str:
        return f"ge-{self.run}"

    def _join(self, node: NodeNet) -> None:
        _ip("netns", "add", self.namespace(node.name))
        end = f"to-{node.name}"
        self._in(
            "hub", "link", "add", end, "type", "veth", "peer", "eth0", "netns", self.namespace(node.name)
        )
        self._in("hub", "link", "set", end, "master", "bridge", "up")
        self._in(node.name, "link", "set", "lo", "up")
        self._in(node.name, "addr", "add", f"{node.address}/24", "dev", "eth0")
        self._in(node.name, "link", "set", "eth0", "up")
        # a node's own calls to a Service's address are routed before they are translated
        self._in(node.name, "route", "add", "default", "via", HUB)
        _run([*self.enter(node.name), "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        _run([*self.enter(node.name), "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1"])

    def _lead_here(self) -> None:
        hub = self.namespace("hub")
        _ip("link", "add", self._device_here, "type", "veth", "peer", "tests", "netns", hub)
        _ip("addr", "add", f"{_HERE}/30", "dev", self._device_here)
        _ip("link", "set", self._device_here, "up")
        self._in("hub", "addr", "add", f"{_THERE}/30", "dev", "tests")
        self._in("hub", "link", "set", "tests", "up")
        _ip("route", "add", f"{HUB}/32", "via", _THERE)

    def _in(self, place: str, *words: str) -> None:
        _run(["ip", "-n", self.namespace(place), *words])


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
