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
from gemma_operator.backends.kubernetes.snapshot import Child
from gemma_operator.backends.kubernetes.view import DEPLOYMENT, View

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


def budget_made(view: View) -> tuple[Manifest, ...]:
    """The budget that a second replica brings, where there is none yet."""
    known = {child.kind for child in view.snapshot.children}
    return tuple(each for each in view.pending if each["kind"] == _BUDGET and _BUDGET not in known)


def budget_removed(view: View) -> tuple[ObjectRef, ...]:
    """The budget that goes with the second replica."""
    return tuple(ObjectRef(each.kind, each.name, each.uid) for each in view.surplus if each.kind == _BUDGET)
