"""What is said when the API server refuses a child: whose move it is, in the server's own words. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_operator.api import conditions
from gemma_operator.api.conditions import ConditionType, Reason
from gemma_operator.backends.decision import Decision
from gemma_operator.backends.kubernetes.failures.admission import admission_reason
from gemma_operator.backends.kubernetes.failures.trouble import told
from gemma_operator.errors import ApiError

#: Also what quotas and policies answer; what is none of theirs is a right that the operator lacks.
_FORBIDDEN: Final = 403


def namespace_is_going(error: ApiError) -> bool:
    """Nothing is made in a namespace on its way out, and the deployment goes with it."""
    return "being terminated" in str(error)


def explained(decision: Decision, error: ApiError, *, generation: int) -> Decision:
    """The decision with the refusal in its conditions; what serves goes on being Ready and Healthy."""
    words = str(error)
    reason = admission_reason(words) or (
        Reason.FORBIDDEN if error.status == _FORBIDDEN else Reason.ADMISSION_DENIED
    )
    message = told(reason, "an object is not made", words).message
    refused = (ConditionType.PROVISIONED, ConditionType.RECONCILING, ConditionType.STALLED)
    said = tuple(condition for condition in decision.conditions if condition.type not in refused)
    return replace(
        decision,
        conditions=(
            *said,
            conditions.not_provisioned(reason, message, generation=generation),
            conditions.stalled(reason, message, generation=generation),
        ),
    )
