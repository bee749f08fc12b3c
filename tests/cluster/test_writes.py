"""How often the operator writes, from the API server's audit log: each write more than needed is a defect."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from cluster.teams import CHILDREN, a_deployment
from cluster.waiting import throughout, until

pytestmark = pytest.mark.cluster

_STATUS_MAX_BYTES = 8192
_AT_REST_SECONDS = 60
#: What is said of a start, one after the other.
_PHASES = (
    "its pods are made",
    "waits for a node",
    "waits for its image",
    "waits for its weights",
    "loads",
    "is asked for a token",
    "waits for its Service",
    "serves",
)


@pytest.fixture(scope="module")
def settled(installed, one_operator, new_team):
    """Three deployments that became Ready, and what that cost."""
    one_operator.ensure_running()
    team = new_team()
    pools = [team.pool("l4", nodes=4)]
    team.apply(a_deployment("one", hardware={"pools": pools}))
    team.apply(a_deployment("two", hardware={"pools": pools}, replicas=2))
    team.apply(a_deployment("off", hardware={"pools": pools}, suspend=True))
    team.apply(
        a_deployment("big", hardware={"pools": pools}, model={"variants": ["31B"], "precisions": ["bf16"]})
    )
    for name in ("one", "two"):
        team.ready(name)
    until(
        lambda: all("conditions" in gd["status"] for gd in team.all("GemmaDeployment")), what="all are said"
    )
    return team


def _of(writes, name):
    return [write for write in writes if write.name == name or write.name.startswith(f"{name}.")]


@pytest.mark.parametrize(
    ("name", "replicas", "children"), [("one", 1, CHILDREN), ("two", 2, (*CHILDREN, "PodDisruptionBudget"))]
)
def test_until_ready_each_child_is_applied_once_and_the_status_once_a_phase(
    settled, figure, name, replicas, children
):
    writes = _of(settled.writes(), name)
    count = Counter(write.kind for write in writes)
    figure(f"writes until {name!r} was Ready: {dict(count)}")
    assert {kind: count[kind] for kind in children} == dict.fromkeys(children, 1)
    # each change of state may be seen on its own, and is where a machine is slow: no more of them than these
    assert count["status"] <= len(_PHASES) + 3 * (replicas - 1), (
        f"{_PHASES} of the replica that is furthest behind; each other one made, bound and proved"
    )
    assert count["Event"] <= count["status"]
    assert set(count) <= {*children, "status", "Event"}
    assert [write.code for write in writes if write.code >= 400] == []


def test_what_is_suspended_or_fits_nowhere_costs_one_status(settled):
    for name in ("off", "big"):
        assert Counter(write.kind for write in _of(settled.writes(), name))["status"] == 1


def test_one_event_a_change_of_state(settled):
    for name in ("one", "two"):
        reasons = [event["reason"] for event in settled.events(name)]
        assert reasons[-1] == "Serving"
        assert all(before != after for before, after in itertools.pairwise(reasons))


def test_a_status_is_small_and_holds_no_float(settled):
    for deployment in settled.all("GemmaDeployment"):
        text = json.dumps(deployment["status"])
        assert len(text) <= _STATUS_MAX_BYTES
        assert not any(isinstance(value, float) for value in _values(json.loads(text)))


def _values(value):
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        yield value
        return
    for inner in value:
        yield from _values(inner)


def test_a_restart_writes_nothing(settled, one_operator):
    since = settled.audit.position
    one_operator.restart()
    _until_probed(settled, one_operator)
    assert [str(write) for write in settled.writes(since=since)] == []


def _until_probed(team, operator):
    """Every replica was asked by this process, so it has said whatever it would say."""
    wanted = {"one": 1, "two": 2}

    def proved():
        lines = operator.metrics().splitlines()
        return all(
            f'gemma_deployment_replicas{{name="{name}",namespace="{team.namespace}",state="proved"}} {count}.0'
            in lines
            for name, count in wanted.items()
        )

    until(proved, what="the new process has proofs of its own")


def test_at_rest_nothing_is_written(settled, one_operator):
    """For 60 seconds, in any namespace, the Lease aside."""
    one_operator.ensure_running()
    since = settled.audit.position
    throughout(
        lambda: settled.audit.writes(since=since) == [],
        what="a write at rest",
        seconds=_AT_REST_SECONDS,
    )


def test_an_edit_that_changes_no_template_is_noted_once_and_moves_no_pod(settled, one_operator):
    """The Deployment tells which spec it was rendered from: a write to its annotations, and none to its spec."""
    one_operator.ensure_running()
    since, before = settled.audit.position, settled.get("Deployment", "one")
    pods = {pod["metadata"]["uid"] for pod in settled.pods("one")}
    settled.change("one", {"placement": {"capacityTimeoutSeconds": 3600}})
    settled.ready("one")
    assert settled.get("Deployment", "one")["spec"] == before["spec"]
    assert {pod["metadata"]["uid"] for pod in settled.pods("one")} == pods

    def written():
        return [str(write) for write in settled.writes(since=since)]

    until(lambda: "apply status one" in written(), what="the status is in the log")
    assert written() == ["apply Deployment one", "apply status one"]
