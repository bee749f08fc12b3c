"""What is known of one GemmaDeployment at this moment, frozen into a `Snapshot`. Reads tables, never the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from gemma_operator.api import names
from gemma_operator.backends.kubernetes import setbacks
from gemma_operator.backends.kubernetes.claims import ClaimRecord, claims_of
from gemma_operator.backends.kubernetes.contests import Contest
from gemma_operator.backends.kubernetes.snapshot import (
    Child,
    Key,
    Placement,
    Replica,
    ServedAddress,
    Snapshot,
    WeightsPod,
)
from gemma_operator.backends.kubernetes.startup_ledger import WeightsTimes
from gemma_operator.controller.caches import Caches
from gemma_operator.controller.inputs import Inputs, InputsOf
from gemma_operator.planner.plan import from_annotation
from gemma_operator.planner.values import Plan
from gemma_operator.probing.facts import ReplicaFacts
from gemma_operator.settings import OperatorSettings

#: The child that carries the plan.
_PLAN_BEARER = "Deployment"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the observer looks. Callables, so that a test hands in dictionaries."""

    caches: Caches
    inputs: InputsOf
    facts: Callable[[str], ReplicaFacts | None]
    placement: Callable[[Key], Placement | None]
    #: A plan rebuilt from status.plan, where no Deployment carries one.
    plan_from_status: Callable[[Mapping[str, Any]], Plan | None]
    pool_known: Callable[[Plan], bool]
    answers: Callable[[], Mapping[str, tuple[str, str]]]
    #: By uid of the owner, at a moment.
    contests: Callable[[str, datetime], Mapping[str, Contest]]
    living_uids: Callable[[str], frozenset[str]]
    schema_gaps: Callable[[Mapping[str, Any]], tuple[str, ...]]
    settings: OperatorSettings
    #: Whether the plan's pool brings a node, and which of its nodes refuse pods.
    node_to_come: Callable[[Plan], str] = lambda _plan: ""
    #: What the operator shows to the endpoint, where it is guarded.
    probe_key: Callable[[Key], str] = lambda _key: ""
    refusing_nodes: Callable[[Plan], frozenset[str]] = lambda _plan: frozenset()
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def child_key(key: Key) -> Key:
    """Namespace and name of the children of `key`."""
    return Key(key.namespace, names.child_name(key.name))


def children_of(caches: Caches, key: Key) -> tuple[Child, ...]:
    """What stands under the children's name and carries our label."""
    found = (
        cache.get(key.namespace, names.name_of_child(kind, key.name))
        for kind, cache in caches.children.items()
    )
    return tuple(child for child in found if child is not None)


def replicas_of(caches: Caches, key: Key) -> tuple[Replica, ...]:
    """The deployment's pods, in a fixed order."""
    pods = caches.pods.by(child_key(key))
    return tuple(sorted((pod.replica for pod in pods if pod.replica), key=lambda replica: replica.name))


def weights_pods_of(caches: Caches, key: Key) -> tuple[WeightsPod, ...]:
    """The tries of the Job that brings the deployment's weights."""
    return tuple(pod.weights for pod in caches.pods.by(child_key(key)) if pod.weights)


def weights_times_of(children: Sequence[Child]) -> WeightsTimes | None:
    """When that Job began and ended."""
    job = next((child for child in children if child.kind == names.JOB_KIND), None)
    if job is None or not job.status.get("startTime"):
        return None
    return WeightsTimes(job.status["startTime"], job.status.get("completionTime", ""))


def served_of(caches: Caches, key: Key) -> tuple[ServedAddress, ...]:
    """What the Service's EndpointSlices hold."""
    slices = caches.slices.by(child_key(key))
    return tuple(address for piece in slices for address in piece.addresses)


def lost_nodes_of(caches: Caches, replicas: Sequence[Replica]) -> frozenset[str]:
    """Nodes of these replicas that are gone, or that the cluster has not heard of for too long."""
    nodes = {replica.node for replica in replicas if replica.node}
    records = {name: caches.nodes.get("", name) for name in nodes}
    return frozenset(name for name, record in records.items() if record is None or not record.answers)


def claims_named(caches: Caches, namespace: str, inputs: Inputs) -> dict[str, ClaimRecord]:
    """The PersistentVolumeClaims that the spec names, as far as they exist."""
    named = claims_of(inputs.deployment.spec) if inputs.deployment is not None else ()
    found = {name: caches.claims.get(namespace, name) for name, _ in named}
    return {name: claim for name, claim in found.items() if claim is not None}


def placed_plan(children: Sequence[Child]) -> Plan | None:
    """The plan that the Deployment carries."""
    for child in children:
        text = child.annotations.get(names.PLAN)
        if child.kind == _PLAN_BEARER and text:
            return from_annotation(text)
    return None


def known_plan(
    obj: Mapping[str, Any],
    children: Sequence[Child],
    from_status: Callable[[Mapping[str, Any]], Plan | None],
) -> Plan | None:
    """The plan that the Deployment carries, else the one that the status speaks of.

    Also where that one is newer: the Deployment is not changed before the weights of a new plan are there.
    """
    carried = placed_plan(children)
    said: Mapping[str, Any] = (obj.get("status") or {}).get("plan") or {}
    if carried is not None and str(said.get("plannedAt", "")) <= carried.planned_at:
        return carried
    return from_status(obj) or carried


def observe(obj: Mapping[str, Any], sources: Sources, *, foreign: Sequence[Child] = ()) -> Snapshot:
    """The snapshot of a GemmaDeployment as the server stores it; `foreign` are children that a look found."""
    metadata = obj["metadata"]
    key = Key(metadata["namespace"], metadata["name"])
    inputs = sources.inputs(obj)
    known = children_of(sources.caches, key)
    kinds = {child.kind for child in known}
    children = known + tuple(child for child in foreign if child.kind not in kinds)
    replicas = replicas_of(sources.caches, key)
    plan = known_plan(obj, children, sources.plan_from_status)
    bound = any(replica.node and not replica.terminating for replica in replicas)
    facts = {replica.uid: sources.facts(replica.uid) for replica in replicas}
    snapshot = Snapshot(
        key=key,
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        created_at=metadata.get("creationTimestamp", ""),
        terminating="deletionTimestamp" in metadata,
        finalizers=tuple(metadata.get("finalizers") or ()),
        annotations=metadata.get("annotations") or {},
        deployment=inputs.deployment,
        spec_error=inputs.error,
        status=obj.get("status") or {},
        schema_gaps=sources.schema_gaps(obj),
        inputs_hash=inputs.inputs_hash,
        unknown_arguments=inputs.unknown_arguments,
        plan=plan,
        # at zero replicas a pool may go and come: nothing is lost by keeping the plan
        plan_possible=plan is None or bound or not _wants_replicas(inputs) or sources.pool_known(plan),
        placement=sources.placement(key),
        children=children,
        replicas=replicas,
        served=served_of(sources.caches, key),
        facts={uid: known_facts for uid, known_facts in facts.items() if known_facts is not None},
        settings=sources.settings,
        lost_nodes=lost_nodes_of(sources.caches, replicas),
        living_uids=sources.living_uids(key.namespace),
        probe_key=sources.probe_key(key),
        node_to_come=sources.node_to_come(plan) if plan is not None else "",
        refusing_nodes=sources.refusing_nodes(plan) if plan is not None else frozenset(),
        answers=sources.answers(),
        contests=sources.contests(metadata["uid"], sources.now()),
        weights_pods=weights_pods_of(sources.caches, key),
        weights_times=weights_times_of(children),
        claims=claims_named(sources.caches, key.namespace, inputs),
    )
    left_seconds = setbacks.waits_seconds(snapshot, now=sources.now())
    return replace(
        snapshot,
        wait_over=left_seconds is not None and left_seconds <= 0,
        refusal=setbacks.refusal(snapshot),
    )


def _wants_replicas(inputs: Inputs) -> bool:
    return inputs.deployment is not None and inputs.deployment.spec.replicas > 0
