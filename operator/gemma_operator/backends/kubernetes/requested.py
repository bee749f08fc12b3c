"""Whether what an annotation asks for (`replan-requested-at`, `refresh-requested-at`) was done. Pure.

Only what was applied was done. What counts as handled is asked for no more, and the plan or the form that stands in
the Deployment is then what is wanted: a request that counted too early would be forgotten.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_operator.backends.decision import StatusFields
from gemma_operator.backends.kubernetes.snapshot import Snapshot
from gemma_operator.backends.kubernetes.view import DEPLOYMENT, View

_REPLAN: Final = "replan"
_REFRESH: Final = "refresh"


def handled(view: View, what: str) -> str | None:
    """What counts as handled once the children that are pending are applied."""
    before = _before(view.snapshot, what)
    return before if _waits_for_weights(view) else view.snapshot.requested(what) or before


def not_handled(fields: StatusFields, snapshot: Snapshot) -> StatusFields:
    """The same status, where nothing was applied of what is asked for."""
    return replace(
        fields,
        last_handled_replan_at=_before(snapshot, _REPLAN),
        last_handled_refresh_at=_before(snapshot, _REFRESH),
    )


def _waits_for_weights(view: View) -> bool:
    """The Deployment that stands is left as it is until its successor's weights are there."""
    stands = any(child.kind == DEPLOYMENT for child in view.snapshot.children)
    return stands and view.weights.holds and not view.weights.drains


def _before(snapshot: Snapshot, what: str) -> str | None:
    said: str | None = snapshot.status.get(f"lastHandled{what.capitalize()}At")
    return said
