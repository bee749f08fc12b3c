"""Pods, and objects of ours, that the API server does not take: a quota, a limit, or a policy.

The same words whoever is refused: a ReplicaSet that makes a pod, or the operator that applies a child.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told

#: apiserver plugin/resourcequota/controller.go; plugin/pkg/admission/limitranger/admission.go, 1.37. What a LimitRange
#: allows at most is also the limit of who has none, and then pkg/apis/core/validation/validation.go finds the request
#: larger; our own pods never ask for more than their limit.
_QUOTA: Final = re.compile(
    r"exceeded quota|failed quota|insufficient quota|(?:minimum|maximum) \S+ usage per \S+ is"
    r"|max limit to request ratio per|must be less than or equal to \S+ limit of"
)
#: Before the verdict stands a pod's name, which is another one each time.
_VERDICT: Final = re.compile(r" is (?:forbidden|invalid): ")
#: PodSecurity, webhooks, ValidatingAdmissionPolicy, priority and runtime classes.
_POLICY: Final = re.compile(
    r"violates PodSecurity|admission webhook|denied the request|denied request|failed calling webhook"
    r"|no PriorityClass with name|pod rejected: RuntimeClass"
)
#: Not what was asked for is refused, but nobody could be asked: it is tried again.
_NOBODY_ANSWERED: Final = re.compile(r"failed calling webhook|error looking up service account|timeout")
#: Of the baseline level and of restricted: policy/check_hostPathVolumes.go, check_restrictedVolumes.go of
#: k8s.io/pod-security-admission 0.37.2. Only a folder of the node makes a pod of ours have one.
_FOLDER_OF_THE_NODE: Final = re.compile(r"violates PodSecurity.*hostPath", re.DOTALL)
_NO_FOLDER: Final = (
    "weights.cache type Node needs a namespace of the Pod Security level privileged: "
    "use None or PersistentVolumeClaim"
)


def admission_reason(words: str) -> Reason | None:
    """QuotaExceeded or AdmissionDenied; None where the words are of neither."""
    if _QUOTA.search(words):
        return Reason.QUOTA_EXCEEDED
    return Reason.ADMISSION_DENIED if _POLICY.search(words) else None


def not_made(deployment: Mapping[str, Any]) -> Trouble | None:
    """Pods that admission refused: the Deployment says so (ReplicaFailure), in the words of who refused."""
    for condition in deployment.get("conditions", ()):
        if (condition.get("type"), condition.get("status")) == ("ReplicaFailure", "True"):
            return refused_pod("a pod is not made", str(condition.get("message", "")))
    return None


def refused_pod(what: str, message: str) -> Trouble:
    """In the words of who refused it, from the verdict on."""
    return refused_object(what, _VERDICT.split(message, maxsplit=1)[-1])


def refused_object(what: str, words: str) -> Trouble:
    """In the words of who refused it. A quota, and who does not answer, may let it through later."""
    reason = admission_reason(words) or Reason.ADMISSION_DENIED
    final = reason.final and not _NOBODY_ANSWERED.search(words)
    remedy = _NO_FOLDER if _FOLDER_OF_THE_NODE.search(words) else ""
    return told(reason, what, words, remedy=remedy, final=final)
