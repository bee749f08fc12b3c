"""Every name that is API: group, kinds, labels, annotations, finalizer, and the names of children.

They stand in one file because two rooms that spell the same label apart make an orphan. No logic but the
one rule of children's names.
"""

import hashlib
from typing import Final

GROUP: Final = "gemma-operator.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
PREFIX: Final = f"{GROUP}/"

DEPLOYMENT_KIND: Final = "GemmaDeployment"
DEPLOYMENT_PLURAL: Final = "gemmadeployments"
JOB_KIND: Final = "Job"
POOL_KIND: Final = "AcceleratorPool"
POOL_PLURAL: Final = "acceleratorpools"
PLURALS: Final[dict[str, str]] = {DEPLOYMENT_KIND: DEPLOYMENT_PLURAL, POOL_KIND: POOL_PLURAL}

FIELD_MANAGER: Final = "gemma-operator"
NAME_MAX_LENGTH: Final = 253  # of an object, a DNS subdomain

# Labels of children. The selector of Deployment, Service, NetworkPolicy and PodDisruptionBudget is
# DEPLOYMENT_LABEL alone: a selector cannot be changed later, so it holds nothing that might.
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
NAME_LABEL: Final = "app.kubernetes.io/name"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
DEPLOYMENT_LABEL: Final = f"{PREFIX}deployment"  # value: child_name(metadata.name)
#: On pods of the weights' Job, in the place of DEPLOYMENT_LABEL: no Service, budget or Deployment selects them.
WEIGHTS_LABEL: Final = f"{PREFIX}weights"  # value: child_name(metadata.name)
MANAGED_BY: Final = "gemma-operator"
KUEUE_QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
RESERVED_POD_LABELS: Final[tuple[str, ...]] = (
    MANAGED_BY_LABEL,
    NAME_LABEL,
    INSTANCE_LABEL,
    COMPONENT_LABEL,
    KUEUE_QUEUE_LABEL,
)

# What users set on a GemmaDeployment.
REPLAN_REQUESTED_AT: Final = f"{PREFIX}replan-requested-at"
REFRESH_REQUESTED_AT: Final = f"{PREFIX}refresh-requested-at"
RECONCILE: Final = f"{PREFIX}reconcile"
RECONCILE_DISABLED: Final = "Disabled"
REQUEST_MAX_LENGTH: Final = 64  # of the two `…-requested-at` values, which are opaque

# The intent, on the child Deployment: what it was rendered from, and by whom.
INPUTS_HASH: Final = f"{PREFIX}inputs-hash"
RENDERER_VERSION: Final = f"{PREFIX}renderer-version"
SPEC_HASH: Final = f"{PREFIX}spec-hash"  # of what the user had written, less replicas and suspend
SPEC_REPLICAS: Final = f"{PREFIX}spec-replicas"
PLAN: Final = f"{PREFIX}plan"
AVOIDED_NODES: Final = f"{PREFIX}avoided-nodes"  # names, comma between: what the pods of this plan keep off
ROLLOUT: Final = f"{PREFIX}rollout"  # how its pods follow one another, and what decided: `Surge/Room`
WEDGED_REPLACED_AT: Final = f"{PREFIX}wedged-replaced-at"  # when a wedged pod was deleted last
APPLIED_HASH: Final = f"{PREFIX}applied-hash"
MODEL_NAME: Final = (
    f"{PREFIX}model-name"  # on pods: what this one is asked for, whatever the spec says by now
)
ENGINE: Final = f"{PREFIX}engine"  # on pods: in whose dialect this one is asked
WEIGHTS_KEY: Final = (
    f"{PREFIX}weights-key"  # what the Job brings or checks, and what the pods were let go for
)
WEIGHTS_ATTEMPT: Final = (
    f"{PREFIX}weights-attempt"  # on the Job: what it was asked by; another one retries a failed one
)
ACCESS_GUARD: Final = f"{PREFIX}access-guard"  # on pods: the program that asks for a key
FAREWELL: Final = f"{PREFIX}farewell"  # on pods: the program that moves clients over before the engine goes
ACCESS_PROBE: Final = f"{PREFIX}access-probe"  # on pods: SHA-256 of the key that the operator shows
INTENT: Final = f"{PREFIX}intent"  # on pods: hash of the template that they were made from

_CHILD_NAME_MAX_LENGTH = 63
_HASH_LENGTH = 8


def child_name(name: str) -> str:
    """The name of every child of the GemmaDeployment `name`: a DNS label that also a Service may have.

    Dots become dashes, so `a.b` and `a-b` want the same children: the second one gets `Conflict`.
    """
    label = name.lower().replace(".", "-")
    if label[:1].isdigit():
        label = f"gd-{label}"
    return _cut(label, name, max_length=_CHILD_NAME_MAX_LENGTH)


def weights_name(name: str) -> str:
    """The name of the Job that brings or checks the weights; its pods carry it as a label, so it is as short as one."""
    suffix = "-weights"
    return _cut(child_name(name), name, max_length=_CHILD_NAME_MAX_LENGTH - len(suffix)) + suffix


def name_of_child(kind: str, name: str) -> str:
    """The name of the child of that kind."""
    return weights_name(name) if kind == JOB_KIND else child_name(name)


def _cut(label: str, name: str, *, max_length: int) -> str:
    if len(label) <= max_length:
        return label
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    head = label[: max_length - _HASH_LENGTH - 1].rstrip("-")
    return f"{head}-{digest}"


def event_name(name: str, *, micros: int) -> str:
    """Of an Event about a GemmaDeployment, known by its moment; a name may be as long as an Event's own."""
    moment = f".{micros:x}"
    return name[: NAME_MAX_LENGTH - len(moment)].rstrip("-.") + moment
