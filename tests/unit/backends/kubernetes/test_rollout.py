"""Which way one generation follows another, what that claims, and what is said of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from gemma_operator.api import names
from gemma_operator.api.conditions import MESSAGE_MAX_LENGTH
from gemma_operator.backends.decision import Ask
from gemma_operator.backends.kubernetes import rollout
from gemma_operator.backends.kubernetes.claims import ClaimRecord
from gemma_operator.backends.kubernetes.policies import decide
from gemma_operator.backends.kubernetes.render import pod_intent, with_rollout
from gemma_operator.backends.kubernetes.rollout import FIRST, Rollout, Way, Why
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes
from gemma_operator.backends.kubernetes.status_json import status_json
from gemma_operator.backends.kubernetes.view import view
from gemma_operator.planner.spare import Spare
from gemma_operator.probing.facts import FailureKind
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import (
    ENGINE,
    NOW,
    a_child,
    a_replica,
    a_running_snapshot,
    a_snapshot,
    a_spec,
    failing,
    manifests_for,
    proved,
    said,
)

ROOM, FULL = Spare(1, drained_frees_room=True), Spare(0, drained_frees_room=True)
ELSEWHERE = Spare(0, drained_frees_room=False)
SURGE, DRAIN = {"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": 0, "maxUnavailable": 1}


def edited(*, replicas=1, spec=None, spare=None, **changes):
    """A deployment that runs as it was, and whose new spec makes other pods."""
    running = a_running_snapshot(spec={"replicas": replicas}, **changes)
    new = {"replicas": replicas, "pod": {"labels": {"team": "blue"}}, **(spec or {})}
    return replace(running, deployment=a_spec(**new), generation=2, spare=spare)


def decided(snapshot, *, now=NOW, plan=None):
    return decide(view(snapshot, plan or a_plan(), engine=ENGINE), now=now)


def applied(decision):
    return next(each for each in decision.apply if each["kind"] == "Deployment")


def figures(decision):
    return applied(decision)["spec"]["strategy"]["rollingUpdate"]


def announced(snapshot):
    """The status as it stands once the gap was said."""
    decision = decided(snapshot)
    assert decision.policy == "announce_gap"
    stamped = replace(
        decision, conditions=tuple(replace(c, observed_generation=2) for c in decision.conditions)
    )
    return replace(snapshot, status=status_json(stamped, snapshot, now=NOW))


def message(decision):
    return next(c.message for c in decision.conditions if c.type == "Ready")


def test_room_is_looked_at_only_when_a_rollout_is_about_to_begin():
    assert decided(a_running_snapshot()).ask is Ask.NOTHING
    assert decided(edited()).ask is Ask.ROOM
    assert decided(edited(spare=ROOM)).ask is Ask.NOTHING


def test_nothing_follows_what_never_ran():
    assert rollout.chosen(a_snapshot(), intent="new", wanted=1) == FIRST
    assert rollout.chosen(a_running_snapshot(replicas=(), facts={}), intent="new", wanted=1) == FIRST


def test_an_older_pod_without_a_node_is_not_kept_until_its_successor_serves():
    waiting = a_replica(intent="older", node="", phase="Pending", ready=False, started=False)
    snapshot = edited(replicas=1)
    assert figures(decided(replace(snapshot, replicas=(waiting,), facts={}, served=()))) == DRAIN


def test_with_a_spare_replicas_room_the_new_one_comes_first():
    decision = decided(edited(spare=ROOM))
    assert figures(decision) == SURGE
    assert said(decision)["Ready"] == ("False", "RollingOut")
    assert "surge: 2 spare nvidia-h100-80gb in pool gke-nodepool/h100" in message(decision)


def test_without_room_one_replica_goes_first():
    decision = decided(edited(replicas=2, spare=FULL))
    assert decision.policy == "provision"
    assert figures(decision) == DRAIN
    assert "drained before its successor starts: no spare GPUs" in message(decision)
    assert "nothing answers" not in message(decision)


def test_a_surge_needs_room_for_what_is_missing_too():
    pods = (a_replica("chat-0", intent="old"), a_replica("chat-1", intent="old", node=""))
    snapshot = edited(replicas=2, spare=ROOM)
    assert figures(decided(replace(snapshot, replicas=pods))) == DRAIN
    assert figures(decided(replace(snapshot, replicas=pods, spare=Spare(2, True)))) == SURGE


def test_where_a_drain_frees_nothing_for_the_new_plan_the_old_ones_serve_until_it_does():
    decision = decided(edited(spare=ELSEWHERE))
    assert figures(decision) == SURGE
    assert "is another one" in message(decision)


@pytest.mark.parametrize(("strategy", "wanted"), [("Surge", SURGE), ("Recreate", DRAIN)])
@pytest.mark.parametrize("spare", [ROOM, FULL, None])
def test_what_the_user_says_is_obeyed_whatever_room_there_is(strategy, wanted, spare):
    decision = decided(edited(replicas=2, spec={"rollout": {"strategy": strategy}}, spare=spare))
    assert figures(decision) == wanted
    assert f"rollout.strategy is {strategy}" in message(decision)


def test_a_volume_that_one_pod_may_mount_decides_before_a_pod_exists():
    cache = {"weights": {"cache": {"type": "PersistentVolumeClaim", "claimName": "w"}}}
    claim = ClaimRecord("team-a", "w", ("ReadWriteOncePod",), "Bound", None, False, False)
    for strategy in ("Auto", "Surge"):
        snapshot = edited(spec={**cache, "rollout": {"strategy": strategy}}, spare=ROOM, claims={"w": claim})
        decision = decided(announced(snapshot)) if decided(snapshot).policy == "announce_gap" else None
        assert rollout.chosen(snapshot, intent="new", wanted=1) == Rollout(Way.REPLACE, Why.CLAIM)
        assert decision is None or figures(decision) == DRAIN


def test_a_gap_of_the_only_replica_is_said_before_it_is_drained():
    before = decided(edited(spare=FULL))
    assert (before.policy, before.apply, before.delete) == ("announce_gap", (), ())
    assert "nothing answers meanwhile: set rollout.strategy to Surge to wait for room" in message(before)
    assert "replicas to 2" in message(before)
    after = decided(announced(edited(spare=FULL)))
    assert (after.policy, figures(after)) == ("provision", DRAIN)
    assert message(after) == message(before), "it is written once"


@pytest.mark.parametrize(
    ("strategy", "remedy"), [("Recreate", "set rollout.strategy to Auto"), ("Auto", "replicas to 2")]
)
def test_a_gap_is_said_with_what_helps_against_it(strategy, remedy):
    assert remedy in message(decided(edited(spec={"rollout": {"strategy": strategy}}, spare=FULL)))


def test_a_replica_that_answers_nobody_leaves_no_gap():
    snapshot = edited(spare=FULL)
    assert decided(replace(snapshot, facts={})).policy == "provision"


def test_a_restarted_operator_asks_the_only_replica_before_it_drains_it_unannounced():
    healthy = {"type": "Healthy", "status": "True", "reason": "Serving", "observedGeneration": 1}
    snapshot = edited(spare=FULL, status={"conditions": [healthy]})
    waits = decided(replace(snapshot, facts={}))
    assert (waits.policy, waits.apply, waits.status) == ("announce_gap", (), None)
    assert waits.look_again_after_seconds == snapshot.settings.probe_period_seconds
    assert "nothing answers meanwhile" in message(decided(snapshot))


def test_no_way_has_words_that_do_not_fit_a_condition():
    long = replace(a_plan().pool, name="p" * 63)
    for way in Way:
        for why in Why:
            assert len(rollout.words(Rollout(way, why), a_plan(pool=long), wanted=1)) <= 400


# what stands is kept


def rolling(way, *, replicas=2, spec=None, new=None, **changes):
    """In the middle of a rollout that went that way: the first of the new generation starts."""
    wanted = {"replicas": replicas, **(spec or {})}
    snapshot = a_running_snapshot(spec=wanted)
    manifests = with_rollout(manifests_for(spec=wanted), way)
    intent = pod_intent(manifests)
    children = tuple(a_child(manifest) for manifest in manifests)
    old = tuple(a_replica(f"chat-old-{n}", intent="old") for n in range(replicas))
    first = new or a_replica("chat-new-0", intent=intent, ready=False, started=False)
    facts = {each.uid: proved(each) for each in old}
    return replace(
        snapshot,
        children=children,
        replicas=(*old, replace(first, intent=intent)),
        facts={**facts, **changes.pop("facts", {})},
        served=tuple(replace(snapshot.served[0], pod_uid=each.uid) for each in old),
        **changes,
    )


SURGING, DRAINING = Rollout(Way.SURGE, Why.ROOM), Rollout(Way.REPLACE, Why.NO_ROOM)


@pytest.mark.parametrize("way", [SURGING, DRAINING])
@pytest.mark.parametrize("spare", [ROOM, FULL, None])
def test_a_rollout_goes_on_as_it_began_whatever_room_there_is_by_now(way, spare):
    seen = view(rolling(way, spare=spare), a_plan(), engine=ENGINE)
    assert seen.rollout == way
    deployment = next(each for each in seen.manifests if each["kind"] == "Deployment")
    assert deployment["metadata"]["annotations"][names.ROLLOUT] == str(way)


def test_once_it_is_over_nothing_is_written_for_the_figures_alone():
    snapshot = rolling(SURGING, replicas=1)
    over = replace(snapshot, replicas=snapshot.replicas[-1:])
    for strategy in ("Auto", "Surge", "Recreate"):
        deployment = a_spec(rollout={"strategy": strategy})
        assert view(replace(over, deployment=deployment), a_plan(), engine=ENGINE).rollout == SURGING


def test_a_change_of_mind_in_the_middle_is_obeyed():
    snapshot = rolling(DRAINING)
    asked = a_spec(replicas=2, rollout={"strategy": "Surge"})
    decision = decided(replace(snapshot, deployment=asked))
    assert figures(decision) == SURGE


def test_what_is_asked_for_no_more_is_left_to_room():
    snapshot = rolling(Rollout(Way.SURGE, Why.ASKED))
    assert decided(snapshot).ask is Ask.ROOM
    first_starts = replace(snapshot.replicas[-1], node="")
    full = replace(snapshot, spare=FULL, replicas=(*snapshot.replicas[:-1], first_starts))
    assert figures(decided(full)) == DRAIN


def test_a_second_edit_in_the_middle_of_a_surge_keeps_its_spare_replica():
    snapshot = rolling(SURGING, spare=FULL)
    again = a_spec(replicas=2, pod={"labels": {"team": "blue"}})
    assert figures(decided(replace(snapshot, deployment=again))) == SURGE, "three are bound, two are wanted"


def test_a_surge_claims_one_replica_more_until_no_older_one_is_left():
    snapshot = rolling(SURGING)
    assert rollout.surges(snapshot.children, snapshot.replicas)
    assert not rollout.surges(snapshot.children, snapshot.replicas[-1:])
    leaving = tuple(replace(each, terminating=True) for each in snapshot.replicas[:-1])
    assert not rollout.surges(snapshot.children, (*leaving, snapshot.replicas[-1]))
    assert not rollout.surges(rolling(DRAINING).children, snapshot.replicas)


def test_an_annotation_that_is_not_ours_is_as_none():
    assert rollout.read("") is rollout.read("Surge") is rollout.read("Sideways/Room") is None
    assert rollout.read(str(SURGING)) == SURGING


# a surge whose room went


def waiting(seconds=60, *, way=SURGING, **changes):
    made = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    new = a_replica(
        "chat-new-0", node="", ready=False, started=False, phase="Pending", times=PodTimes(made=made)
    )
    return rolling(way, new=new, **changes)


#: The setting's two minutes, and what a replica may take to go: 15 + 60 + 15 seconds.
PATIENCE_SECONDS = 120 + 90


def test_a_surge_that_finds_no_node_becomes_a_drain_in_the_end():
    early = decided(waiting(PATIENCE_SECONDS - 10))
    assert (early.policy, early.look_again_after_seconds) == ("settled", 10)
    late = decided(waiting(PATIENCE_SECONDS))
    assert (late.policy, figures(late)) == ("fall_back", DRAIN)
    assert applied(late)["metadata"]["annotations"][names.ROLLOUT] == "Replace/Taken"
    assert "went to somebody else" in message(late)


def test_a_surge_that_waits_says_whose_pod_has_no_node():
    assert "pod chat-new-0 waits for a node, the older generation serves on" in message(decided(waiting()))


def test_a_pod_that_waits_for_what_a_leaving_one_holds_is_not_stuck():
    snapshot = waiting(PATIENCE_SECONDS + 60)
    first, *others = snapshot.replicas
    leaving = (replace(first, terminating=True), *others)
    assert decided(replace(snapshot, replicas=leaving)).policy == "settled"


@pytest.mark.parametrize("why", [Why.ASKED, Why.ELSEWHERE])
def test_who_asked_for_a_surge_waits_and_so_does_who_moves(why):
    spec = {"rollout": {"strategy": "Surge"}} if why is Why.ASKED else {}
    decision = decided(waiting(PATIENCE_SECONDS + 60, way=Rollout(Way.SURGE, why), spec=spec))
    assert (decision.policy, decision.look_again_after_seconds) == ("settled", None)


def test_a_surge_whose_pod_is_not_even_made_falls_back_too():
    snapshot = waiting()
    since = (NOW - timedelta(seconds=PATIENCE_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    refused = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": since}
    children = tuple(
        replace(child, status={"conditions": [refused]}) if child.kind == "Deployment" else child
        for child in snapshot.children
    )
    assert (
        decided(replace(snapshot, children=children, replicas=snapshot.replicas[:-1])).policy == "fall_back"
    )


# what fails


@pytest.mark.parametrize("kind", [FailureKind.STATUS, FailureKind.NO_TOKEN, FailureKind.WRONG_MODEL])
def test_a_new_generation_that_answers_and_does_not_generate_is_named_and_the_old_serves(kind):
    new = a_replica("chat-new-0", ready=False, started=False)
    decision = decided(rolling(DRAINING, new=new, facts={new.uid: failing(new, kind)}))
    assert said(decision)["Ready"] == ("False", "RollingOut")
    assert "pod chat-new-0" in message(decision)
    assert "the older generation serves on" in message(decision)
    assert said(decision)["Healthy"] == ("True", "Serving")


@pytest.mark.parametrize("kind", [FailureKind.REFUSED, FailureKind.TIMEOUT, FailureKind.UNREACHABLE])
def test_a_new_replica_that_does_not_listen_yet_is_only_starting(kind):
    new = a_replica("chat-new-0", ready=False, started=False)
    decision = decided(rolling(DRAINING, new=new, facts={new.uid: failing(new, kind)}))
    assert "pod chat-new-0" not in message(decision)


def test_a_new_generation_that_ends_by_itself_is_said_with_its_reason():
    new = a_replica(
        "chat-new-0", ready=False, started=False, waiting_reason="ErrImagePull", waiting_message="no such tag"
    )
    decision = decided(rolling(DRAINING, new=new))
    status, reason = said(decision)["Ready"]
    assert status == "False"
    assert reason.startswith("Image")
    assert "the older generation serves on" in message(decision)
    assert said(decision)["Healthy"] == ("True", "Serving")


@pytest.mark.parametrize("name", ["kv-cache-too-small", "cuda-out-of-memory"])
def test_of_a_new_generation_that_refuses_again_the_remedy_is_said_to_its_end(name):
    words = (Path(__file__).parents[3] / f"data/failures/{name}.txt").read_text().split("\n", 3)[3]
    new = a_replica(
        "chat-7f6688898f-gfgbt", ready=False, started=False, terminated_message=words, exit_code=1, restarts=3
    )
    decision = decided(rolling(SURGING, new=new), plan=a_plan(correction_mib=2933))
    assert message(decision).startswith("the older generation serves on: planned again with 2933 MiB")
    assert message(decision).endswith("or allow larger GPUs in hardware")
    assert len(message(decision)) <= MESSAGE_MAX_LENGTH


def test_the_page_lists_every_way_that_can_be_chosen():
    page = (Path(__file__).parents[4] / "docs/rollouts.md").read_text()
    listed = set(re.findall(r"`((?:Surge|Replace)/\w+)`", page))
    assert all(rollout.read(text) is not None for text in listed)
    assert {text.partition("/")[2] for text in listed} == {why.value for why in Why} - {"First"}
    assert f"(operator setting, {OperatorSettings().surge_patience_seconds:g})" in page
    assert f"(operator setting, {OperatorSettings().wedged_pause_seconds:g})" in page
