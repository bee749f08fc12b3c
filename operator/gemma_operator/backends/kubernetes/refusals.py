"""What is said when the API server refuses a child: whose move it is, in the server's own words. Pure."""

from __future__ import annotations

from dataclasses import replace

from gemma_operator.api import conditions
from gemma_operator.api.conditions import ConditionType, Reason
from gemma_operator.backends.decision import Decision
from gemma_operator.errors import ApiError
from gemma_operator.scrub import excerpt

#: 403 is also what quotas and admission webhooks answer; only a missing right is the operator's own.
_ADMISSION = ("exceeded quota", "admission webhook", "denied the request", "violates PodSecurity")


def namespace_is_going(error: ApiError) -> bool:
    """Nothing is made in a namespace on its way out, and the deployment goes with it."""
    return "being terminated" in str(error)


def explained(decision: Decision, error: ApiError, *, generation: int) -> Decision:
    """The decision with the refusal in its conditions; what serves goes on being Ready and Healthy."""
    text = excerpt(str(error), limit=400)
    by_admission = error.status != 403 or any(words in text for words in _ADMISSION)
    reason = Reason.QUOTA_EXCEEDED if by_admission else Reason.FORBIDDEN
    remedy = (
        "change what refuses it"
        if by_admission
        else "give the operator this right (manifests/base/rbac.yaml)"
    )
    refused = (ConditionType.PROVISIONED, ConditionType.RECONCILING, ConditionType.STALLED)
    said = tuple(condition for condition in decision.conditions if condition.type not in refused)
    message = f"{text}; {remedy}"
    return replace(
        decision,
        conditions=(
            *said,
            conditions.not_provisioned(reason, message, generation=generation),
            conditions.stalled(reason, message, generation=generation),
        ),
    )
