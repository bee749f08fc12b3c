"""Children that another version of the operator rendered: an upgrade restarts nothing, and unreadies nothing either."""

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.planner.spare import Spare
from plans import a_plan
from snapshots import ENGINE, NOW, a_running_snapshot, said

READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}


def decided(snapshot):
    return decide(view(snapshot, a_plan(), engine=ENGINE), now=NOW)


def rendered_by_an_older_one(**status):
    """Serves as it did; what this version would render is another template."""
    snapshot = a_running_snapshot(status=status)
    older = tuple(
        replace(
            child,
            annotations={**child.annotations, names.RENDERER_VERSION: "older"},
            owned_hash="x",
            intent="its own",
        )
        if child.kind == "Deployment"
        else child
        for child in snapshot.children
    )
    pods = tuple(replace(each, intent="its own") for each in snapshot.replicas)
    return replace(snapshot, children=older, replicas=pods)


def test_an_upgrade_of_the_operator_touches_nothing_and_says_so():
    snapshot = rendered_by_an_older_one(conditions=[READY])
    decision = decided(snapshot)
    assert decision.policy == "update_available"
    assert (decision.apply, decision.delete) == ((), ())
    assert said(decision)["Planned"] == ("True", "UpdateAvailable")
    refreshed = replace(
        snapshot, annotations={names.REFRESH_REQUESTED_AT: "now"}, spare=Spare(1, drained_frees_room=True)
    )
    assert decided(refreshed).policy == "provision"


def test_what_was_ready_under_an_older_operator_stays_so_and_rolls_nowhere():
    conditions = said(decided(rendered_by_an_older_one(conditions=[READY])))
    assert (conditions["Ready"], conditions["Healthy"]) == (("True", "Serving"), ("True", "Serving"))
    assert conditions["Provisioned"][0] == "True"
    assert {"Reconciling", "Stalled"}.isdisjoint(conditions)


@pytest.mark.parametrize(
    "before",
    [
        {**READY, "observedGeneration": 0},
        {**READY, "status": "False", "reason": "UpdateAvailable"},
    ],
    ids=["nothing was said of it", "it was said that it waits"],
)
def test_a_change_after_an_upgrade_is_not_said_to_be_served_before_it_is_taken_up(before):
    conditions = said(decided(rendered_by_an_older_one(conditions=[before])))
    assert conditions["Ready"] == ("False", "UpdateAvailable")
    assert conditions["Stalled"] == ("True", "UpdateAvailable")
    assert conditions["Healthy"] == ("True", "Serving")


def test_a_new_version_asks_before_it_says_anything_else():
    unasked = replace(rendered_by_an_older_one(conditions=[READY]), facts={})
    decision = decided(unasked)
    assert (decision.policy, decision.conditions, decision.status) == ("update_available", (), None)
    assert decision.look_again_after_seconds == unasked.settings.probe_period_seconds


def test_a_refresh_that_leaves_a_gap_is_announced_and_then_done():
    """Saying so is not doing it: what counts as handled is not asked for again."""
    asked = replace(
        rendered_by_an_older_one(conditions=[READY]),
        annotations={names.REFRESH_REQUESTED_AT: "now", names.REPLAN_REQUESTED_AT: "now"},
        spare=Spare(0, drained_frees_room=True),
    )
    announced = decided(asked)
    handled = (announced.status.last_handled_refresh_at, announced.status.last_handled_replan_at)
    assert (announced.policy, handled) == ("announce_gap", (None, None))
    conditions = [
        {
            "type": str(each.type),
            "status": each.status,
            "reason": str(each.reason),
            "message": each.message,
            "observedGeneration": 1,
        }
        for each in announced.conditions
    ]
    done = decided(replace(asked, status={"conditions": conditions}))
    assert (done.policy, done.status.last_handled_refresh_at) == ("provision", "now")
