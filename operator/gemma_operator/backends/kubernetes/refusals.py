"""What is said when the API server refuses a child: whose move it is, in the server's own words. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_operator.api import conditions
from gemma_operator.api.conditions import ConditionType, Reason
from gemma_operator.backends.decision import Decision
from gemma_operator.backends.kubernetes import requested
from gemma_operator.backends.kubernetes.failures.admission import admission_reason, refused_object
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Snapshot
from gemma_operator.errors import ApiError, Forbidden, Rejected

_REFUSED: Final = (ConditionType.PROVISIONED, ConditionType.RECONCILING, ConditionType.STALLED)


def is_one(error: ApiError) -> bool:
    """A no, or admission that could not be asked (500); what a server that is away or busy answers is none."""
    return isinstance(error, (Forbidden, Rejected)) or admission_reason(str(error)) is not None


def namespace_is_going(error: ApiError) -> bool:
    """Nothing is made in a namespace on its way out, and the deployment goes with it."""
    return "being terminated" in str(error)


def explained(decision: Decision, error: ApiError, snapshot: Snapshot) -> Decision:
    """The decision with the refusal in its conditions; what serves goes on being Healthy, and Ready where it was.

    A Ready that is on its way is not: it says what holds it up, like every other that is not True.
    """
    found, generation = _trouble(error), snapshot.generation
    at_rest = tuple(each for each in decision.conditions if each.type not in _REFUSED)
    ready = tuple(
        conditions.not_ready(found.reason, found.message, generation=generation)
        for each in decision.conditions
        if each.type == ConditionType.READY and each.status != "True"
    )
    verdict = conditions.stalled if found.final else conditions.reconciling
    return replace(
        decision,
        # what was asked for is tried again, and not what stands
        status=requested.not_handled(decision.status, snapshot) if decision.status is not None else None,
        conditions=(
            *at_rest,
            *ready,
            conditions.not_provisioned(found.reason, found.message, generation=generation),
            verdict(found.reason, found.message, generation=generation),
        ),
    )


def _trouble(error: ApiError) -> Trouble:
    words, what = str(error), "an object is not made"
    if isinstance(error, Forbidden) and admission_reason(words) is None:  # quotas and policies answer 403 too
        return told(Reason.FORBIDDEN, what, words)
    return refused_object(what, words)
