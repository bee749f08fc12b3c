"""The snapshot of one placed deployment beside what it should look like: made once, read by every policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from gemma_operator.api import names
from gemma_operator.backends.decision import Manifest
from gemma_operator.backends.kubernetes import contested, rollout, wedged, weights
from gemma_operator.backends.kubernetes.contested import Contested, Wanted
from gemma_operator.backends.kubernetes.health import Health, health
from gemma_operator.backends.kubernetes.render import (
    pod_intent,
    render,
    startup_budget_seconds,
    with_rollout,
)
from gemma_operator.backends.kubernetes.render_container import farewell_of
from gemma_operator.backends.kubernetes.rollout import Rollout
from gemma_operator.backends.kubernetes.snapshot import Child, Owner, Snapshot
from gemma_operator.backends.kubernetes.weights import Weights
from gemma_operator.engines.base import Engine
from gemma_operator.planner.values import Plan

DEPLOYMENT = "Deployment"
#: More nodes than this that refuse pods are no matter of one deployment.
MOST_AVOIDED = 8


@dataclass(frozen=True, slots=True)
class View:
    """What is, what should be, and what differs."""

    snapshot: Snapshot
    plan: Plan
    manifests: tuple[Manifest, ...]
    #: Manifests whose child is missing or is not as it was applied.
    pending: tuple[Manifest, ...]
    #: Children of ours that nothing renders any more.
    surplus: tuple[Child, ...]
    #: Children that are not left as they were applied.
    contested: tuple[Contested, ...]
    weights: Weights
    health: Health
    #: Hash of the pod template as it is rendered.
    intent: str
    #: How the pods follow one another; None: `Snapshot.spare` has to be known first.
    rollout: Rollout | None
    port: int
    startup_budget_seconds: int

    @property
    def wanted(self) -> int:
        """Replicas that are wanted."""
        return self.health.wanted

    @property
    def model_name(self) -> str:
        """What clients send as `model`."""
        assert self.snapshot.deployment is not None, "see `view`"
        return self.snapshot.deployment.model_name

    @property
    def falls_back_at(self) -> datetime | None:
        """When a surge that finds no node becomes a drain."""
        assert self.snapshot.deployment is not None, "see `view`"
        if self.rollout is None:
            return None
        grace_seconds = farewell_of(self.snapshot.deployment).grace_seconds
        return rollout.falls_back_at(
            self.snapshot, self.rollout, intent=self.intent, grace_seconds=grace_seconds
        )

    @property
    def url(self) -> str:
        """The endpoint, as clients in the cluster write it."""
        name = names.child_name(self.snapshot.key.name)
        return f"http://{name}.{self.snapshot.key.namespace}.svc:{self.port}/v1"


def view(snapshot: Snapshot, plan: Plan, *, engine: Engine) -> View:
    """Render what should be and compare it with what is."""
    deployment = snapshot.deployment
    assert deployment is not None, "a spec that cannot be read is decided about before anything is rendered"
    manifests = render(
        deployment,
        plan,
        uid=snapshot.uid,
        replicas=deployment.spec.replicas,
        settings=snapshot.settings,
        engine=engine,
        avoided=avoided_nodes(snapshot, plan),
        probe_key=snapshot.probe_key,
    )
    intent = pod_intent(manifests)
    fetched = weights.weights_of(snapshot, plan)
    # while the pods wait for their weights, nothing rolls
    way = (
        rollout.FIRST
        if fetched.holds
        else rollout.chosen(snapshot, intent=intent, wanted=deployment.spec.replicas)
    )
    manifests = with_rollout(
        weights.gated(manifests, fetched),
        way or rollout.FIRST,
        wedged_replaced_at=wedged.replaced_at(snapshot.children),
    )
    rendered = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    rendered |= {(names.JOB_KIND, names.weights_name(snapshot.key.name))} if fetched.key else set()
    return View(
        snapshot=snapshot,
        plan=plan,
        manifests=manifests,
        pending=_pending(manifests, snapshot, fetched),
        surplus=tuple(
            child
            for child in snapshot.children
            if ((child.kind, child.name) not in rendered or child == fetched.stale)
            and owner_of(child, snapshot) is Owner.OURS
        ),
        contested=contested.found(_wanted(_spoken_of(manifests, fetched), snapshot), snapshot),
        weights=fetched,
        health=health(snapshot, wanted=deployment.spec.replicas, intent=intent, port=engine.port),
        intent=intent,
        rollout=way,
        port=engine.port,
        startup_budget_seconds=startup_budget_seconds(deployment, plan),
    )


def rolled_by(view: View, way: Rollout) -> View:
    """The same view where the rollout goes another way from now on."""
    replaced_at = wedged.replaced_at(view.snapshot.children)
    manifests = with_rollout(view.manifests, way, wedged_replaced_at=replaced_at)
    return replace(
        view, manifests=manifests, pending=_pending(manifests, view.snapshot, view.weights), rollout=way
    )


def noting_a_wedged_one(view: View, at: str) -> View:
    """The same view where a wedged pod is deleted now: the Deployment remembers when."""
    way = view.rollout or rollout.FIRST
    manifests = with_rollout(view.manifests, way, wedged_replaced_at=at)
    return replace(view, manifests=manifests, pending=_pending(manifests, view.snapshot, view.weights))


def avoided_nodes(snapshot: Snapshot, plan: Plan) -> tuple[str, ...]:
    """Nodes that the pods keep off: those that the Deployment names already, and such as refuse them now.

    What is named stays for as long as the plan does, since a name less would roll the pods once more. A name is added
    only while no replica runs: a rollout for the sake of one that is missing would restart those that are well.
    """
    same = snapshot.plan is not None and (plan.planned_at, plan.pool) == (
        snapshot.plan.planned_at,
        snapshot.plan.pool,
    )
    named = _named(snapshot) if same else ()
    refused = {replica.node for replica in snapshot.replicas if replica.refused}
    running = any(replica.phase == "Running" and not replica.terminating for replica in snapshot.replicas)
    added = () if running else refused & snapshot.refusing_nodes
    return tuple(sorted({*named, *added}))[:MOST_AVOIDED]


def _named(snapshot: Snapshot) -> tuple[str, ...]:
    for child in snapshot.children:
        if child.kind == DEPLOYMENT and (text := child.annotations.get(names.AVOIDED_NODES, "")):
            return tuple(text.split(","))
    return ()


def owner_of(child: Child, snapshot: Snapshot) -> Owner:
    """Whose child it is; see `Owner`."""
    if child.controller_uid == snapshot.uid:
        return Owner.OURS
    if not child.controller_uid:
        return Owner.ORPHAN if child.has_our_label else Owner.SOMEBODY_ELSE
    if child.controller_kind != names.DEPLOYMENT_KIND or child.controller_uid in snapshot.living_uids:
        return Owner.SOMEBODY_ELSE
    return Owner.DYING


def _pending(manifests: Iterable[Manifest], snapshot: Snapshot, fetched: Weights) -> tuple[Manifest, ...]:
    rendered = (*weights.let_through(manifests, fetched), *((fetched.make,) if fetched.make else ()))
    return tuple(manifest for manifest in rendered if not _stands(manifest, snapshot))


def _spoken_of(manifests: Iterable[Manifest], fetched: Weights) -> tuple[Manifest, ...]:
    """Also the Job that brings the weights, while pods wait for them: later it is no matter who cleans it up."""
    return (*manifests, *((fetched.make,) if fetched.make and fetched.holds else ()))


def _stands(manifest: Manifest, snapshot: Snapshot) -> bool:
    """The child is as it was sent, or is not to be sent again yet."""
    return any(contested.is_left(wanted, snapshot) for wanted in _wanted([manifest], snapshot))


def _wanted(manifests: Iterable[Manifest], snapshot: Snapshot) -> Iterator[Wanted]:
    """What is rendered, each beside what stands there; what is not ours is decided about elsewhere."""
    standing = {(child.kind, child.name): child for child in snapshot.children}
    for each in manifests:
        kind, name = each["kind"], each["metadata"]["name"]
        child = standing.get((kind, name))
        if child is None or owner_of(child, snapshot) is Owner.OURS:
            yield Wanted(kind, name, each["metadata"]["annotations"][names.APPLIED_HASH], child)
