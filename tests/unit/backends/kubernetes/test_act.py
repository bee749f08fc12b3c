"""A decision is sent whole, in order, and not twice."""

import re
from dataclasses import replace

import pytest

from gemma_operator.api import conditions
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.decision import Decision, Event, ObjectRef, StatusFields
from gemma_operator.backends.kubernetes.act import Act
from gemma_operator.backends.kubernetes.answers import Answers
from gemma_operator.backends.kubernetes.ownership import manifest_hash
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.errors import ApiError, Conflict, Forbidden, NotFound, Rejected, Unreachable
from plans import a_plan
from snapshots import NOW, UID, a_child, a_placement, a_snapshot, manifests_for


class Server:
    """Answers as the API server does: what is applied is owned. `refuse` maps a kind to an error."""

    def __init__(self, *, standing=None, refuse=None, adds=None):
        self.calls = []
        self.standing = standing or {}
        self.refuse = refuse or {}
        self.adds = adds or {}

    async def apply(self, manifest, *, uid=""):
        self.calls.append(("apply", manifest["kind"], uid))
        if error := self.refuse.get(manifest["kind"]):
            raise error
        return stored({**manifest, **self.adds})

    async def put_back(self, manifest, *, uid):
        self.calls.append(("put back", manifest["kind"], uid))
        return stored(manifest)

    async def merge(self, manifest):
        self.calls.append(("merge", manifest["kind"], manifest["metadata"]["uid"]))
        if error := self.refuse.get(f"merge {manifest['kind']}"):
            raise error
        return manifest

    async def apply_status(self, manifest):
        self.calls.append(("status", manifest["status"]))
        if error := self.refuse.get("status"):
            raise error
        return {**manifest, "status": {**manifest["status"], **self.adds}}

    async def delete(self, kind, *, namespace, name, uid):
        self.calls.append(("delete", kind, uid))
        if error := self.refuse.get(f"delete {kind}"):
            raise error

    async def read(self, kind, *, namespace, name):
        self.calls.append(("read", kind))
        if kind not in self.standing:
            raise NotFound(kind, status=404)
        return self.standing[kind]

    async def post_event(self, event):
        self.calls.append(("event", event))
        if error := self.refuse.get("Event"):
            raise error

    @property
    def verbs(self):
        return [call[0] for call in self.calls]

    @property
    def statuses(self):
        return [call[1] for call in self.calls if call[0] == "status"]


def fields_of(value):
    return {f"f:{key}": fields_of(below) for key, below in value.items()} if isinstance(value, dict) else {}


def stored(manifest):
    owned = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: manifest["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    entry = {
        "manager": "gemma-operator",
        "operation": "Apply",
        "fieldsV1": fields_of({**owned, "metadata": metadata}),
    }
    server = {"uid": f"uid-of-{manifest['kind']}", "resourceVersion": "11", "managedFields": [entry]}
    return {**manifest, "metadata": {**manifest["metadata"], **server}}


MANIFESTS = manifests_for()
READY = conditions.ready(Reason.SERVING, "1 of 1 replicas are proved")
DECISION = Decision(policy="provision", apply=MANIFESTS, conditions=(READY,), status=StatusFields(replicas=1))


async def act(decision, *, server, snapshot=None, answers=None):
    return await Act(server, instance="test", window_seconds=600, answers=answers).act(
        decision, snapshot or a_snapshot(), now=NOW
    )


async def test_children_are_applied_in_their_order_and_the_status_comes_last():
    server = Server()
    outcome = await act(DECISION, server=server)
    assert [call[1] for call in server.calls[:-1]] == [manifest["kind"] for manifest in MANIFESTS]
    assert server.verbs[-1] == "status"
    assert outcome.writes == len(MANIFESTS) + 1


async def test_a_known_child_is_applied_by_its_uid_and_a_new_one_without():
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    server = Server()
    await act(DECISION, server=server, snapshot=a_snapshot(children=(a_child(service),)))
    uids = {call[1]: call[2] for call in server.calls if call[0] == "apply"}
    assert uids["Service"] == "uid-of-Service"
    assert uids["Deployment"] == ""


def the_deployment(**metadata):
    return {"GemmaDeployment": {"metadata": {"uid": UID, **metadata}}}


@pytest.mark.parametrize(
    ("standing", "writes"),
    [
        ({}, False),
        (the_deployment(uid="of a namesake"), False),
        (the_deployment(deletionTimestamp="2026-11-25T09:00:00Z"), False),
        (the_deployment(), True),
    ],
    ids=["gone", "a namesake", "on its way out", "there"],
)
@pytest.mark.parametrize("how", ["lost its owner", "went"])
async def test_a_child_is_made_anew_only_for_an_object_that_still_stands(standing, writes, how):
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    orphan = a_child(service, controller_uid="", controller_kind="", controller_name="")
    children = (orphan,) if how == "lost its owner" else ()
    snapshot = a_snapshot(children=children, status={"plan": {"variant": "31B"}})
    server = Server(standing=standing)
    await act(replace(DECISION, apply=(service,)), server=server, snapshot=snapshot)
    assert ("apply" in server.verbs) is writes


def a_scale():
    """A budget is made, the number of replicas changed in a Deployment of another version, another budget removed."""
    budget = next(
        each for each in manifests_for(spec={"replicas": 2}) if each["kind"] == "PodDisruptionBudget"
    )
    deployment = next(each for each in MANIFESTS if each["kind"] == "Deployment")
    known = a_child(deployment)
    whose = {"name": "chat", "namespace": "team-a", "uid": known.uid}
    part = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": whose, "spec": {"replicas": 2}}
    gone = ObjectRef("PodDisruptionBudget", "chat", "uid-of-another")
    scale = replace(DECISION, apply=(budget,), merge=(part,), delete=(gone,))
    return scale, a_snapshot(children=(known,))


async def test_a_part_of_a_child_is_merged_between_what_is_made_and_what_is_removed():
    decision, snapshot = a_scale()
    server = Server()
    outcome = await act(decision, server=server, snapshot=snapshot)
    assert server.verbs == ["apply", "merge", "delete", "status"]
    assert ("merge", "Deployment", "uid-of-Deployment") in server.calls
    assert outcome.applied == ("PodDisruptionBudget/chat", "Deployment/chat")


async def test_an_owner_is_merged_only_for_an_object_that_still_stands():
    decision, snapshot = a_scale()
    orphans = tuple(replace(each, controller_uid="", controller_kind="") for each in snapshot.children)
    server = Server(standing=the_deployment(deletionTimestamp="2026-11-25T09:00:00Z"))
    await act(replace(decision, apply=()), server=server, snapshot=replace(snapshot, children=orphans))
    assert "merge" not in server.verbs


async def test_a_merge_that_is_refused_is_told_as_an_apply_is():
    decision, snapshot = a_scale()
    server = Server(refuse={"merge Deployment": Forbidden("no more than one replica", status=403)})
    with pytest.raises(Forbidden):
        await act(decision, server=server, snapshot=snapshot)
    (status,) = server.statuses
    assert any("no more than one replica" in each["message"] for each in status["conditions"])
    assert "delete" not in server.verbs


async def test_what_an_apply_cannot_mend_is_put_back_where_it_is_ours():
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    refused = {"Service": Rejected('spec.ports[1].name: Duplicate value: "http"', status=422)}
    decision = replace(DECISION, apply=(service,))
    server = Server(refuse=refused)
    await act(decision, server=server, snapshot=a_snapshot(children=(a_child(service),)))
    assert ("put back", "Service", "uid-of-Service") in server.calls
    stranger = Server(refuse=refused)
    with pytest.raises(Rejected):
        await act(decision, server=stranger)
    assert "put back" not in stranger.verbs


async def test_an_empty_decision_writes_nothing():
    server = Server()
    outcome = await act(Decision(policy="being_deleted"), server=server)
    assert (server.calls, outcome.writes) == ([], 0)


async def test_a_status_that_stands_is_not_written_again():
    server = Server()
    decision = replace(DECISION, apply=())
    await act(decision, server=server)
    outcome = await act(decision, server=server, snapshot=a_snapshot(status=server.statuses[0]))
    assert server.verbs == ["status"]
    assert not outcome.status_written


async def test_a_status_that_the_server_answered_otherwise_is_at_rest_too():
    server, answers = Server(adds={"defaulted": 1}), Answers()
    decision = replace(DECISION, apply=())
    await act(decision, server=server, answers=answers)
    stands = {**server.statuses[0], "defaulted": 1}
    await act(decision, server=server, answers=answers, snapshot=a_snapshot(status=stands))
    assert server.verbs == ["status"]


async def test_a_status_holds_generation_and_conditions_and_nothing_absent():
    server = Server()
    await act(replace(DECISION, apply=()), server=server)
    (status,) = server.statuses
    assert status["observedGeneration"] == 1
    assert status["conditions"][0]["type"] == "Ready"
    assert status["conditions"][0]["lastTransitionTime"] == "2026-11-25T09:00:00Z"
    assert (status["replicas"], status["readyReplicas"]) == (1, 0)
    assert set(status) == {"observedGeneration", "conditions", "replicas", "readyReplicas"}


async def test_every_field_of_the_status_has_its_place():
    server = Server()
    whole = StatusFields(
        replicas=2,
        ready_replicas=1,
        selector="a=b",
        plan={"variant": "31B"},
        alternatives=[{"code": "NoRoom"}],
        endpoint={"url": "http://chat/v1"},
        measured={"kvCacheTokens": 1},
        startup=[{"phase": "Load", "seconds": 9}],
        last_handled_replan_at="replan",
        last_handled_refresh_at="refresh",
    )
    await act(replace(DECISION, apply=(), conditions=(), status=whole), server=server)
    assert server.statuses == [
        {
            "observedGeneration": 1,
            "replicas": 2,
            "readyReplicas": 1,
            "selector": "a=b",
            "plan": {"variant": "31B"},
            "alternatives": [{"code": "NoRoom"}],
            "endpoint": {"url": "http://chat/v1"},
            "measured": {"kvCacheTokens": 1},
            "startup": [{"phase": "Load", "seconds": 9}],
            "lastHandledReplanAt": "replan",
            "lastHandledRefreshAt": "refresh",
        }
    ]


async def test_the_server_answers_what_was_sent_and_nothing_is_remembered():
    acting = Act(Server(), instance="test", window_seconds=600)
    await acting.act(DECISION, a_snapshot(), now=NOW)
    assert acting.answers() == {}


async def test_a_child_that_a_webhook_changed_is_remembered_as_it_stands():
    acting = Act(Server(adds={"injected": True}), instance="test", window_seconds=600)
    await acting.act(DECISION, a_snapshot(), now=NOW)
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    sent, stood = acting.answers()["uid-of-Service"]
    assert sent == manifest_hash(service)
    assert stood != sent


async def test_a_memory_goes_with_its_object():
    server, answers = Server(), Answers()
    answers.note("uid-1", sent="a", stood="b")
    gone = Decision(policy="provision", delete=(ObjectRef("Service", "chat", "uid-1"),))
    await act(gone, server=server, answers=answers)
    assert answers.view() == {}


async def test_a_surplus_child_is_deleted_by_its_uid():
    server = Server()
    await act(Decision(policy="provision", delete=(ObjectRef("Service", "chat", "uid-1"),)), server=server)
    assert server.calls == [("delete", "Service", "uid-1")]


@pytest.mark.parametrize("error", [NotFound("gone", status=404), Conflict("another", status=409)])
async def test_what_went_before_it_was_deleted_is_no_error(error):
    server = Server(refuse={"delete Service": error})
    outcome = await act(
        Decision(policy="provision", delete=(ObjectRef("Service", "chat", "uid-1"),)), server=server
    )
    assert outcome.deleted == ("Service/chat",)


async def test_a_namesake_in_the_place_of_a_child_is_a_conflict():
    immutable = Rejected("apply: 422 metadata.uid: Invalid value: field is immutable", status=422)
    with pytest.raises(Conflict):
        await act(DECISION, server=Server(refuse={"Service": immutable}))


async def test_what_was_asked_for_is_not_done_where_an_apply_is_refused():
    """The next try is of what was asked for, and not of what stands."""
    before = {"lastHandledReplanAt": "monday"}
    asked = StatusFields(last_handled_replan_at="today", last_handled_refresh_at="today")
    server = Server(refuse={"Deployment": Forbidden("exceeded quota: gpus", status=403)})
    with pytest.raises(Forbidden):
        await act(replace(DECISION, status=asked), server=server, snapshot=a_snapshot(status=before))
    (said,) = server.statuses
    assert said["lastHandledReplanAt"] == "monday"
    assert "lastHandledRefreshAt" not in said


@pytest.mark.parametrize(
    ("error", "reason", "verdict"),
    [
        (
            Forbidden('not allowed to apply services: cannot patch resource "services"', status=403),
            "Forbidden",
            "Stalled",
        ),
        (Forbidden("apply deployments: exceeded quota: gpus", status=403), "QuotaExceeded", "Reconciling"),
        (Rejected("admission webhook said no", status=400), "AdmissionDenied", "Stalled"),
        (
            ApiError('apply services: 500 failed calling webhook "a.b"', status=500),
            "AdmissionDenied",
            "Reconciling",
        ),
        (Rejected("spec.replicas: Invalid value", status=422), "AdmissionDenied", "Stalled"),
    ],
)
async def test_a_child_that_is_refused_is_said_in_the_status_and_tried_again(error, reason, verdict):
    server = Server(refuse={"Service": error})
    with pytest.raises(type(error)):
        await act(DECISION, server=server)
    said = {condition["type"]: condition for condition in server.statuses[0]["conditions"]}
    assert (said["Provisioned"]["status"], said["Provisioned"]["reason"]) == ("False", reason)
    assert said[verdict]["reason"] == reason
    assert str(error) in said[verdict]["message"]
    assert {"Stalled", "Reconciling"} & set(said) == {verdict}
    assert said["Ready"]["status"] == "True"


async def test_a_ready_that_is_on_its_way_says_what_holds_it_up():
    rolling = conditions.not_ready(Reason.ROLLING_OUT, "surge: 1 spare nvidia-l4")
    denied = Rejected('admission webhook "a.b" denied the request: no', status=400)
    server = Server(refuse={"Deployment": denied})
    with pytest.raises(Rejected):
        await act(replace(DECISION, conditions=(rolling,)), server=server)
    (ready,) = [each for each in server.statuses[0]["conditions"] if each["type"] == "Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "AdmissionDenied")


async def test_in_a_namespace_on_its_way_out_there_is_nothing_to_say():
    going = Forbidden(
        "apply services: 403 unable to create: namespace team-a is being terminated", status=403
    )
    server = Server(refuse={"Service": going})
    outcome = await act(DECISION, server=server)
    assert (outcome.writes, server.statuses) == (0, [])


async def test_after_a_refusal_nothing_more_is_applied():
    server = Server(refuse={"Service": Forbidden("no", status=403)})
    with pytest.raises(Forbidden):
        await act(DECISION, server=server)
    assert [call[1] for call in server.calls if call[0] == "apply"] == ["ServiceAccount", "Service"]


async def test_an_object_that_went_needs_no_status():
    server = Server(refuse={"status": NotFound("gone", status=404)})
    outcome = await act(replace(DECISION, apply=()), server=server)
    assert not outcome.status_written


SPOKEN = replace(DECISION, apply=(), events=(Event("Normal", "Serving", "m" * 2000),))


async def test_a_change_of_state_gives_one_event():
    server = Server()
    await act(SPOKEN, server=server)
    (event,) = [call[1] for call in server.calls if call[0] == "event"]
    assert event["regarding"] == {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "GemmaDeployment",
        "namespace": "team-a",
        "name": "chat",
        "uid": UID,
    }
    assert event["metadata"]["namespace"] == "team-a"
    assert event["metadata"]["name"].startswith("chat.")
    assert (event["reason"], event["type"], event["reportingInstance"]) == ("Serving", "Normal", "test")
    assert len(event["note"]) == 1024
    assert event["eventTime"] == "2026-11-25T09:00:00.000000Z"


@pytest.mark.parametrize("name", ["x" * 253, "x" * 236 + "-" + "x" * 16, "x.y" * 84])
async def test_an_event_about_the_longest_name_in_any_script_is_one_that_the_server_takes(name):
    server = Server()
    told = Event("Warning", "ProbeFailed", "说" * 500)
    snapshot = a_snapshot(key=Key("team-a", name))
    await act(replace(DECISION, apply=(), events=(told,)), server=server, snapshot=snapshot)
    (event,) = [call[1] for call in server.calls if call[0] == "event"]
    assert re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", event["metadata"]["name"]
    )
    assert len(event["metadata"]["name"]) <= 253
    assert 1000 < len(event["note"].encode()) <= 1024


async def test_an_event_holds_no_secret():
    told = Event("Warning", "CrashLoop", f"it said: Bearer hf_{'x' * 34}; see its log")
    server = Server()
    await act(replace(DECISION, events=(told,)), server=server)
    (note,) = [call[1]["note"] for call in server.calls if call[0] == "event"]
    assert "hf_x" not in note
    assert note.endswith("; see its log")


async def test_changes_of_two_kinds_give_an_event_each():
    server = Server()
    both = replace(SPOKEN, events=(*SPOKEN.events, Event("Warning", "PredictionOff", "less")))
    await act(both, server=server)
    events = [call[1] for call in server.calls if call[0] == "event"]
    assert [event["reason"] for event in events] == ["Serving", "PredictionOff"]
    assert len({event["metadata"]["name"] for event in events}) == 2


async def test_no_event_without_a_change_of_status():
    server = Server()
    await act(SPOKEN, server=server)
    await act(SPOKEN, server=server, snapshot=a_snapshot(status=server.statuses[0]))
    assert server.verbs == ["status", "event"]


@pytest.mark.parametrize("error", [Forbidden("no", status=403), Unreachable("away")])
async def test_a_cluster_that_takes_no_events_still_gets_its_endpoint(error):
    outcome = await act(SPOKEN, server=Server(refuse={"Event": error}))
    assert outcome.status_written


PLANNED = {"plan": a_plan(), "placement": a_placement(a_plan())}


def looked_for(**changes):
    return Act(Server(), instance="test", window_seconds=600).unknown_children(
        a_snapshot(**{**PLANNED, **changes})
    )


def test_before_anything_is_made_its_place_is_looked_at():
    assert looked_for() == ("ServiceAccount", "Service", "NetworkPolicy", "Deployment")


def test_a_budget_is_looked_for_from_two_replicas_on():
    assert "PodDisruptionBudget" in looked_for(spec={"replicas": 2})


def test_a_child_that_is_known_is_not_looked_for():
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    assert "Service" not in looked_for(children=(a_child(service),))


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": None, "placement": None},
        {"terminating": True},
        {"spec": {"suspend": True}},
        {"deployment": None},
    ],
)
def test_nothing_is_looked_for_where_nothing_will_be_made(changes):
    assert looked_for(**changes) == ()


async def test_who_stands_there_is_found_and_who_does_not_is_none():
    service = next(manifest for manifest in MANIFESTS if manifest["kind"] == "Service")
    server = Server(standing={"Service": stored(service)})
    found = await Act(server, instance="test", window_seconds=600).look_for(
        ("Service", "Deployment"), a_snapshot()
    )
    assert [(child.kind, child.uid) for child in found] == [("Service", "uid-of-Service")]
