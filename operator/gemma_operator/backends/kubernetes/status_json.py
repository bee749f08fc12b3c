"""`status` as it is written: from a decision, and from the conditions that stood before. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gemma_operator.api import conditions
from gemma_operator.backends.decision import Decision, StatusFields
from gemma_operator.backends.kubernetes.render_parts import filled
from gemma_operator.backends.kubernetes.snapshot import Snapshot


def status_json(decision: Decision, snapshot: Snapshot, *, now: datetime) -> dict[str, Any]:
    """The whole status. What is absent is left out: under server-side apply that removes it."""
    fields = decision.status or StatusFields()
    merged = conditions.merge(
        snapshot.status.get("conditions", ()),
        decision.conditions,
        now_iso=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return filled(
        {
            "observedGeneration": snapshot.generation,
            "conditions": merged,
            "replicas": fields.replicas,
            "readyReplicas": fields.ready_replicas,
            "selector": fields.selector or None,
            "plan": fields.plan,
            "alternatives": list(fields.alternatives),
            "endpoint": fields.endpoint,
            "measured": fields.measured,
            "startup": list(fields.startup),
            "lastHandledReplanAt": fields.last_handled_replan_at,
            "lastHandledRefreshAt": fields.last_handled_refresh_at,
        }
    )
