"""What is wrong with a placed deployment: the first trouble of its weights, of its pods, or of missing pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import setbacks
from gemma_operator.backends.kubernetes.failures import Trouble, evicted, not_made, refused, trouble
from gemma_operator.backends.kubernetes.failures.trouble import told
from gemma_operator.backends.kubernetes.snapshot import Replica, Snapshot
from gemma_operator.backends.kubernetes.view import DEPLOYMENT, View


def of(view: View) -> Trouble | None:
    """With what was tried against it."""
    found = next(_found(view), None)
    return found and setbacks.told(found, view.snapshot, view.plan)


def _found(view: View) -> Iterator[Trouble]:
    """Pods that are there come before those that are missing; of these, who does not make them comes last but one."""
    counted, snapshot = view.health, view.snapshot
    if view.weights.holds:
        yield Trouble(view.weights.reason, view.weights.message, final=view.weights.final)
        return
    if living := _of_pods(view):
        yield living
    if counted.missing and (unwelcome := refused(snapshot.replicas, snapshot.refusing_nodes)):
        yield unwelcome
    deployments = [child for child in snapshot.children if child.kind == DEPLOYMENT]
    if counted.live < view.wanted and deployments and (unmade := not_made(deployments[0].status)):
        yield unmade
    if counted.missing and (sent_away := evicted(snapshot.replicas, intent=view.intent)):
        yield sent_away


def _of_pods(view: View) -> Trouble | None:
    snapshot = view.snapshot
    proved = {replica.uid for replica in view.health.proved}
    unproved = [replica for replica in view.health.current if replica.uid not in proved]
    found = trouble(unproved, lost_nodes=snapshot.lost_nodes, budget_seconds=view.startup_budget_seconds)
    if found is not None and found.reason is Reason.UNSCHEDULABLE and snapshot.node_to_come:
        return replace(found, message=f"{found.message}; {snapshot.node_to_come}")
    if found is not None and found.reason is Reason.STARTUP_BUDGET_EXCEEDED:
        return _without_a_key(snapshot, unproved) or found
    return found


def _without_a_key(snapshot: Snapshot, unproved: Sequence[Replica]) -> Trouble | None:
    """A guarded engine that gave the operator a token and its own pod none: the users' Secret holds no key.

    Only once the start-up budget is over. Before, it is what every start looks like between two probes of the kubelet.
    The operator has its own key and no right to look into that Secret.
    """
    access = snapshot.deployment.spec.access if snapshot.deployment is not None else None
    if access is None or access.api_key is None:
        return None
    secret = access.api_key.secret_key_ref
    for replica in unproved:
        facts = snapshot.facts.get(replica.uid)
        if not replica.started and facts is not None and facts.proved_at_seconds is not None:
            what = (
                f"pod {replica.name} generates a token for the operator's key and for none of the users' keys"
            )
            remedy = f"write a key that is not empty into key {secret.key} of Secret {secret.name}"
            return told(Reason.SECRET_MISSING, what, remedy=remedy)
    return None
