"""One team's view of the cluster: a namespace, GPU nodes that nobody else uses, and words to act and look with."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.audit import AuditLog, Position, Write
from cluster.waiting import LIMIT_SECONDS, until
from gemma_operator.errors import ApiError, NotFound
from gemma_operator.sandbox import fleet
from gemma_operator.sandbox.plane import FAKE_NODE_ANNOTATION
from gemma_operator.sandbox.session import Sandbox
from gemma_operator.sandbox.simulator.instructions import PREFIX

Object = dict[str, Any]

_GROUPS = {
    "GemmaDeployment": "/apis/gemma-operator.io/v1alpha1",
    "AcceleratorPool": "/apis/gemma-operator.io/v1alpha1",
    "Deployment": "/apis/apps/v1",
    "ReplicaSet": "/apis/apps/v1",
    "Service": "/api/v1",
    "ServiceAccount": "/api/v1",
    "Pod": "/api/v1",
    "Job": "/apis/batch/v1",
    "Event": "/apis/events.k8s.io/v1",
    "NetworkPolicy": "/apis/networking.k8s.io/v1",
    "PodDisruptionBudget": "/apis/policy/v1",
}
_PLURALS = {"NetworkPolicy": "networkpolicies"}
#: What every placed deployment has; the budget only from two replicas on.
CHILDREN = ("ServiceAccount", "Service", "NetworkPolicy", "Deployment")
ALL_CHILDREN = (*CHILDREN, "PodDisruptionBudget")
_KUBECTL = Path(sys.executable).parent / "kubectl"
#: Reasons of Events that tell of the plan and not of Ready.
_OF_PLANS = frozenset({"Replanned", "CapacityTimeout", "PredictionOff"})
_AT_ONCE = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
_POOLS = {pool["name"].removeprefix("gke-"): pool for pool in fleet.default()["pools"]}
_NODEPOOL = "cloud.google.com/gke-nodepool"


def a_deployment(name: str = "chat", *, annotations: Mapping[str, str] | None = None, **spec: Any) -> Object:
    """The smallest GemmaDeployment, unless said otherwise; its simulated engines start at once."""
    told = {"annotations": {f"{PREFIX}startup-seconds": "0.1"}}
    return {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "GemmaDeployment",
        "metadata": {"name": name, **({"annotations": dict(annotations)} if annotations else {})},
        "spec": {"model": {"variants": ["E4B"]}, "pod": told, **spec},
    }


def condition(obj: Object, kind: str) -> Object:
    """One condition of an object; empty where it is absent."""
    found = [said for said in obj.get("status", {}).get("conditions", ()) if said["type"] == kind]
    return found[0] if found else {}


def says(kind: str, status: str, reason: str = "") -> Callable[[Object], bool]:
    """A predicate: the condition has this status (and reason), of the generation that stands."""

    def holds(obj: Object) -> bool:
        said = condition(obj, kind)
        return (
            said.get("status") == status
            and said.get("observedGeneration") == obj["metadata"]["generation"]
            and reason in ("", said["reason"])
        )

    return holds


class Team:
    """A namespace of its own on the sandbox."""

    def __init__(self, sandbox: Sandbox, namespace: str) -> None:
        self.sandbox = sandbox
        self.client = sandbox.client
        self.namespace = namespace
        self.audit = AuditLog(sandbox.audit_log)
        self._joined = self.audit.position
        self._nodes: list[str] = []
        self._pools: list[str] = []
        self.client.create("/api/v1/namespaces", {"metadata": {"name": namespace}})

    # hardware

    def pool(
        self,
        kind: str,
        *,
        nodes: int,
        first: int = 0,
        suffix: str = "",
        labels: Mapping[str, str] | None = None,
        offers: Mapping[str, str] | None = None,
    ) -> str:
        """Nodes of the packaged fleet's pool `l4` or `h100` in a pool of our own; its name."""
        name = f"{self.namespace}-{kind}{suffix}"
        like = copy.deepcopy(_POOLS[kind])
        like |= {"name": name, "labels": {**like["labels"], **(labels or {}), _NODEPOOL: name}}
        for quantities in (like["capacity"], like["allocatable"]):
            quantities.update(offers or {})
        made = [fleet.node(like, first + index) for index in range(nodes)]
        self.sandbox.add_nodes(made)
        names = [node["metadata"]["name"] for node in made]
        self._nodes += names
        until(lambda: all(self._usable(node) for node in names), what=f"the nodes {names} are usable")
        return name

    def lose(self, name: str, *, collect_pods: bool = True) -> None:
        """A machine goes, and with it what ran there."""
        self.sandbox.delete_node(name, collect_pods=collect_pods)

    def stop_kubelet(self, name: str) -> None:
        """Nobody plays this node any more, and it was last heard of too long ago."""
        self.client.merge(
            f"/api/v1/nodes/{name}", {"metadata": {"annotations": {FAKE_NODE_ANNOTATION: None}}}
        )
        node = self.client.get(f"/api/v1/nodes/{name}")
        conditions = [
            {**said, "status": "False", "reason": "KubeletNotReady"} if said["type"] == "Ready" else said
            for said in node["status"]["conditions"]
        ]
        self.client.merge(f"/api/v1/nodes/{name}/status", {"status": {"conditions": conditions}})

    def start_kubelet(self, name: str) -> None:
        """The node is played again."""
        self.client.merge(
            f"/api/v1/nodes/{name}", {"metadata": {"annotations": {FAKE_NODE_ANNOTATION: "fake"}}}
        )

    def node(self, name: str) -> Object | None:
        """A node, or None."""
        return self._get(f"/api/v1/nodes/{name}")

    def _usable(self, name: str) -> bool:
        node = self.node(name)
        taints = node["spec"].get("taints", ()) if node else ()
        return (
            bool(node) and fleet.is_true(node, "Ready") and all("not-ready" not in t["key"] for t in taints)
        )

    # acting

    def apply(self, manifest: Object) -> Object:
        """As a user does, by server-side apply."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        if kind == "AcceleratorPool":
            self._pools.append(metadata["name"])
        self.kubectl("apply", "--server-side", "-f", "-", text=json.dumps(manifest))
        return self.get(kind, metadata["name"])

    def change(self, name: str, spec: Object, *, kind: str = "GemmaDeployment") -> Object:
        """A merge patch of the spec."""
        return self.client.merge(self.path(kind, name), {"spec": spec})

    def annotate(
        self, name: str, annotations: Mapping[str, str | None], *, kind: str = "GemmaDeployment"
    ) -> Object:
        """A merge patch of the annotations; None takes one away."""
        return self.client.merge(self.path(kind, name), {"metadata": {"annotations": dict(annotations)}})

    def tell(self, name: str, **orders: str | None) -> None:
        """Tells the simulated engines of a deployment; None takes an order back."""
        told = {f"{PREFIX}{order.replace('_', '-')}": value for order, value in orders.items()}
        for pod in self.pods(name):
            with contextlib.suppress(NotFound):  # it went meanwhile
                self.annotate(pod["metadata"]["name"], told, kind="Pod")

    def delete(self, kind: str, name: str) -> None:
        """Deletes one object; its dependants go in the background."""
        self.client.delete(f"{self.path(kind, name)}?propagationPolicy=Background")

    def delete_namespace(self) -> None:
        """All of it, as a team that leaves."""
        self.client.delete(f"/api/v1/namespaces/{self.namespace}")

    def find_namespace(self) -> Object | None:
        """The namespace, or None."""
        return self._get(f"/api/v1/namespaces/{self.namespace}")

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """kubectl as an administrator, in our namespace."""
        command = [str(_KUBECTL), "--kubeconfig", str(self.sandbox.kubeconfig), "-n", self.namespace, *words]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # looking

    def path(self, kind: str, name: str = "") -> str:
        """Where objects of that kind, or one of them, are found."""
        place = "" if kind == "AcceleratorPool" else f"/namespaces/{self.namespace}"
        plural = _PLURALS.get(kind, f"{kind.lower()}s")
        return f"{_GROUPS[kind]}{place}/{plural}" + (f"/{name}" if name else "")

    def find(self, kind: str, name: str) -> Object | None:
        """An object, or None."""
        return self._get(self.path(kind, name))

    def get(self, kind: str, name: str) -> Object:
        """An object that must be there."""
        return self.client.get(self.path(kind, name))

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return self.client.items(self.path(kind))

    def pods(self, name: str = "", *, leaving: bool = False) -> list[Object]:
        """Pods of one deployment, by its children's name, or of all; with those on their way out only if asked."""
        selector = f"?labelSelector=gemma-operator.io%2Fdeployment%3D{name}" if name else ""
        return [
            pod
            for pod in self.client.items(self.path("Pod") + selector)
            if leaving or "deletionTimestamp" not in pod["metadata"]
        ]

    def sees(
        self,
        kind: str,
        name: str,
        predicate: Callable[[Object], bool] = bool,
        *,
        within_seconds: float = LIMIT_SECONDS,
    ) -> Object:
        """Waits until the object is there and so; the object."""
        last: list[Object | None] = [None]

        def look() -> Object | None:
            last[0] = self.find(kind, name)
            return last[0] if last[0] and predicate(last[0]) else None

        try:
            return until(look, what=f"{kind} {name}", within_seconds=within_seconds)
        except AssertionError as error:
            seen = last[0]
            shown = None if seen is None else {"metadata": _short(seen["metadata"]), **_rest(seen)}
            raise AssertionError(f"{error}; last seen: {json.dumps(shown, indent=1)}") from None

    def gone(self, kind: str, name: str, *, within_seconds: float = LIMIT_SECONDS) -> None:
        """Waits until the object is no more."""
        until(
            lambda: self.find(kind, name) is None,
            what=f"{kind} {name} is gone",
            within_seconds=within_seconds,
        )

    def ready(self, name: str = "chat", *, within_seconds: float = 90) -> Object:
        """Waits until the GemmaDeployment is Ready for the generation that stands, and at rest."""
        return self.sees("GemmaDeployment", name, _settled, within_seconds=within_seconds)

    def events(self, name: str = "chat") -> list[Object]:
        """Events about one GemmaDeployment, oldest first."""
        about = [event for event in self.all("Event") if event.get("regarding", {}).get("name") == name]
        return sorted(
            (event for event in about if event["regarding"]["kind"] == "GemmaDeployment"),
            key=lambda event: event["eventTime"],
        )

    def told(self, name: str = "chat") -> Position:
        """Waits for the Event of what Ready says, which is written after the status; the audit log's position then."""

        def is_told() -> bool:
            reason = condition(self.get("GemmaDeployment", name), "Ready")["reason"]
            events = [event for event in self.events(name) if event["reason"] not in _OF_PLANS]
            written = [str(write) for write in self.writes()].count("create Event")
            return bool(events) and events[-1]["reason"] == reason and written >= len(events)

        until(is_told, what="the Event of what Ready says is written")
        return self.audit.position

    def writes(self, *, since: Position | None = None) -> list[Write]:
        """What the operator wrote in our namespace."""
        return self.audit.writes(namespace=self.namespace, since=since or self._joined)

    def leave(self) -> None:
        """Gives everything back; what takes long goes on in the background."""
        for deployment in self.all("GemmaDeployment"):
            with contextlib.suppress(NotFound):
                self.delete("GemmaDeployment", deployment["metadata"]["name"])
        for name in self._pools:
            with contextlib.suppress(NotFound):
                self.delete("AcceleratorPool", name)
        with contextlib.suppress(ApiError):  # it is going already
            self.delete_namespace()
        for pod in self.client.items(self.path("Pod")):
            with contextlib.suppress(ApiError):
                self.client.delete(self.path("Pod", pod["metadata"]["name"]), _AT_ONCE)
        for name in self._nodes:
            with contextlib.suppress(NotFound):
                self.sandbox.delete_node(name)

    def _get(self, path: str) -> Object | None:
        try:
            return self.client.get(path)
        except NotFound:
            return None


def _settled(obj: Object) -> bool:
    at_work = condition(obj, "Reconciling") or condition(obj, "Stalled")
    return says("Ready", "True")(obj) and not at_work


def _short(metadata: Object) -> Object:
    return {key: value for key, value in metadata.items() if key != "managedFields"}


def _rest(obj: Object) -> Object:
    return {key: obj[key] for key in ("spec", "status") if key in obj}
