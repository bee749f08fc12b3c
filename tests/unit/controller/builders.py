"""GemmaDeployments and AcceleratorPools as the server stores them, and a small world to place them in."""

from __future__ import annotations

from dataclasses import replace

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.catalog.loader import packaged
from gemma_operator.controller.fleet import NOTHING_ELSE, Fleet
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.placement import Placed, PlacementDesk
from gemma_operator.settings import OperatorSettings
from snapshots import a_snapshot
from unit.planner.builders import a_node

SETTINGS = OperatorSettings(placement_debounce_seconds=0.001, fleet_debounce_seconds=0.001)


def a_gd(name="chat", *, uid=None, generation=1, status=None, metadata=None, **spec):
    """A GemmaDeployment of one E4B replica."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.DEPLOYMENT_KIND,
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid or f"uid-{name}",
            "generation": generation,
            "resourceVersion": "10",
            "creationTimestamp": "2026-11-25T08:00:00Z",
            **(metadata or {}),
        },
        "spec": {"model": {"variants": ["E4B"]}, "replicas": 1, **spec},
        **({"status": status} if status is not None else {}),
    }


def an_accelerator_pool(name="h200", *, status=None, generation=1, **spec):
    """An AcceleratorPool that may grow by one node."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.POOL_KIND,
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": generation, "resourceVersion": "10"},
        "spec": {
            "accelerator": "nvidia-h200",
            "acceleratorsPerNode": 8,
            "maxNodes": 1,
            "nodeSelector": {"pool": name},
            **spec,
        },
        "status": status if status is not None else {"observedGeneration": -1},
    }


def an_l4(name="n1", *, pool="l4", **changes):
    """A node of a GKE pool with one L4."""
    labels = {
        "cloud.google.com/gke-nodepool": pool,
        "cloud.google.com/gke-accelerator": "nvidia-l4",
        "cloud.google.com/gke-provisioning": "standard",
        "node.kubernetes.io/instance-type": "g2-standard-8",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
    }
    return a_node(name, labels={**labels, **changes.pop("labels", {})}, **changes)


class World:
    """A fleet of which the test is the owner, and the desk that places on it."""

    def __init__(self, *nodes, beside=NOTHING_ELSE):
        self.nodes = list(nodes)
        self.pods = []
        self.declared = []
        self.placed: list[Placed] = []
        self.woken: list[Key] = []
        self.seconds = 0
        self.inputs = InputsOf(SETTINGS)
        self.fleet = Fleet(
            catalog=packaged(),
            nodes=lambda: self.nodes,
            declared=lambda: self.declared,
            pods=lambda: self.pods,
            beside=beside,
        )
        self.desk = PlacementDesk(
            catalog=packaged(),
            settings=SETTINGS,
            fleet=self.fleet,
            placed=lambda: self.placed,
            wake=self.woken.append,
            now_iso=self._now,
        )

    def _now(self):
        self.seconds += 1
        return f"2026-11-25T09:00:{self.seconds:02}Z"

    def snapshot(self, obj, **changes):
        """What the reconciler would see of it."""
        known = self.inputs(obj)
        metadata = obj["metadata"]
        return replace(
            a_snapshot(
                key=Key(metadata["namespace"], metadata["name"]),
                uid=metadata["uid"],
                created_at=metadata["creationTimestamp"],
                deployment=known.deployment,
                inputs_hash=known.inputs_hash,
                unknown_arguments=known.unknown_arguments,
                placement=self.desk.answer(Key(metadata["namespace"], metadata["name"])),
            ),
            **changes,
        )

    def ask(self, obj, **changes):
        """The reconciler asks for it; what it asked with."""
        snapshot = self.snapshot(obj, **changes)
        self.desk.ask(snapshot, self.inputs(obj).request)
        return snapshot

    def answer(self, obj):
        return self.desk.answer(Key(obj["metadata"]["namespace"], obj["metadata"]["name"]))

    def node_joins(self, node):
        self.nodes.append(node)
        self.fleet.hardware_changed()
        self.desk.room_changed()

    def writes(self, obj, *, replicas=1):
        """The plan that was answered stands in the Deployment from now on."""
        key = Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
        plan = self.desk.answer(key).plan
        self.placed.append(Placed(key, plan, replicas, ()))
        self.desk.looked_at(self.snapshot(obj, plan=plan))
