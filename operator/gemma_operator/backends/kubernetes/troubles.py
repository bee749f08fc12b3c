"""What is wrong with a placed deployment: the first trouble of its weights, of its pods, or of missing pods. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import keyless, setbacks
from gemma_operator.backends.kubernetes.failures import Trouble, evicted, not_made, refused, trouble
from gemma_operator.backends.kubernetes.view import DEPLOYMENT, View


def of(view: View) -> Trouble | None:
    """With what was tried against it."""
    found = next(_found(view), None)
    return found and setbacks.told(found, view.snapshot, view.plan)


def _found(view: View) -> Iterator[Trouble]:
    """Pods that are there come before those that are missing; of these, who does not make them comes last but one.

    Replicas that are well and refuse all users come before those that are not well: no user would see them mended.
    """
    counted, snapshot = view.health, view.snapshot
    if view.weights.holds:
        yield Trouble(view.weights.reason, view.weights.message, final=view.weights.final)
        return
    if refusing_users := keyless.trouble(snapshot, counted):
        yield refusing_users
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
        return keyless.concluded(snapshot, unproved) or found
    return found
