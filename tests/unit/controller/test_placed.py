"""Whose plan is a claim: the Deployment's, else the status'; nobody's who runs nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.placed import placed
from gemma_operator.planner.plan import to_annotation
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import a_child, a_replica
from unit.controller.builders import a_gd

CARRIED, TOLD = a_plan(reason="carried"), a_plan(reason="told")


def a_bearer(plan, kind="Deployment"):
    metadata = {"name": "chat", "annotations": {names.PLAN: to_annotation(plan)}}
    return a_child({"kind": kind, "metadata": metadata}, owned_hash="x")


def caches(*children, pods=()):
    def table(kind):
        mine = {("team", child.name): child for child in children if child.kind == kind}
        return SimpleNamespace(get=lambda namespace, name: mine.get((namespace, name)))

    seen = [SimpleNamespace(replica=pod) for pod in pods]
    return SimpleNamespace(
        children={kind: table(kind) for kind in ("Service", "Deployment")},
        pods=SimpleNamespace(by=lambda key: seen if key.name == "chat" else []),
    )


def found(*objects, children=(), told=None, pods=()):
    return list(
        placed(
            objects,
            caches=caches(*children, pods=pods),
            inputs=InputsOf(OperatorSettings()),
            plan_from_status=lambda _obj: told,
        )
    )


def test_the_deployments_plan_comes_before_the_status():
    (only,) = found(a_gd(replicas=3), children=[a_bearer(CARRIED)], told=TOLD)
    assert (only.key, only.plan, only.replicas) == (Key("team", "chat"), CARRIED, 3)
    assert only.node_selector == ()


def test_the_status_speaks_where_no_deployment_carries_a_plan():
    assert [each.plan for each in found(a_gd(), told=TOLD)] == [TOLD]
    assert [each.plan for each in found(a_gd(), children=[a_bearer(CARRIED, "Service")], told=TOLD)] == [TOLD]


def test_a_claim_is_for_the_nodes_that_the_spec_selects():
    (only,) = found(a_gd(hardware={"nodeSelector": {"zone": "a"}}), told=TOLD)
    assert only.node_selector == (("zone", "a"),)


@pytest.mark.parametrize(
    "obj",
    [
        a_gd(suspend=True),
        a_gd(replicas=0),
        a_gd(replicas="many"),
        a_gd(metadata={"deletionTimestamp": "2026-11-25T09:00:00Z"}),
    ],
    ids=["suspended", "at zero", "unreadable", "being deleted"],
)
def test_who_runs_nothing_claims_nothing(obj):
    assert found(obj, children=[a_bearer(CARRIED)], told=TOLD) == []


def test_who_has_no_plan_claims_nothing():
    assert found(a_gd()) == []


def test_each_has_its_own():
    others = [a_gd("a"), a_gd("b", suspend=True), a_gd("c", replicas=2)]
    assert [(each.key.name, each.replicas) for each in found(*others, told=TOLD)] == [("a", 1), ("c", 2)]


def test_pods_that_exist_are_counted_and_those_that_a_gate_holds():
    pods = [
        a_replica(name="bound"),
        a_replica(name="gated", gated=True, node="", phase="Pending"),
        a_replica(name="going", terminating=True),
        a_replica(name="refused", phase="Failed"),
    ]
    (claim,) = found(a_gd("chat", replicas=4), told=TOLD, pods=pods)
    assert (claim.made, claim.gated) == (2, 1)


@pytest.mark.parametrize(
    ("way", "intents", "claimed"),
    [
        ("Surge/Room", ("old", "old"), 3),
        ("Surge/Room", ("old", "new", "new"), 3),
        ("Surge/Room", ("new", "new"), 2),
        ("Replace/NoRoom", ("old", "new"), 2),
        ("", ("old", "old"), 2),
    ],
)
def test_a_surge_claims_one_replica_more_until_no_older_one_is_left(way, intents, claimed):
    bearer = a_bearer(CARRIED)
    bearer = replace(bearer, intent="new", annotations={**bearer.annotations, names.ROLLOUT: way})
    pods = [a_replica(f"chat-{place}", intent=intent) for place, intent in enumerate(intents)]
    (claim,) = found(a_gd("chat", replicas=2), children=[bearer], pods=pods)
    assert claim.replicas == claimed
