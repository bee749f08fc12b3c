"""What is known of weights that a Job brings or looks at, and what waits for them."""

import json
from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes import unmade_jobs
from gemma_operator.backends.kubernetes.contests import Contest
from gemma_operator.backends.kubernetes.differences import Changed
from gemma_operator.backends.kubernetes.failures.hub import SPOKEN, read_word
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.render import pod_intent
from gemma_operator.backends.kubernetes.snapshot import ServedAddress, WeightsPod
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.backends.kubernetes.weights import weights_of
from gemma_operator.planner.spare import Spare
from plans import a_plan
from snapshots import ENGINE, NOW, a_child, a_placement, a_replica, a_snapshot, proved, said
from unit.backends.kubernetes.test_claims import a_claim

SPEC = {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}}
PLAN = a_plan()
OTHER = a_plan(repo="google/other", planned_at="2026-11-25T10:00:00Z")
COMPLETE = {"conditions": [{"type": "Complete", "status": "True"}]}
FAILED = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
GATED = json.dumps(
    {"reason": "WeightsGated", "message": "https://hub gives a/b only to those whom it let in"}
)


def snapshot(*, plan=PLAN, spec=SPEC, mode="ReadWriteMany", **changes):
    return a_snapshot(
        spec=spec,
        plan=plan,
        placement=a_placement(plan, token=""),
        claims={"w": a_claim(mode)},
        **changes,
    )


def seen(found, plan=PLAN):
    return view(found, plan, engine=ENGINE)


def a_job(status=None, *, plan=PLAN, **changes):
    made = weights_of(snapshot(plan=plan), plan).make
    return a_child(made, uid="uid-of-job", status=status or {}, **changes)


def a_try(message="", *, phase="Failed", name="chat-weights-x", job_uid="uid-of-job", **changes):
    pod = a_replica(
        name, phase=phase, ready=False, started=False, terminated_message=message, exit_code=1, **changes
    )
    return WeightsPod(job_uid, pod)


def standing(*children, **changes):
    """Everything but the Deployment was applied, and these."""
    bare = seen(snapshot(**changes))
    rest = tuple(a_child(each) for each in bare.manifests if each["kind"] != "Deployment")
    return snapshot(children=(*rest, *children), **changes)


def released(plan=PLAN, *, spec=SPEC, mode="ReadWriteMany", replicas=1, **changes):
    """A Deployment of that plan that serves, its weights found."""
    before = seen(standing(a_job(COMPLETE, plan=plan), plan=plan, spec=spec, mode=mode), plan)
    manifest = next(each for each in before.manifests if each["kind"] == "Deployment")
    intent = pod_intent(before.manifests)
    pods = tuple(a_replica(f"chat-{n}", intent=intent) for n in range(replicas))
    return (
        a_child(manifest),
        {
            "replicas": pods,
            "served": tuple(ServedAddress(pod.uid, 8000, True) for pod in pods),
            "facts": {pod.uid: proved(pod) for pod in pods},
            **changes,
        },
    )


def kinds(manifests):
    return [manifest["kind"] for manifest in manifests]


def test_the_job_comes_before_the_pods():
    found = seen(snapshot())
    assert kinds(found.pending)[-1] == "Job"
    assert "Deployment" not in kinds(found.pending)
    assert {"ServiceAccount", "NetworkPolicy"} <= set(kinds(found.pending))


def test_while_it_runs_the_status_says_where_to_look():
    decision = decide(seen(standing(a_job())), now=NOW)
    assert said(decision)["WeightsReady"] == ("False", "Downloading")
    assert said(decision)["Ready"] == ("False", "Downloading")
    assert said(decision)["Reconciling"] == ("True", "Downloading")
    assert "kubectl logs job/chat-weights" in decision.conditions[0].message
    assert decision.apply == ()


def test_when_it_is_complete_the_pods_are_made_for_these_weights():
    found = seen(standing(a_job(COMPLETE)))
    (deployment,) = found.pending
    assert deployment["kind"] == "Deployment"
    assert deployment["metadata"]["annotations"][names.WEIGHTS_KEY] == found.weights.key
    assert found.weights.condition.status == "True"


def test_a_settled_one_writes_nothing():
    deployment, pods = released()
    found = seen(standing(a_job(COMPLETE), deployment, **pods))
    assert (found.pending, found.surplus) == ((), ())
    assert said(decide(found, now=NOW))["WeightsReady"] == ("True", "WeightsPresent")
    assert said(decide(found, now=NOW))["Ready"] == ("True", "Serving")


def test_new_weights_are_brought_while_the_old_ones_serve():
    deployment, pods = released()
    found = seen(standing(a_job(COMPLETE), deployment, plan=OTHER, **pods), OTHER)
    assert [child.kind for child in found.surplus] == ["Job"]
    assert "Deployment" not in kinds(found.pending)
    decision = decide(found, now=NOW)
    assert said(decision)["Ready"] == ("False", "Downloading")
    assert said(decision)["Healthy"] == ("True", "Serving")


@pytest.mark.parametrize("what", ["replan", "refresh"])
def test_what_was_asked_for_is_not_done_before_its_weights_are_there(what):
    """Until then the Deployment carries the plan before: what counts as handled would be forgotten."""
    two = {**SPEC, "replicas": 2}
    deployment, pods = released(spec=two, replicas=2)
    annotations = {f"{names.PREFIX}{what}-requested-at": "today"}
    asked = {**pods, "spec": two, "annotations": annotations, "spare": Spare(1, drained_frees_room=True)}

    def handled(*children):
        decision = decide(seen(standing(*children, plan=OTHER, **asked), OTHER), now=NOW)
        return decision.policy, getattr(decision.status, f"last_handled_{what}_at")

    assert handled(a_job(plan=OTHER), deployment) == ("settled", None)
    assert handled(a_job(COMPLETE, plan=OTHER), deployment) == ("provision", "today")
    assert handled() == ("provision", "today"), "without a Deployment the plan stands in the status"


def test_the_old_job_goes_before_the_new_one_comes():
    going = a_job(COMPLETE, terminating=True)
    assert weights_of(snapshot(plan=OTHER, children=(going,)), OTHER).make is None
    assert weights_of(snapshot(plan=OTHER), OTHER).make is not None


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_a_volume_for_one_lets_what_served_go_before_new_weights_come(mode):
    deployment, pods = released(mode=mode)
    found = seen(standing(deployment, plan=OTHER, mode=mode, **pods), OTHER)
    drained = next(each for each in found.pending if each["kind"] == "Deployment")
    assert drained["spec"]["replicas"] == 0
    assert names.WEIGHTS_KEY not in drained["metadata"]["annotations"]
    assert "what served goes first" in found.weights.message
    again = seen(standing(a_child(drained), a_job(plan=OTHER), plan=OTHER, mode=mode), OTHER)
    assert again.pending == ()
    done = seen(standing(a_child(drained), a_job(COMPLETE, plan=OTHER), plan=OTHER, mode=mode), OTHER)
    (back,) = done.pending
    assert back["spec"]["replicas"] == 1


def test_an_edit_that_changes_no_weights_waits_for_nothing():
    deployment, pods = released(mode="ReadWriteOncePod")
    edited = a_plan(kv_tokens=1, planned_at="2026-11-25T10:00:00Z")
    found = seen(standing(a_job(COMPLETE), deployment, plan=edited, mode="ReadWriteOncePod", **pods), edited)
    assert not found.weights.holds
    (changed,) = found.pending
    assert changed["spec"]["replicas"] == 1
    assert changed["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def not_ready(reason):
    """What the status says already."""
    ready = {"type": "Ready", "status": "False", "reason": reason, "observedGeneration": 1}
    return {"observedGeneration": 1, "conditions": [ready]}


def test_a_job_that_a_clean_up_took_is_not_missed_while_the_pods_do_well():
    """ttlSecondsAfterFinished, or a policy that removes what is over: made anew each time, it would run for ever."""
    deployment, pods = released()
    found = seen(standing(deployment, **pods))
    assert (found.pending, found.surplus) == ((), ())
    assert said(decide(found, now=NOW))["Ready"] == ("True", "Serving")
    assert said(decide(found, now=NOW))["WeightsReady"] == ("True", "WeightsPresent")


@pytest.mark.parametrize(("reason", "made"), [("WeightsMissing", ["Job"]), ("StartingUp", [])])
def test_it_comes_back_where_the_pods_are_in_trouble_so_that_an_emptied_claim_is_filled_again(reason, made):
    deployment, _ = released()
    found = seen(standing(deployment, status=not_ready(reason)))
    assert kinds(found.pending) == made
    assert not found.weights.holds


def test_a_job_that_is_deleted_before_it_is_over_comes_back_ever_later_and_that_is_said():
    bare = seen(standing())
    (job,) = bare.pending
    sent = job["metadata"]["annotations"][names.APPLIED_HASH]
    known = Contest(sent, Changed(), False, gone=True, stubborn=True, wait_seconds=45, settles_seconds=0)
    found = seen(standing(contests={"Job/chat-weights": known}))
    decision = decide(found, now=NOW)
    assert (decision.apply, decision.look_again_after_seconds) == ((), 45)
    assert said(decision)["Stalled"] == ("True", "Conflict")
    assert "somebody deletes Job chat-weights" in decision.conditions[0].message
    due = seen(standing(contests={"Job/chat-weights": replace(known, wait_seconds=0)}))
    assert kinds(decide(due, now=NOW).apply) == ["Job"]


def test_why_the_last_try_failed_is_said_while_the_next_one_runs():
    found = standing(a_job(), weights_pods=(a_try(GATED), a_try(phase="Running", name="chat-weights-y")))
    decision = decide(seen(found), now=NOW)
    assert said(decision)["WeightsReady"] == ("False", "WeightsGated")
    assert said(decision)["Reconciling"] == ("True", "WeightsGated")
    assert "Stalled" not in said(decision)


@pytest.mark.parametrize(
    ("waiting", "words", "reason", "verdict"),
    [
        ("CreateContainerConfigError", 'secret "hub" not found', "SecretMissing", "Stalled"),
        ("ErrImagePull", "r.example/x:1: not found", "ImageNotFound", "Stalled"),
        ("CreateContainerError", "no such device", "CannotStart", "Reconciling"),
    ],
)
def test_what_keeps_its_pod_from_running_is_whose_move_it_is_of_an_engines_pod_too(
    waiting, words, reason, verdict
):
    waits = a_try(phase="Pending", waiting_reason=waiting, waiting_message=words, container="weights")
    decision = decide(seen(standing(a_job(), weights_pods=(waits,))), now=NOW)
    assert said(decision)["WeightsReady"] == ("False", reason)
    assert said(decision)[verdict] == ("True", reason)
    assert words in decision.conditions[0].message


def test_after_the_last_try_it_is_the_users_move():
    decision = decide(seen(standing(a_job(FAILED), weights_pods=(a_try(GATED),))), now=NOW)
    assert said(decision)["Stalled"] == ("True", "WeightsGated")
    assert names.REPLAN_REQUESTED_AT in decision.conditions[0].message
    assert len(decision.conditions[0].message) <= 512


@pytest.mark.parametrize(
    "asked",
    [{"generation": 2}, {"annotations": {names.REPLAN_REQUESTED_AT: "now"}}],
)
def test_a_failed_job_is_tried_again_when_somebody_changes_something(asked):
    failed = a_job(FAILED)
    assert weights_of(snapshot(children=(failed,)), PLAN).stale is None
    assert weights_of(snapshot(children=(failed,), **asked), PLAN).stale == failed


@pytest.mark.parametrize("status", [COMPLETE, {}])
def test_one_that_is_well_is_not_tried_again(status):
    assert weights_of(snapshot(children=(a_job(status),), generation=2), PLAN).stale is None


def test_a_try_of_an_earlier_job_says_nothing():
    old = a_try(GATED, job_uid="uid-of-an-earlier-one")
    assert weights_of(snapshot(children=(a_job(),), weights_pods=(old,)), PLAN).reason == "Downloading"


def test_a_pod_that_cannot_pull_its_image_says_so():
    pulling = a_try(phase="Pending", waiting_reason="ImagePullBackOff", waiting_message="no such image")
    told = weights_of(snapshot(children=(a_job(),), weights_pods=(pulling,)), PLAN)
    assert told.reason.value.startswith("Image")
    assert not told.final


def test_at_zero_replicas_nothing_is_brought():
    assert weights_of(snapshot(spec={**SPEC, "replicas": 0}), PLAN).make is None


def test_where_the_pods_bring_them_there_is_no_condition_and_a_left_job_goes():
    found = seen(replace(standing(a_job(COMPLETE)), deployment=snapshot(spec={}).deployment))
    assert found.weights.condition is None
    assert [child.kind for child in found.surplus] == ["Job"]


def test_only_the_scripts_own_words_are_trusted():
    assert {read_word(json.dumps({"reason": reason.value, "message": "x"}))[0] for reason in SPOKEN} == SPOKEN
    for message in (
        "",
        "no json",
        "[]",
        '{"reason": "Serving", "message": "x"}',
        '{"reason": "WeightsGated"}',
    ):
        assert read_word(message) is None


def test_the_last_line_of_a_log_does_as_well():
    assert read_word(f"weights: 1.0 of 2.0 GB\nweights: {GATED}")[0] == "WeightsGated"


def test_no_secret_gets_through():
    word = json.dumps(
        {
            "reason": "HubUnreachable",
            "message": "https://x/y?X-Amz-Signature=abcdef hf_AbCdef0123456789AbCdef0123456789Ab",
        }
    )
    told = read_word(word)[1]
    assert "abcdef" not in told.lower()


QUOTA = (
    'Error creating: pods "chat-weights-x1" is forbidden: exceeded quota: q, requested: cpu=1, limited: cpu=0'
)
DENIED = 'Error creating: admission webhook "images.example.com" denied the request: no such signature'


def test_a_job_without_a_pod_is_asked_about_again_and_one_with_a_pod_or_a_verdict_is_not():
    assert unmade_jobs.waiting(standing(a_job())) is not None
    assert decide(seen(standing(a_job())), now=NOW).look_again_after_seconds == unmade_jobs.LOOK_AGAIN_SECONDS
    for made in (
        standing(a_job(), weights_pods=(a_try(phase="Pending"),)),
        standing(a_job(COMPLETE)),
        standing(a_job(FAILED)),
        standing(a_job(terminating=True)),
        standing(a_job(controller_uid="of somebody else")),
        standing(),
    ):
        assert unmade_jobs.waiting(made) is None


@pytest.mark.parametrize(
    ("words", "reason", "final"), [(QUOTA, "QuotaExceeded", False), (DENIED, "AdmissionDenied", True)]
)
def test_why_a_job_gets_no_pod_is_said_with_whose_move_it_is(words, reason, final):
    decision = decide(seen(standing(a_job(), unmade_job=words)), now=NOW)
    assert said(decision)["WeightsReady"] == ("False", reason)
    assert said(decision)["Ready"] == ("False", reason)
    assert ("Stalled" in said(decision)) is final
    message = next(each.message for each in decision.conditions if each.type == "WeightsReady")
    assert "a pod of Job chat-weights is not made" in message
    assert "chat-weights-x1" not in message


def test_the_newest_of_several_events_counts():
    old = {"note": "old", "deprecatedLastTimestamp": "2026-11-25T08:00:00Z"}
    new = {
        "note": "new",
        "series": {"lastObservedTime": "2026-11-25T08:30:00Z"},
        "deprecatedLastTimestamp": None,
    }
    assert unmade_jobs.last_note([new, old]) == "new"
    assert unmade_jobs.last_note([]) == ""
