"""A snapshot is what the tables hold of one object, and of no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.snapshot import Key, ServedAddress
from gemma_operator.controller.caches import PodSeen, Slice
from gemma_operator.planner.plan import to_annotation
from plans import a_plan
from snapshots import a_placement, a_replica, proved
from unit.controller.builders import a_gd
from unit.controller.tables import CHILD, Tables, a_kind

PLAN = a_plan()


@pytest.fixture
def tables():
    return Tables()


def test_what_the_object_says_of_itself(tables):
    obj = a_gd(
        "Llm.v2",
        generation=3,
        status={"observedGeneration": 2},
        metadata={"annotations": {"a": "b"}, "resourceVersion": "77"},
    )
    seen = tables.seen(obj)
    assert (seen.key, seen.uid, seen.generation) == (Key("team", "Llm.v2"), "uid-Llm.v2", 3)
    assert (seen.resource_version, seen.created_at) == ("77", "2026-11-25T08:00:00Z")
    assert (seen.annotations, seen.status, seen.terminating) == ({"a": "b"}, {"observedGeneration": 2}, False)
    assert seen.deployment.metadata.name == "Llm.v2"
    assert (seen.spec_error, seen.unknown_arguments) == ("", ())
    assert seen.inputs_hash
    assert seen.settings.probe_period_seconds == 7
    assert seen.schema_gaps == ("Llm.v2",)
    assert seen.living_uids == {"living in team"}
    assert seen.answers == {"uid": ("a", "b")}


def test_an_object_without_anything_around_it(tables):
    seen = tables.seen()
    assert (seen.children, seen.replicas, seen.served, seen.facts) == ((), (), (), {})
    assert (seen.plan, seen.placement, seen.status, seen.annotations) == (None, None, {}, {})
    assert seen.plan_possible


def test_an_object_on_its_way_out_and_one_that_cannot_be_read(tables):
    assert tables.seen(a_gd("Llm.v2", metadata={"deletionTimestamp": "now"})).terminating
    unreadable = tables.seen(a_gd("Llm.v2", replicas="many"))
    assert unreadable.deployment is None
    assert "spec.replicas" in unreadable.spec_error


def test_children_stand_under_the_childrens_name(tables):
    tables.children = {kind: a_kind(kind) for kind in ("Service", "PodDisruptionBudget")}
    assert {child.kind for child in tables.seen().children} == {"Service", "PodDisruptionBudget"}


def test_a_stranger_that_was_found_is_a_child_only_where_the_tables_have_none(tables):
    tables.children = {"Service": a_kind("Service")}
    strangers = [replace(a_kind(kind), uid=f"strange {kind}") for kind in ("Service", "Deployment")]
    seen = tables.seen(foreign=strangers)
    assert {child.kind: child.uid for child in seen.children} == {
        "Service": "uid-of-Service",
        "Deployment": "strange Deployment",
    }


def test_replicas_are_its_own_pods_in_the_order_of_their_names(tables):
    theirs = PodSeen(record=None, replica=a_replica("other-0"), owner=Key("team", "other"))
    nobodys = PodSeen(record=None, replica=None, owner=CHILD)
    mine = [PodSeen(record=None, replica=a_replica(name), owner=CHILD) for name in ("b", "a")]
    tables.pods = [(pod.owner, pod) for pod in (theirs, nobodys, *mine)]
    assert [replica.name for replica in tables.seen().replicas] == ["a", "b"]


def test_facts_are_of_its_replicas_and_only_known_ones(tables):
    pods = [a_replica("a"), a_replica("b")]
    tables.pods = [(CHILD, PodSeen(record=None, replica=pod, owner=CHILD)) for pod in pods]
    tables.facts = {pods[0].uid: proved(pods[0]), "another": proved(pods[1])}
    assert tables.seen().facts == {pods[0].uid: tables.facts[pods[0].uid]}


def test_what_is_served_is_what_all_slices_of_its_service_hold(tables):
    one, two, other = (ServedAddress(uid, 8000, True) for uid in ("one", "two", "other"))
    tables.slices = [
        (CHILD, Slice(CHILD, (one,))),
        (CHILD, Slice(CHILD, (two,))),
        (Key("team", "other"), Slice(Key("team", "other"), (other,))),
    ]
    assert tables.seen().served == (one, two)


def test_placement_is_asked_for_the_object_and_not_for_its_children(tables):
    tables.placements = {Key("team", "Llm.v2"): a_placement(), CHILD: a_placement(PLAN)}
    assert tables.seen().placement == a_placement()


def test_the_plan_is_the_deployments_else_the_status(tables):
    tables.status_plan = a_plan(reason="of the status")
    assert tables.seen().plan.reason == "of the status"
    tables.children = {"Service": a_kind("Service", **{names.PLAN: to_annotation(PLAN)})}
    assert tables.seen().plan.reason == "of the status", "a Service carries no plan"
    tables.children = {"Deployment": a_kind("Deployment", **{names.PLAN: to_annotation(PLAN)})}
    assert tables.seen().plan == PLAN
    tables.children = {"Deployment": a_kind("Deployment", **{names.PLAN: "{}"})}
    assert tables.seen().plan.reason == "of the status", "what cannot be read is no plan"


@pytest.mark.parametrize(
    ("known", "replicas", "possible"),
    [
        (True, [], True),
        (False, [], False),
        (False, [a_replica("bound")], True),
        (False, [a_replica("unbound", node="")], False),
        (False, [a_replica("leaving", terminating=True)], False),
    ],
    ids=["pool known", "pool gone", "bound", "not bound", "on its way out"],
)
def test_a_plan_is_possible_while_its_pool_is_known_or_a_replica_is_bound(tables, known, replicas, possible):
    tables.status_plan = PLAN
    tables.known = known
    tables.pods = [(CHILD, PodSeen(record=None, replica=pod, owner=CHILD)) for pod in replicas]
    assert tables.seen().plan_possible is possible


def test_without_a_plan_nothing_is_impossible(tables):
    tables.known = False
    assert tables.seen().plan_possible
