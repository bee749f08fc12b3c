"""Children that another version of the operator rendered: an upgrade restarts nothing, and unreadies nothing either."""

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.backends.kubernetes import written
from gemma_operator.backends.kubernetes.ownership import digest
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.render import RENDERER_VERSION
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.planner.spare import Spare
from plans import a_plan
from snapshots import ENGINE, NOW, a_running_snapshot, a_spec, said

READY = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
STARTING = {**READY, "status": "False", "reason": "StartingUp"}
ROOM = Spare(1, drained_frees_room=True)


def decided(snapshot, plan=None):
    return decide(view(snapshot, plan or a_plan(), engine=ENGINE), now=NOW)


def rendered_by_an_older_one(*, carries=None, spec=None, **status):
    """Serves as it did; what this version would render is another template. `carries`: annotations it has else."""
    snapshot = a_running_snapshot(spec=spec, status=status, spare=ROOM)
    older = tuple(
        replace(
            child,
            annotations={**child.annotations, names.RENDERER_VERSION: "older", **(carries or {})},
            owned_hash="x",
            intent="its own",
        )
        if child.kind == "Deployment"
        else child
        for child in snapshot.children
    )
    pods = tuple(replace(each, intent="its own") for each in snapshot.replicas)
    return replace(snapshot, children=older, replicas=pods)


def edited(snapshot, **spec):
    """The user changed the spec since."""
    return replace(snapshot, deployment=a_spec(**spec), generation=2)


def test_an_upgrade_of_the_operator_touches_nothing_and_says_so():
    snapshot = rendered_by_an_older_one(conditions=[READY])
    decision = decided(snapshot)
    assert decision.policy == "update_available"
    assert (decision.apply, decision.delete) == ((), ())
    assert said(decision)["Planned"] == ("True", "UpdateAvailable")
    refreshed = replace(snapshot, annotations={names.REFRESH_REQUESTED_AT: "now"})
    assert decided(refreshed).policy == "provision"


def test_what_was_ready_under_an_older_operator_stays_so_and_rolls_nowhere():
    conditions = said(decided(rendered_by_an_older_one(conditions=[READY])))
    assert (conditions["Ready"], conditions["Healthy"]) == (("True", "Serving"), ("True", "Serving"))
    assert conditions["Provisioned"][0] == "True"
    assert {"Reconciling", "Stalled"}.isdisjoint(conditions)


@pytest.mark.parametrize(
    "conditions",
    [[], [{**READY, "observedGeneration": 0}], [{**READY, "status": "False", "reason": "UpdateAvailable"}]],
    ids=["lost", "of an older generation", "of a version before"],
)
def test_an_upgrade_alone_unreadies_nothing_whatever_the_status_holds(conditions):
    decision = decided(rendered_by_an_older_one(conditions=conditions))
    assert (decision.policy, decision.apply, decision.merge) == ("update_available", (), ())
    assert said(decision)["Ready"] == ("True", "Serving")


def test_a_rollout_that_the_upgrade_came_into_is_told_as_it_began():
    """The Deployment goes on with it, whoever rendered it, and the way is the one that stands there."""
    snapshot = rendered_by_an_older_one(spec={"replicas": 2}, carries={names.ROLLOUT: "Surge/Room"})
    first, second = snapshot.replicas
    decision = decided(replace(snapshot, replicas=(first, replace(second, intent="before"))))
    ready = next(each for each in decision.conditions if each.type == "Ready")
    assert (decision.apply, decision.merge) == ((), ())
    assert said(decision)["Reconciling"] == ("True", "RollingOut")
    assert ready.message.startswith("surge: ")


@pytest.mark.parametrize("healthy", ["True", "False"])
def test_in_the_middle_of_a_rollout_the_older_replica_is_asked_before_it_is_called_ill(healthy):
    rolling = {**READY, "status": "False", "reason": "RollingOut"}
    stands = {**READY, "type": "Healthy", "status": healthy}
    snapshot = rendered_by_an_older_one(conditions=[rolling, stands])
    (pod,) = snapshot.replicas
    unasked = replace(snapshot, replicas=(replace(pod, intent="before"),), facts={})
    assert (decided(unasked).status is None) is (healthy == "True")


def test_a_status_that_was_lost_is_said_again():
    status = decided(rendered_by_an_older_one()).status
    assert status.endpoint["url"].endswith(":8000/v1")
    assert (status.plan["variant"], status.ready_replicas) == (a_plan().variant, 1)


def test_what_is_not_ready_there_is_being_worked_on_as_everywhere():
    conditions = said(decided(replace(rendered_by_an_older_one(conditions=[STARTING]), facts={})))
    assert (conditions["Ready"], conditions["Reconciling"]) == (("False", "NotProved"), ("True", "NotProved"))


@pytest.mark.parametrize(
    "spec",
    [
        {"serving": {"engine": {"env": [{"name": "VLLM_LOGGING_LEVEL", "value": "DEBUG"}]}}},
        {"serving": {"engine": {"extraArgs": ["--enable-log-requests"]}}},
        {"pod": {"labels": {"cost-centre": "42"}}},
        {"rollout": {"drainSeconds": 5}},
        {"access": {"allowedNamespaces": ["team-b"]}},
        {"serving": {"modelName": "chat-2"}, "replicas": 2},
    ],
    ids=["env", "extraArgs", "pod", "rollout", "access", "with a scale"],
)
@pytest.mark.parametrize(
    "before", [READY, {**READY, "observedGeneration": 2}], ids=["unsaid", "said already"]
)
def test_a_change_that_the_planner_does_not_read_is_taken_up_at_once(spec, before):
    """Also where something was said of that generation already: an apply that was refused says much."""
    snapshot = edited(rendered_by_an_older_one(conditions=[before]), **spec)
    decision = decided(snapshot)
    assert decision.policy == "provision"
    applied = next(each for each in decision.apply if each["kind"] == "Deployment")
    assert applied["metadata"]["annotations"][names.RENDERER_VERSION] == RENDERER_VERSION


def test_a_change_that_is_taken_back_leaves_it_alone_again():
    snapshot = rendered_by_an_older_one(conditions=[READY])
    assert decided(edited(snapshot, pod={"labels": {"cost-centre": "42"}})).policy == "provision"
    assert decided(replace(edited(snapshot), generation=3)).policy == "update_available"


def test_a_plan_that_was_made_anew_is_taken_up():
    """Asked for, or since its pool went, or its engine refused to start for want of memory: the inputs are the same."""
    snapshot = rendered_by_an_older_one(conditions=[READY])
    assert decided(snapshot, a_plan(correction_mib=512)).policy == "provision"


def test_what_does_not_tell_what_it_was_made_from_is_made_again():
    snapshot = rendered_by_an_older_one(conditions=[READY])
    silent = tuple(
        replace(
            child,
            annotations={k: v for k, v in child.annotations.items() if not k.startswith(names.SPEC_HASH)},
        )
        for child in snapshot.children
    )
    assert decided(replace(snapshot, children=silent)).policy == "provision"


def test_a_scale_leaves_the_template_to_who_rendered_it():
    decision = decided(edited(rendered_by_an_older_one(conditions=[READY]), replicas=2))
    (merged,) = decision.merge
    assert decision.policy == "adopt_or_scale"
    assert (merged["spec"], merged["metadata"]["uid"]) == ({"replicas": 2}, "uid-of-Deployment")
    assert [each["kind"] for each in decision.apply] == ["PodDisruptionBudget"]
    assert said(decision)["Reconciling"][0] == "True"


def test_a_scale_to_one_takes_the_budget_away():
    spec = {"replicas": 2}
    decision = decided(edited(rendered_by_an_older_one(spec=spec, conditions=[READY]), replicas=1))
    assert [each["spec"] for each in decision.merge] == [{"replicas": 1}]
    assert (decision.apply, [each.kind for each in decision.delete]) == ((), ["PodDisruptionBudget"])


def test_a_scale_waits_for_no_answer_of_the_replicas():
    snapshot = edited(rendered_by_an_older_one(conditions=[{**READY, "observedGeneration": 2}]), replicas=2)
    decision = decided(replace(snapshot, facts={}))
    assert (decision.status, len(decision.merge)) == (None, 1)


def test_a_scale_that_is_done_is_not_done_again():
    """What is compared is what was asked for: an autoscaler of somebody else on the Deployment is not fought."""
    done = rendered_by_an_older_one(conditions=[READY], carries={names.SPEC_REPLICAS: "2"})
    assert decided(edited(done, replicas=2)).policy == "update_available"


def test_what_lost_its_owner_gets_it_back_and_keeps_its_template():
    """After a restore or `--cascade=orphan`; else nobody would collect it with its GemmaDeployment."""
    snapshot = rendered_by_an_older_one()
    orphans = tuple(
        replace(child, controller_uid="", controller_kind="", controller_name="")
        for child in snapshot.children
    )
    decision = decided(replace(snapshot, children=orphans))
    (merged,) = decision.merge
    assert [owner["uid"] for owner in merged["metadata"]["ownerReferences"]] == [snapshot.uid]
    assert ("spec" in merged, "annotations" in merged["metadata"]) == (False, False)
    assert [each["kind"] for each in decision.apply] == ["ServiceAccount", "Service", "NetworkPolicy"]
    assert said(decision)["Ready"] == ("True", "Serving")


def test_only_what_the_server_fills_in_is_left_out_of_the_hash():
    """A default that a later CRD brought would change each hash, and an upgrade alone would restart every engine."""
    assert {
        name
        for name, field in GemmaDeploymentSpec.model_fields.items()
        if "x-crd-default" in str(field.json_schema_extra) + str(field.metadata)
    } == written.APART


def test_the_hash_is_of_what_was_written_and_not_of_defaults():
    """A later version may have other defaults, and more of them; the figure is what this version writes."""
    (carried,) = {
        written.as_annotations(a_spec(**spec).spec)[names.SPEC_HASH]
        for spec in ({}, {"replicas": 3}, {"replicas": 1, "suspend": False})
    }
    assert carried == "44136fa355b3678a"
    assert digest({}) == carried


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
