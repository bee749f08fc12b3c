"""What is known of the weights of one plan, and whether the engine's pods may be made. Pure.

Only where a Job comes before the pods; where each pod brings its own there is nothing to know here. The Job itself is
the memory: what it was for stands in an annotation, so that a restarted operator, a new image or another token brings
nothing anew, and the Deployment says for which weights it was let go. What serves goes on until the new weights are
there, except where the volume allows one pod or one node only: there the replica has to go first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.api.conditions import Condition, ConditionType, Reason
from gemma_operator.backends.decision import Manifest
from gemma_operator.backends.kubernetes import standing as before
from gemma_operator.backends.kubernetes.failures import Trouble, trouble
from gemma_operator.backends.kubernetes.failures.admission import refused_pod
from gemma_operator.backends.kubernetes.failures.hub import read_word
from gemma_operator.backends.kubernetes.ownership import sealed
from gemma_operator.backends.kubernetes.render_fetch import weights_job
from gemma_operator.backends.kubernetes.render_pod import tolerations_of
from gemma_operator.backends.kubernetes.render_weights import Delivery, Task, delivery
from gemma_operator.backends.kubernetes.snapshot import Child, Replica, Snapshot, WeightsPod
from gemma_operator.planner.values import Plan
from gemma_operator.scrub import excerpt

_TRY_AGAIN: Final = (
    f"mend it and change the spec, or set the annotation {names.REPLAN_REQUESTED_AT}, to try again"
)
_DEPLOYMENT: Final = "Deployment"


@dataclass(frozen=True, slots=True)
class Weights:
    """How the weights of the plan stand. The default: the pods bring them, and nothing waits for them."""

    #: What the Job is for; empty where there is none.
    key: str = ""
    #: The Job, where it is to be made now.
    make: Manifest | None = None
    #: A Job for something else, or one that failed and is asked again.
    stale: Child | None = None
    ready: bool = True
    #: The engine's pods are not made, or not changed, before the weights are there.
    holds: bool = False
    #: The replica that serves goes first, because the volume allows no second pod.
    drains: bool = False
    reason: Reason = Reason.WEIGHTS_PRESENT
    message: str = ""
    final: bool = False

    @property
    def condition(self) -> Condition | None:
        """WeightsReady; None where no Job is concerned."""
        if not self.key:
            return None
        return Condition(ConditionType.WEIGHTS, "True" if self.ready else "False", self.reason, self.message)


NOTHING: Final = Weights()


def attempt_of(snapshot: Snapshot) -> str:
    """What asks for another try of a failed Job: another spec, or the user's word."""
    return f"{snapshot.generation}/{snapshot.requested('replan') or ''}"


def weights_of(snapshot: Snapshot, plan: Plan) -> Weights:
    """Compare the Job that should be with the one that stands. At zero replicas none is made."""
    deployment = snapshot.deployment
    assert deployment is not None, "a spec that cannot be read is decided about before anything is rendered"
    brought = delivery(deployment.spec, plan)
    job = weights_job(
        deployment,
        plan,
        uid=snapshot.uid,
        settings=snapshot.settings,
        brought=brought,
        attempt=attempt_of(snapshot),
        near_the_pool=snapshot.claims_forbid_surge,
        tolerations=tolerations_of(deployment, plan),
    )
    return NOTHING if job is None else _compared(snapshot, job, brought)


def _compared(snapshot: Snapshot, job: Manifest, brought: Delivery) -> Weights:
    key = job["metadata"]["annotations"][names.WEIGHTS_KEY]
    standing = next((child for child in snapshot.children if child.kind == names.JOB_KIND), None)
    deployment = next((child for child in snapshot.children if child.kind == _DEPLOYMENT), None)
    released = deployment is not None and deployment.annotations.get(names.WEIGHTS_KEY) == key
    if standing is None and released and not before.is_in_trouble(snapshot):
        return _found(key, brought)
    if standing is None and snapshot.deployment is not None and not snapshot.deployment.spec.replicas:
        return NOTHING
    said = _state(standing, snapshot, job, brought)
    if said.ready:
        return said
    drains = deployment is not None and not released and snapshot.claims_forbid_surge
    return _with(said, holds=not released, drains=drains)


def gated(manifests: Sequence[Manifest], weights: Weights) -> tuple[Manifest, ...]:
    """The Deployment says for which weights it is; while a replica has to go first, it has none."""
    if not weights.key:
        return tuple(manifests)
    return tuple(_gated(each, weights) if each["kind"] == _DEPLOYMENT else each for each in manifests)


def let_through(manifests: Iterable[Manifest], weights: Weights) -> tuple[Manifest, ...]:
    """What may be applied now: the pods when there is something to load."""
    held = weights.holds and not weights.drains
    return tuple(each for each in manifests if not (held and each["kind"] == _DEPLOYMENT))


def _found(key: str, brought: Delivery) -> Weights:
    """They were looked at once. While the pods do well, nothing is missing where a clean-up took the Job."""
    return Weights(key, message=f"{brought.shown} was found to be the planned weights")


def _state(standing: Child | None, snapshot: Snapshot, job: Manifest, brought: Delivery) -> Weights:
    metadata = job["metadata"]
    key = metadata["annotations"][names.WEIGHTS_KEY]
    doing = _doing(metadata["name"], brought)
    if standing is None:
        return Weights(key, make=job, ready=False, reason=Reason.DOWNLOADING, message=doing)
    if standing.annotations.get(names.WEIGHTS_KEY) != key or standing.terminating:
        stale = None if standing.terminating else standing
        return Weights(key, stale=stale, ready=False, reason=Reason.DOWNLOADING, message=doing)
    if _says(standing, "Complete"):
        return _found(key, brought)
    pods = [pod for pod in snapshot.weights_pods if pod.job_uid == standing.uid]
    if _says(standing, "Failed"):
        if standing.annotations.get(names.WEIGHTS_ATTEMPT) != attempt_of(snapshot):
            return Weights(key, stale=standing, ready=False, reason=Reason.DOWNLOADING, message=doing)
        reason, words = _last_word(pods) or (Reason.WEIGHTS_MISSING, f"Job {standing.name} failed")
        return Weights(key, ready=False, reason=reason, message=f"{words}; {_TRY_AGAIN}", final=True)
    if snapshot.unmade_job and not pods:
        found = refused_pod(f"a pod of Job {standing.name} is not made", snapshot.unmade_job)
        return Weights(key, ready=False, reason=found.reason, message=found.message, final=found.final)
    last = _last_word(pods)
    if last is None and (waits := _waits(pods)):
        return Weights(key, ready=False, reason=waits.reason, message=waits.message, final=waits.final)
    reason, words = last or (Reason.DOWNLOADING, doing)
    return Weights(key, ready=False, reason=reason, message=words)


def _last_word(pods: Sequence[WeightsPod]) -> tuple[Reason, str] | None:
    """Why the last try failed; the same words while the next one runs."""
    failed = [pod.replica for pod in pods if pod.replica.phase == "Failed"]
    if not failed:
        return None
    last = max(failed, key=lambda pod: (pod.started_at, pod.name))
    told = read_word(last.terminated_message)
    if told is not None:
        return told
    words = (
        excerpt(last.terminated_message)
        or f"exit code {last.exit_code}, {last.terminated_reason or 'no reason'}"
    )
    return Reason.WEIGHTS_MISSING, f"what brings the weights ended without a word of its own: {words}"


def _waits(pods: Sequence[WeightsPod]) -> Trouble | None:
    """What keeps the pod from running: its image, its node, its Secret."""
    living: list[Replica] = [pod.replica for pod in pods if pod.replica.phase == "Pending"]
    return trouble(living)


def _doing(job: str, brought: Delivery) -> str:
    if brought.first is Task.FETCH:
        into = f"Job {job} brings {brought.shown} into claim {brought.claim}"
        return f"{into}: `kubectl logs job/{job}` shows how far it is or why it waits"
    return f"Job {job} looks at {brought.shown} before a GPU is used"


def _says(job: Child, kind: str) -> bool:
    conditions: Sequence[Mapping[str, Any]] = job.status.get("conditions", ())
    return any((each.get("type"), each.get("status")) == (kind, "True") for each in conditions)


def _with(said: Weights, *, holds: bool, drains: bool) -> Weights:
    message = said.message
    if drains:
        message = f"{message}; the volume may be mounted by one node or pod only, so what served goes first"
    return replace(said, holds=holds, drains=drains, message=message)


def _gated(manifest: Manifest, weights: Weights) -> Manifest:
    if weights.drains:
        return sealed({**manifest, "spec": {**manifest["spec"], "replicas": 0}})
    if not weights.ready and weights.holds:
        return manifest
    metadata = manifest["metadata"]
    annotations = {**metadata["annotations"], names.WEIGHTS_KEY: weights.key}
    return sealed({**manifest, "metadata": {**metadata, "annotations": annotations}})
