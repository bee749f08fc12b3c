"""Nothing is lost while one generation follows another: which way is chosen, what is said, and what holds."""

from __future__ import annotations

from collections import Counter

import pytest

from cluster.rolling import Watched, is_ready
from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until
from gemma_operator.errors import ApiError
from gemma_operator.sandbox.simulator.instructions import PREFIX

pytestmark = pytest.mark.cluster

FAULT = f"{PREFIX}fault"
BLUE = {"pod": {"labels": {"team": "blue"}}}
SURGE, DRAIN = {"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": 0, "maxUnavailable": 1}


@pytest.fixture
def running(team, operator):
    """`chat` of so many replicas, Ready on a pool of so many L4; the pool's name."""

    def make(*, replicas, nodes, startup_seconds="0.1", **spec):
        pool = team.pool("l4", nodes=nodes)
        told = {"annotations": {f"{PREFIX}startup-seconds": startup_seconds}}
        team.apply(a_deployment("chat", hardware={"pools": [pool]}, replicas=replicas, pod=told, **spec))
        team.ready("chat")
        return pool

    return make


def figures(team):
    return team.get("Deployment", "chat")["spec"]["strategy"]["rollingUpdate"]


def names(team):
    return {pod["metadata"]["name"] for pod in team.pods("chat")}


def ready_names(team):
    return {pod["metadata"]["name"] for pod in team.pods("chat") if is_ready(pod)}


def told(team, reason):
    """Messages of the Events with that reason."""
    return [event["note"] for event in team.events("chat") if event["reason"] == reason]


def context(tokens, *, fault=None):
    """A spec that plans anew, perhaps with engines that do not work."""
    broken = {"pod": {"annotations": {FAULT: fault}}} if fault else {}
    return {"serving": {"contextLength": tokens}, **broken}


def a_new_pod(team, old):
    return until(lambda: names(team) - old, what="a pod of the new generation").pop()


def applies(team, since):
    return [
        str(write)
        for write in team.writes(since=since)
        if (write.verb, write.kind) == ("apply", "Deployment")
    ]


def test_with_a_spare_gpu_the_new_replica_comes_first_and_no_request_fails(team, running, figure):
    pool = running(replicas=1, nodes=2)
    with Watched(team) as seen:
        team.change("chat", BLUE)
        team.ready("chat")
    assert figures(team) == SURGE
    assert (seen.fewest, seen.failed) == (1, [])
    figure(f"surge of one replica: {seen.answered} requests answered, none failed")
    (said,) = told(team, "RollingOut")
    assert said.startswith(f"surge: 1 spare nvidia-l4 in pool gke-nodepool/{pool}")


def test_the_spare_gpu_of_a_surge_is_nobody_elses_until_it_is_over(team, running):
    pool = running(replicas=1, nodes=2)
    boots_until_told = {f"{PREFIX}startup-seconds": "3600"}
    team.change("chat", {"pod": {**BLUE["pod"], "annotations": boots_until_told}})
    until(lambda: figures(team) == SURGE, what="the surge begins")
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    team.sees("GemmaDeployment", "late", says("Planned", "False", "WaitingForCapacity"))
    until(lambda: len(names(team)) == 2, what="the new replica boots")
    team.tell("chat", startup_seconds="0")
    team.ready("chat")
    team.ready("late")
    assert (len(team.pods("chat")), len(team.pods("late"))) == (1, 1)


def test_without_a_spare_gpu_one_of_three_is_drained_at_a_time(team, running):
    running(replicas=3, nodes=3)
    with Watched(team) as seen:
        team.change("chat", BLUE)
        team.ready("chat")
    assert figures(team) == DRAIN
    assert seen.fewest == 2
    assert seen.failed == []
    assert "one replica is drained before its successor starts: no spare GPUs" in told(team, "RollingOut")[0]


def test_a_single_replica_without_room_says_its_gap_before_it_is_drained(team, running):
    running(replicas=1, nodes=1)
    since = team.told()
    team.change("chat", BLUE)
    team.ready("chat")
    (said,) = told(team, "RollingOut")
    assert "nothing answers meanwhile: set rollout.strategy to Surge to wait for room instead" in said
    writes = [str(write) for write in team.writes(since=since)]
    assert writes.index("apply status chat") < writes.index("apply Deployment chat")


def test_who_asks_for_a_surge_waits_for_room_and_says_so(team, running):
    pool = running(replicas=1, nodes=1, rollout={"strategy": "Surge"})
    (old,) = names(team)
    team.change("chat", BLUE)
    new = a_new_pod(team, {old})
    waits = team.sees(
        "GemmaDeployment",
        "chat",
        lambda obj: f"pod {new} waits for a node" in condition(obj, "Ready").get("message", ""),
    )
    assert "rollout.strategy is Surge" in condition(waits, "Ready")["message"]
    assert says("Healthy", "True")(waits)
    assert old in ready_names(team)
    assert team.pool("l4", nodes=1, first=1) == pool
    team.ready("chat")
    assert names(team) == {new}


def test_who_asks_for_recreate_has_no_replica_more(team, running):
    running(replicas=1, nodes=2, rollout={"strategy": "Recreate"})
    with Watched(team) as seen:
        team.change("chat", BLUE)
        team.ready("chat")
    assert (figures(team), seen.most_pods) == (DRAIN, 1)
    assert "rollout.strategy is Recreate; nothing answers meanwhile" in told(team, "RollingOut")[0]


def test_the_drain_that_is_asked_for_is_given_to_engine_and_kubelet(team, running):
    running(replicas=1, nodes=1, rollout={"drainSeconds": 7})
    (pod,) = team.pods("chat")
    container = pod["spec"]["containers"][0]
    unrouting = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert "--shutdown-timeout 7" in " ".join(container["args"])
    assert pod["spec"]["terminationGracePeriodSeconds"] >= unrouting + 7 + 10


def test_a_move_to_another_pool_gives_an_old_replica_up_for_a_proved_new_one_only(team, running):
    running(replicas=2, nodes=2)
    there = team.pool("l4", nodes=2, first=2, suffix="b")
    with Watched(team) as seen:
        team.change("chat", {"hardware": {"pools": [there]}})
        team.ready("chat")
    assert (seen.fewest, seen.failed, figures(team)) == (2, [], SURGE)
    nodes = {pod["spec"]["nodeName"].rpartition("-")[0] for pod in team.pods("chat")}
    assert nodes == {there}


def test_a_generation_that_cannot_serve_stops_and_goes_on_by_itself_once_it_can(team, running):
    """dynamo#13622: three replicas on exactly three GPUs, and a new generation without a token."""
    running(replicas=3, nodes=3, serving={"contextLength": 8192})
    old = names(team)
    with Watched(team) as seen:
        team.change("chat", context(8200, fault="error-500"))
        new = a_new_pod(team, old)

        def named(obj):
            return f"pod {new} answered with an error" in condition(obj, "Ready").get("message", "")

        stopped = team.sees("GemmaDeployment", "chat", named)
        assert says("Ready", "False", "RollingOut")(stopped)
        assert says("Healthy", "True")(stopped)
        throughout(lambda: len(names(team) & old) == 2, what="two of the old generation stay", seconds=5)

        def healed():
            for pod in team.pods("chat"):
                if pod["metadata"]["name"] not in old and pod["metadata"].get("annotations", {}).get(FAULT):
                    team.annotate(pod["metadata"]["name"], {FAULT: None}, kind="Pod")
            return says("Ready", "True")(team.get("GemmaDeployment", "chat"))

        until(healed, what="the rollout ends once its engines generate")
    assert not names(team) & old
    assert seen.fewest == 2
    assert seen.failed == []


def test_three_quick_edits_share_one_budget_and_skip_what_is_between(team, running):
    """dynamo#13353: each edit comes when the last one's first replica is starting."""
    running(replicas=3, nodes=3, startup_seconds="2", serving={"contextLength": 8192})
    since = team.audit.position
    with Watched(team) as seen:
        for tokens in (8200, 8208, 8216):
            known = names(team)
            team.change("chat", context(tokens))
            a_new_pod(team, known)
        team.ready("chat")
    assert seen.fewest == 2
    assert seen.failed == []
    alive = [each for each in team.all("ReplicaSet") if each["spec"]["replicas"]]
    assert [each["spec"]["replicas"] for each in alive] == [3]
    assert "--max-model-len 8216" in " ".join(team.pods("chat")[0]["spec"]["containers"][0]["args"])
    assert len(applies(team, since)) <= 3, "one a generation at most"


def test_an_operator_that_dies_in_the_middle_is_followed_by_one_that_goes_on_the_same_way(
    team, running, operator
):
    running(replicas=2, nodes=3, startup_seconds="2")
    old, since = names(team), team.audit.position
    with Watched(team) as seen:
        team.change("chat", BLUE)
        a_new_pod(team, old)
        operator.kill()
        operator.ensure_running()
        team.ready("chat")
    assert (seen.fewest, seen.failed, figures(team)) == (2, [], SURGE)
    assert applies(team, since) == ["apply Deployment chat"]
    assert not names(team) & old


@pytest.mark.parametrize(("nodes", "kept"), [(2, 1), (3, 2)], ids=["drain", "surge"])
def test_with_the_operator_down_an_engine_without_a_token_replaces_none_that_serves(
    team, running, operator, nodes, kept
):
    """/health answers 200 and completions 500: the start-up probe inside the pod is what holds the rollout."""
    running(replicas=2, nodes=nodes)
    old = names(team)
    team.change("chat", {"pod": {"annotations": {FAULT: "error-500"}}})
    new = a_new_pod(team, old)
    operator.kill()
    until(lambda: team.get("Pod", new)["status"].get("phase") == "Running", what="the new engine is up")
    with Watched(team) as seen:
        throughout(
            lambda: len(ready_names(team) & old) == kept and new not in ready_names(team),
            what=f"{kept} of the old generation serve",
            seconds=8,
        )
    assert (seen.fewest, seen.failed) == (kept, [])
    operator.ensure_running()
    team.change("chat", {"pod": {"annotations": {FAULT: ""}}})
    team.ready("chat")


def test_an_eviction_in_the_middle_of_a_surge_leaves_one_and_the_next_has_to_wait(team, running):
    running(replicas=2, nodes=3)
    old = sorted(names(team))
    team.change("chat", {"pod": {"annotations": {FAULT: "no-token"}}})
    a_new_pod(team, set(old))

    def evict(name):
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        return team.client.create(f"{team.path('Pod', name)}/eviction", body)

    budget = team.sees(
        "PodDisruptionBudget", "chat", lambda obj: obj["status"].get("disruptionsAllowed") == 1
    )
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    evict(old[0])
    with pytest.raises(ApiError, match="disruption budget"):
        evict(old[1])
    assert old[1] in ready_names(team)
    team.change("chat", {"pod": {"annotations": {FAULT: ""}}})
    team.ready("chat")


def test_a_surge_whose_node_goes_becomes_a_drain_and_ends(team, running):
    running(replicas=2, nodes=3, rollout={"drainSeconds": 0})
    old = names(team)
    team.change("chat", {"pod": {"annotations": {FAULT: "no-token"}}})
    new = a_new_pod(team, old)
    node = until(lambda: team.get("Pod", new)["spec"].get("nodeName"), what="the surge has its node")
    assert figures(team) == SURGE
    team.lose(node)
    until(lambda: figures(team) == DRAIN, what="it falls back")
    taken = "the spare GPUs in pool"
    team.sees("GemmaDeployment", "chat", lambda obj: taken in condition(obj, "Ready").get("message", ""))
    assert len(ready_names(team) & old) >= 1
    team.change("chat", {"pod": {"annotations": {FAULT: ""}}})
    team.ready("chat")
    assert not names(team) & old


def test_at_rest_room_that_comes_and_goes_writes_nothing(team, running):
    pool = running(replicas=1, nodes=2)
    team.change("chat", BLUE)
    team.ready("chat")
    since = team.told()
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    team.ready("late")
    written = Counter(
        write.name for write in team.writes(since=since) if write.name.partition(".")[0] == "chat"
    )
    assert written == Counter()
    assert figures(team) == SURGE, "the spare is gone and nobody needs it"
