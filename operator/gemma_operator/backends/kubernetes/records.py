"""What is kept of the objects of one deployment: children, pods and EndpointSlices, cut from the API's JSON.

Given to the caches as their `cut` functions, so a whole object lives no longer than the page it came in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.backends.kubernetes import containers
from gemma_operator.backends.kubernetes.ownership import owned_hash
from gemma_operator.backends.kubernetes.render_container import CONTAINER
from gemma_operator.backends.kubernetes.render_parts import PORT_NAME
from gemma_operator.backends.kubernetes.render_weights import CONTAINER as WEIGHTS_CONTAINER
from gemma_operator.backends.kubernetes.snapshot import Child, Key, Replica, ServedAddress, WeightsPod
from gemma_operator.backends.kubernetes.startup_ledger import pod_times

Json = Mapping[str, Any]

#: Selects our pods and children in lists and watches.
LABEL_SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGED_BY},{names.DEPLOYMENT_LABEL}"
SERVICE_NAME_LABEL: Final = "kubernetes.io/service-name"
_KEPT_STATUS: Final = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "conditions",
    "startTime",  # of a Job, as its completionTime
    "completionTime",
)
#: The uid of a Job on its pods (Kubernetes 1.27 and later).
_JOB_UID_LABEL: Final = "batch.kubernetes.io/controller-uid"


def cut_child(obj: Json) -> Child:
    """What is kept of a child, or of what stands where a child would."""
    metadata = obj["metadata"]
    owners: Sequence[Json] = metadata.get("ownerReferences", ())
    owner: Json = next((reference for reference in owners if reference.get("controller")), {})
    annotations = metadata.get("annotations", {})
    status = obj.get("status", {}) if obj["kind"] in ("Deployment", names.JOB_KIND) else {}
    return Child(
        kind=obj["kind"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        owned_hash=owned_hash(obj),
        has_our_label=_is_ours(metadata),
        controller_kind=owner.get("kind", ""),
        controller_name=owner.get("name", ""),
        controller_uid=owner.get("uid", ""),
        terminating="deletionTimestamp" in metadata,
        annotations={key: value for key, value in annotations.items() if key.startswith(names.PREFIX)},
        status={key: status[key] for key in _KEPT_STATUS if key in status},
        managers=_managers(metadata),
        intent=_intent_of_pods(obj),
    )


def cut_replica(pod: Json) -> Replica | None:
    """What is kept of one of our pods; None for a pod that is nobody's replica."""
    return _replica(pod, container=CONTAINER) if _is_ours(pod["metadata"]) else None


def cut_weights_pod(pod: Json) -> tuple[Key, WeightsPod] | None:
    """What is kept of a pod of the Job that brings weights, and whose it is; None for every other pod."""
    labels = pod["metadata"].get("labels", {})
    deployment = labels.get(names.WEIGHTS_LABEL, "")
    if not deployment or labels.get(names.MANAGED_BY_LABEL) != names.MANAGED_BY:
        return None
    owner = Key(pod["metadata"]["namespace"], deployment)
    return owner, WeightsPod(
        job_uid=labels.get(_JOB_UID_LABEL, ""), replica=_replica(pod, container=WEIGHTS_CONTAINER)
    )


def _replica(pod: Json, *, container: str) -> Replica:
    metadata, status = pod["metadata"], pod.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    engine = _status_of(container, status.get("containerStatuses", ()))
    own = containers.container(engine)
    disruption = conditions.get("DisruptionTarget", {})
    return Replica(
        uid=metadata["uid"],
        name=metadata["name"],
        node=pod.get("spec", {}).get("nodeName", ""),
        ip=status.get("podIP", ""),
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        started=engine.get("started") is True,
        terminating="deletionTimestamp" in metadata,
        intent=metadata.get("annotations", {}).get(names.INTENT, ""),
        model_name=metadata.get("annotations", {}).get(names.MODEL_NAME, ""),
        engine=metadata.get("annotations", {}).get(names.ENGINE, ""),
        started_at=_started_at(engine, status, metadata),
        unschedulable_message=scheduled.get("message", "") if _unschedulable(scheduled) else "",
        gated=scheduled.get("reason") == "SchedulingGated",
        waiting_reason=own.waiting_reason,
        waiting_message=own.waiting_message,
        # a pod that the kubelet refused has no container to ask: the reason is the pod's own
        terminated_reason=own.terminated_reason or status.get("reason", ""),
        terminated_message=own.terminated_message or containers.last_words(status.get("message", "")),
        exit_code=own.exit_code,
        restarts=own.restarts,
        times=pod_times(pod, engine=engine),
        container=container,
        ran_seconds=own.ran_seconds,
        had_been_ready=containers.had_been_ready(status, engine),
        held_up_by=containers.holding_up(status, but=container),
        pod_reason=status.get("reason", ""),
        pod_message=containers.last_words(status.get("message", "")),
        disruption=disruption.get("reason", "") if disruption.get("status") == "True" else "",
        disruption_message=disruption.get("message", ""),
        unhealthy_devices=containers.unhealthy_devices(engine),
    )


def cut_slice(endpoint_slice: Json) -> tuple[Key, tuple[ServedAddress, ...]]:
    """The Service that a slice belongs to, and the pods behind it; read by targetRef, never by address."""
    metadata = endpoint_slice["metadata"]
    key = Key(metadata["namespace"], metadata.get("labels", {}).get(SERVICE_NAME_LABEL, ""))
    # a slice without endpoints names its port and gives no number
    ports = [
        port["port"]
        for port in endpoint_slice.get("ports") or ()
        if port.get("name") == PORT_NAME and port.get("port") is not None
    ]
    return key, tuple(
        ServedAddress(pod_uid=endpoint["targetRef"]["uid"], port=port, ready=_takes_requests(endpoint))
        for endpoint in endpoint_slice.get("endpoints") or ()
        if _is_a_known_pod(endpoint.get("targetRef") or {})
        for port in ports
    )


def deployment_of(obj: Json) -> Key | None:
    """Namespace and children's name of the deployment that one of our pods or children belongs to."""
    metadata = obj["metadata"]
    if not _is_ours(metadata):
        return None
    return Key(metadata["namespace"], metadata["labels"][names.DEPLOYMENT_LABEL])


def _managers(metadata: Json) -> tuple[str, ...]:
    """Who wrote it; a client that sends no User-Agent has no name there."""
    named = (entry.get("manager", "") for entry in metadata.get("managedFields", ()))
    return tuple(dict.fromkeys(filter(None, named)))


def _is_a_known_pod(target: Json) -> bool:
    """A reference need not tell the uid: slices that somebody wrote by hand or mirrors from Endpoints may not."""
    return target.get("kind") == "Pod" and bool(target.get("uid"))


def _intent_of_pods(obj: Json) -> str:
    template = obj.get("spec", {}).get("template") or {}
    return str((template.get("metadata", {}).get("annotations") or {}).get(names.INTENT, ""))


def _is_ours(metadata: Json) -> bool:
    labels = metadata.get("labels", {})
    return labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY and bool(labels.get(names.DEPLOYMENT_LABEL))


def _status_of(container: str, statuses: Sequence[Json]) -> Json:
    """That container's own status: a sidecar that somebody injected says nothing about the engine."""
    return next((status for status in statuses if status.get("name") == container), {})


def _started_at(engine: Json, status: Json, metadata: Json) -> str:
    """When the engine's container started; before that, when the pod was accepted or made."""
    running: str = engine.get("state", {}).get("running", {}).get("startedAt", "")
    return running or status.get("startTime", "") or metadata.get("creationTimestamp", "")


def _unschedulable(scheduled: Json) -> bool:
    return scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"


def _takes_requests(endpoint: Json) -> bool:
    """An absent `ready` means ready (discovery.k8s.io/v1 EndpointConditions)."""
    return endpoint.get("conditions", {}).get("ready") is not False
