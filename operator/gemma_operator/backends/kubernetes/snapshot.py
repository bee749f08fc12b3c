"""All that the Kubernetes backend looks at when it decides about one GemmaDeployment: frozen, no I/O.

The cache keeps children and pods as these records, cut from the API's objects before the next page is
decoded; nothing holds a whole object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gemma_operator.api import names
from gemma_operator.api.conditions import Reason
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes.claims import ClaimRecord, claims_of, one_node
from gemma_operator.backends.kubernetes.containers import Container
from gemma_operator.backends.kubernetes.contests import Contest
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes, WeightsTimes
from gemma_operator.hardware.admissions import REFUSED
from gemma_operator.planner.alternatives import Alternative
from gemma_operator.planner.correction import Refusal
from gemma_operator.planner.spare import Spare
from gemma_operator.planner.values import Plan
from gemma_operator.probing.facts import ReplicaFacts
from gemma_operator.settings import OperatorSettings


@dataclass(frozen=True, slots=True)
class Key:
    """Namespace and name of a GemmaDeployment: what the queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Owner(Enum):
    """Whose child is it?"""

    OURS = "ours"
    #: No controller owner, our label and name: after a restore or `--cascade=orphan`. Adopted.
    ORPHAN = "orphan"
    #: Another uid of our kind that is gone or going: wait for the garbage collector.
    DYING = "dying"
    SOMEBODY_ELSE = "somebody else"


@dataclass(frozen=True, slots=True)
class Child:
    """One object that we made, or that stands where we would make one."""

    kind: str
    name: str
    uid: str
    generation: int
    resource_version: str
    #: Hash of the live fields that our field manager owns; equals the rendered manifest's own hash at rest.
    owned_hash: str
    has_our_label: bool
    controller_kind: str
    controller_name: str
    controller_uid: str
    terminating: bool
    annotations: Mapping[str, str]
    #: For Deployments: observedGeneration, replicas, updatedReplicas, readyReplicas, conditions …
    status: Mapping[str, Any] = field(default_factory=dict)
    #: Names of the managers that wrote it, for a message that names somebody else.
    managers: tuple[str, ...] = ()
    #: For Deployments: the intent that its pods are made with.
    intent: str = ""


@dataclass(frozen=True, slots=True)
class Replica:
    """One pod of the deployment."""

    uid: str
    name: str
    node: str
    ip: str
    phase: str
    ready: bool
    #: Its container passed the start-up probe, so it generated a token; False again while it restarts.
    started: bool
    terminating: bool
    #: Hash of the planner's inputs and template under which it was made (its intent annotation).
    intent: str
    #: The name under which it was told to serve.
    model_name: str
    started_at: str
    unschedulable_message: str
    gated: bool
    waiting_reason: str
    waiting_message: str
    terminated_reason: str
    terminated_message: str
    exit_code: int | None
    restarts: int
    #: The engine that it was told to run; empty on pods of a renderer before 4.
    engine: str = ""
    times: PodTimes = field(default_factory=PodTimes)
    #: Name of the container that the fields above are of.
    container: str = "engine"
    #: Of its container's last life: how long it was, and whether it had been ready.
    ran_seconds: int | None = None
    had_been_ready: bool = False
    #: Another container that keeps the pod from being ready: one before the engine, or beside it.
    held_up_by: Container | None = None
    #: Why the pod is over: Evicted, UnexpectedAdmissionError, …
    pod_reason: str = ""
    pod_message: str = ""
    #: Who is ending it (condition DisruptionTarget): PreemptionByScheduler, DeletionByTaintManager, …
    disruption: str = ""
    disruption_message: str = ""
    #: "nvidia.com/gpu GPU-…": devices of it that the kubelet calls unhealthy.
    unhealthy_devices: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Its node took it and had no device for it."""
        return self.phase == "Failed" and self.terminated_reason == REFUSED

    @property
    def containers(self) -> tuple[Container, ...]:
        """What may say why it does not serve: the one that holds it up, and its own, without words of the past."""
        own = Container(
            self.container,
            waiting_reason=self.waiting_reason,
            waiting_message=self.waiting_message,
            terminated_reason="" if self.started else self.terminated_reason,
            terminated_message="" if self.started else self.terminated_message,
            exit_code=self.exit_code,
            restarts=0 if self.started else self.restarts,
            ran_seconds=self.ran_seconds,
        )
        return (own,) if self.held_up_by is None else (self.held_up_by, own)

    def whose(self, container: Container) -> str:
        """How one of its containers is spoken of."""
        if container.name == "engine":
            return f"the engine in pod {self.name}"
        return f"container {container.name} of pod {self.name}"


@dataclass(frozen=True, slots=True)
class WeightsPod:
    """One try of the Job that brings the weights or looks at them; its container is read as a replica's is."""

    job_uid: str
    replica: Replica


@dataclass(frozen=True, slots=True)
class ServedAddress:
    """One entry of the Service's EndpointSlices, read by targetRef, ready and port; never by address."""

    pod_uid: str
    port: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """What placement answered: a plan, or why there is none yet."""

    plan: Plan | None
    #: True where capacity may still come; False where no known shape can ever hold it.
    waiting: bool
    #: Why there is no plan: NothingFits, NoPools, UnknownAccelerator, … (WaitingForCapacity while waiting).
    reason: Reason
    message: str
    alternatives: tuple[Alternative, ...]
    #: What it answers: `Snapshot.ask_token` when it was asked.
    token: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One GemmaDeployment and everything that belongs to it, at one moment."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created_at: str
    terminating: bool
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    #: None where the stored spec cannot be read; then `spec_error` says why.
    deployment: GemmaDeployment | None
    spec_error: str
    #: The status as the server answered last.
    status: Mapping[str, Any]
    #: Fields of the models that the served CRD would prune.
    schema_gaps: tuple[str, ...]
    #: Hash of the planner's inputs as the spec stands now; empty where the spec cannot be read.
    inputs_hash: str
    #: Extra arguments that the engine's module does not know: the plan is marked unverified.
    unknown_arguments: tuple[str, ...]
    #: The placed plan: from the Deployment's annotation, else from status.plan; None before placement.
    plan: Plan | None
    #: The pool of the placed plan is still known, or replicas of it are bound.
    plan_possible: bool
    placement: Placement | None
    children: tuple[Child, ...]
    replicas: tuple[Replica, ...]
    served: tuple[ServedAddress, ...]
    facts: Mapping[str, ReplicaFacts]
    settings: OperatorSettings
    #: Nodes of replicas that went or are not Ready: their kubelet says nothing of the pods any more.
    lost_nodes: frozenset[str] = frozenset()
    #: Whether the plan's pool brings a node, in the words of who should bring it.
    node_to_come: str = ""
    #: Nodes that take pods and refuse them: the last two that asked for what the plan asks for.
    refusing_nodes: frozenset[str] = frozenset()
    #: No replica of the plan got a node within `placement.capacityTimeoutSeconds`.
    wait_over: bool = False
    #: What an engine of the plan said that refused to start for want of memory, where that may be mended by a plan.
    refusal: Refusal | None = None
    #: When the Job that brings the weights began and ended.
    weights_times: WeightsTimes | None = None
    #: Uids of live GemmaDeployments in the namespace, to tell a dying owner from a living one.
    living_uids: frozenset[str] = frozenset()
    #: What the operator shows to a guarded endpoint; never shown to anybody else.
    probe_key: str = field(default="", repr=False)
    #: Room for one replica more; looked at only when a rollout is about to begin, so that it moves nothing at rest.
    spare: Spare | None = None
    #: What the server answered last: child uid → (hash that was sent, hash of what stood after it).
    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: Children that were applied, and what became of them, by place: "Service/chat".
    contests: Mapping[str, Contest] = field(default_factory=dict)
    #: Pods of the Job that brings the weights, of earlier ones too; and why it gets none, where that was asked.
    weights_pods: tuple[WeightsPod, ...] = ()
    unmade_job: str = ""
    #: The PersistentVolumeClaims that the spec names and that exist, by name.
    claims: Mapping[str, ClaimRecord] = field(default_factory=dict)

    @property
    def claims_forbid_surge(self) -> bool:
        """A named volume may be mounted by one node or one pod only: a second pod beside the first never starts."""
        if self.deployment is None:
            return False
        named = claims_of(self.deployment.spec)
        return any(name in self.claims and one_node(self.claims[name], use) for name, use in named)

    def requested(self, what: str) -> str | None:
        """The opaque value of a `…-requested-at` annotation (`replan` or `refresh`), as far as it is compared."""
        value = self.annotations.get(f"{names.PREFIX}{what}-requested-at", "")[: names.REQUEST_MAX_LENGTH]
        return value or None

    def newly_requested(self, what: str) -> bool:
        """The annotation stands and was not handled yet."""
        value = self.requested(what)
        return value is not None and value != self.status.get(f"lastHandled{what.capitalize()}At")

    @property
    def ask_token(self) -> str:
        """What placement is asked for: another token, another question."""
        lost = "" if self.plan_possible or self.plan is None else self.plan.planned_at
        resumed = "resumed" if self.resumes else ""
        replan = self.requested("replan") if self.newly_requested("replan") else ""
        setback = f"/{self._setback}" if self._setback else ""
        return "/".join((self.inputs_hash, replan or "", lost, resumed)) + setback

    @property
    def _setback(self) -> str:
        """What became of the plan, and of which: the plan that comes after it is asked for anew."""
        if self.plan is None or not (self.wait_over or self.refusal):
            return ""
        return f"{'refused' if self.refusal else 'left'} {self.plan.planned_at}"

    @property
    def keeps_its_plan(self) -> bool:
        """What runs is what is wanted and can go on: a re-plan that finds nothing better costs nothing."""
        same = self.plan is not None and self.plan.inputs_hash == self.inputs_hash
        return same and self.plan_possible and not self.resumes and self.refusal is None

    @property
    def resumes(self) -> bool:
        """It was suspended when the status was written last and is not any more: its claim was given up."""
        suspended = any(said.get("type") == "Suspended" for said in self.status.get("conditions", ()))
        return suspended and self.deployment is not None and not self.deployment.spec.suspend

    @property
    def answer(self) -> Placement | None:
        """What placement answered to the question as it stands now."""
        return (
            self.placement if self.placement is not None and self.placement.token == self.ask_token else None
        )

    @property
    def current_plan(self) -> Plan | None:
        """The plan for the spec as it stands: just placed, else the one that runs if its inputs are the same."""
        if self.answer is not None and self.answer.plan is not None:
            return self.answer.plan
        return self.plan if self.plan is not None and self.plan.inputs_hash == self.inputs_hash else None
