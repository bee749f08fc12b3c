"""What to do about each reason, and whose move it is; one sentence each, which messages and docs/operations.md share.

A remedy names fields as the yaml spells them and commands as they are typed; a test looks each of them up.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Mover(Enum):
    """Who has to do something before it goes on."""

    NOBODY = "nobody: it is as it should be"
    CLUSTER = "the cluster or the operator: Reconciling, and it goes on by itself"
    USER = "you: Stalled"
    EITHER = "either: the condition beside it says which"


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do, and who."""

    mover: Mover
    text: str


_NOTHING: Final = "nothing to do"
_NODE: Final = "`kubectl describe node NODE`"


def _nobody(text: str = _NOTHING) -> Remedy:
    return Remedy(Mover.NOBODY, text)


def _cluster(text: str) -> Remedy:
    return Remedy(Mover.CLUSTER, text)


def _user(text: str) -> Remedy:
    return Remedy(Mover.USER, text)


def _either(text: str) -> Remedy:
    return Remedy(Mover.EITHER, text)


REMEDIES: Final = {
    # what is served
    "Serving": _nobody(),
    "ReplicasMissing": _either("do what the message says of the replica that is missing"),
    "IdleAtZero": _nobody("raise replicas to serve again"),
    "NotProbed": _cluster(
        "look for a policy or a firewall between them; an operator outside the cluster needs its setting operatorCidrs"
    ),
    "NoEndpoints": _cluster("wait a moment; if it stays, look at `kubectl get endpointslices`"),
    "WrongModel": _cluster("take --served-model-name out of the image's own configuration"),
    "NotProved": _cluster("wait for the next probe"),
    "StartingUp": _cluster("wait for as long as the start-up budget says"),
    "PullingImage": _cluster("wait; the image has several GB the first time on a node"),
    "RollingOut": _cluster("wait; the message says what holds it up"),
    "Wedged": _either(
        "wait; where more than half are wedged, look at their logs and GPUs and delete one pod"
    ),
    "ProbeFailed": _cluster("look at the replica's log with `kubectl logs POD`"),
    # what is planned
    "Planned": _nobody(),
    "Replanned": _nobody(),
    "PredictionOff": _nobody("report the two figures with the engine's version and the GPU"),
    "UpdateAvailable": _nobody("set the annotation gemma-operator.io/refresh-requested-at when it suits"),
    "WaitingForCapacity": _cluster(
        "wait, free GPUs, or allow more in hardware.pools or hardware.accelerators"
    ),
    "NothingFits": _user(
        "allow what the alternatives in status lack: another GPU, less context or concurrency"
    ),
    "NoPools": _user("add GPU nodes or an AcceleratorPool, or allow more in hardware.pools"),
    "UnknownAccelerator": _user("write one of the names that the message lists in hardware.accelerators"),
    "PlanImpossible": _user("bring its pool back, or allow another in hardware.pools"),
    # what the user must mend, or wanted
    "InvalidSpec": _user("change the field that the message names"),
    "NotImplemented": _user("take the field out"),
    "SchemaOutdated": _user("install the CRDs of this version of the operator"),
    "Conflict": _user(
        "delete the object that is not ours, or rename this deployment; or make who changes or deletes a child stop"
    ),
    "HandsOff": _nobody("take the annotation gemma-operator.io/reconcile away"),
    "Suspended": _nobody("set suspend: false to serve again"),
    "Forbidden": _user("give the operator this right (manifests/base/rbac.yaml)"),
    # what is being made
    "Provisioned": _nobody(),
    "Provisioning": _cluster("wait; the message says for what"),
    "Deleting": _cluster("wait"),
    # how the weights come
    "WeightsPresent": _nobody(),
    "Downloading": _cluster(
        "wait; the log of what brings them says how far it is or why it waits, a hub's 429 among it"
    ),
    "WeightsMissing": _user("mend repository, revision or path in model.source, or the mirror"),
    "WeightsGated": _user(
        "accept the licence on the repository's page with the account of credentials.huggingFaceToken"
    ),
    "WeightsMismatch": _user("name in model.variants and model.precisions what model.source holds"),
    "CredentialInvalid": _user("put a valid token into the Secret of credentials.huggingFaceToken"),
    "CredentialMalformed": _user(
        "make the Secret of credentials.huggingFaceToken anew without spaces or line breaks in the token"
    ),
    "HubRateLimited": _cluster(
        "wait, set credentials.huggingFaceToken, or keep the weights with weights.cache or a hub mirror"
    ),
    "HubUnreachable": _cluster("open the way to the hub, or set the operator's hub mirror or proxy"),
    "ClaimMissing": _user("make the PersistentVolumeClaim, or name another"),
    "ClaimUnsuitable": _user("name a claim of the size and access mode that the message asks for"),
    "SecretMissing": _user("make the Secret with the key that the spec names, and a value in it"),
    # what pods failed with
    "ImagePull": _cluster(
        "look at the registry and the way to it; check serving.engine.image and the operator's image mirror"
    ),
    "ImageNotFound": _user(
        "correct serving.engine.image or serving.engine.version, or the operator's image mirror"
    ),
    "ImageDenied": _user("name a Secret with the registry's credentials in pod.imagePullSecrets"),
    "DiskFull": _cluster(
        f"free the node's disk ({_NODE}), take a larger one, or set pod.resources.ephemeralStorage or weights.cache"
    ),
    "DriverTooOld": _user(
        "update the GPU driver of that pool, choose another in hardware.pools, or an older serving.engine.version"
    ),
    "UnsupportedAccelerator": _user(
        "choose newer GPUs in hardware.accelerators, or another precision in model.precisions"
    ),
    "HostOutOfMemory": _either("raise pod.resources.memory, which is request and limit"),
    "DeviceUnhealthy": _user(
        f"cordon the node and reset or replace its GPU ({_NODE}), then delete the pod: another takes its place"
    ),
    "AdmissionDenied": _user("change what refuses it, or the pod settings of the spec that it names"),
    "Evicted": _cluster(
        "wait for the next pod; if it happens again, set pod.priorityClassName or pod.resources"
    ),
    "CapacityTimeout": _nobody(),
    "CannotStart": _cluster("mend what the message says of the node, its runtime or pod.runtimeClassName"),
    "CrashLoop": _cluster("look at the last words with `kubectl logs POD --previous`"),
    "OutOfMemory": _user(
        "lower serving.contextLength or serving.concurrency, or allow larger GPUs in hardware"
    ),
    "KvCacheTooSmall": _user(
        "lower serving.contextLength or serving.concurrency, or allow larger GPUs in hardware"
    ),
    "Unschedulable": _cluster(
        "wait for a node, or free or add one; hardware.tolerations admits tainted ones"
    ),
    "SchedulingGated": _cluster("look at the Workload of its queue (pod.queueName), or at who set the gate"),
    "NodeRefuses": _cluster(f"cordon it and look at its GPUs and device plugin, {_NODE}"),
    "QuotaExceeded": _cluster("raise the quota or limit, or lower replicas or pod.resources"),
    "NodeLost": _cluster("wait until Kubernetes evicts the pod, or bring the node back"),
    "StartupBudgetExceeded": _cluster(
        "raise serving.startupTimeoutSeconds, or keep weights near with weights.cache"
    ),
    # AcceleratorPool
    "Accepted": _nobody(),
    "Overlapping": _user("make the selectors of the two pools exclude each other"),
}
