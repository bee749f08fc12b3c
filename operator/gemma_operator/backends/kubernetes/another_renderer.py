"""What another version of the operator rendered, seen as it stands there. Pure.

An upgrade restarts no engine: such a Deployment is left alone for as long as its user wants what it was made from.
"""

from __future__ import annotations

from dataclasses import replace

from gemma_operator.api import names
from gemma_operator.backends.decision import Manifest, ObjectRef
from gemma_operator.backends.kubernetes import rollout, written
from gemma_operator.backends.kubernetes.health import health
from gemma_operator.backends.kubernetes.render import RENDERER_VERSION
from gemma_operator.backends.kubernetes.snapshot import Child, Owner
from gemma_operator.backends.kubernetes.view import DEPLOYMENT, View, owner_of

_BUDGET = "PodDisruptionBudget"


def left_alone(view: View) -> Child | None:
    """The Deployment, where another version rendered it and nobody wants anything else since.

    Changed is the spec as it was written, and not only what the planner reads of it. A plan that was made anew was
    asked for, or the old one cannot go on. One that does not tell what it was rendered from is of no version that was
    released, and a Ready that may be of another spec would be a lie: it is rendered again.
    """
    deployment = view.snapshot.deployment
    assert deployment is not None, "see `view`"
    child = next((each for each in view.snapshot.children if each.kind == DEPLOYMENT), None)
    if child is None or version(child) in ("", RENDERER_VERSION):
        return None
    if view.plan != view.snapshot.plan or view.snapshot.newly_requested("refresh"):
        return None
    return child if written.stands(child, deployment.spec) else None


def version(child: Child) -> str:
    """The renderer that a Deployment says it is of; empty where it says nothing."""
    return child.annotations.get(names.RENDERER_VERSION, "")


def as_it_stands(view: View, child: Child) -> View:
    """The same view where the template of another renderer is what is wanted: nothing is about to roll."""
    counted = health(view.snapshot, wanted=view.wanted, intent=child.intent, port=view.port)
    way = rollout.chosen(view.snapshot, intent=child.intent, wanted=view.wanted)
    return replace(view, health=counted, intent=child.intent, rollout=way)


def part_due(view: View, child: Child) -> Manifest | None:
    """What of it is to change all the same: the number of replicas, where the spec asks for another; an owner, where
    it has none since a restore. Neither changes its template, so no pod that runs is touched.
    """
    snapshot, deployment = view.snapshot, view.snapshot.deployment
    assert deployment is not None, "see `view`"
    orphan, stands = _is_orphan(child, view), written.replicas_stand(child, deployment.spec)
    if stands and not orphan:
        return None
    rendered = next(each for each in view.manifests if each["kind"] == DEPLOYMENT)
    owned = {"ownerReferences": rendered["metadata"]["ownerReferences"]} if orphan else {}
    noted = {} if stands else {"annotations": written.replicas_annotation(deployment.spec)}
    who = {"name": child.name, "namespace": snapshot.key.namespace, "uid": child.uid}
    return {
        "apiVersion": rendered["apiVersion"],
        "kind": child.kind,
        "metadata": {**who, **owned, **noted},
        **({} if stands else {"spec": {"replicas": deployment.spec.replicas}}),
    }


def siblings_due(view: View) -> tuple[Manifest, ...]:
    """Children that go with such a change: the budget that a second replica brings, and orphans like it."""
    known = {child.kind: child for child in view.snapshot.children}
    others = (each for each in view.pending if each["kind"] != DEPLOYMENT)
    return tuple(
        each
        for each in others
        if (_is_orphan(known[each["kind"]], view) if each["kind"] in known else each["kind"] == _BUDGET)
    )


def budget_removed(view: View) -> tuple[ObjectRef, ...]:
    """The budget that goes with the second replica."""
    return tuple(ObjectRef(each.kind, each.name, each.uid) for each in view.surplus if each.kind == _BUDGET)


def _is_orphan(child: Child, view: View) -> bool:
    return owner_of(child, view.snapshot) is Owner.ORPHAN
