"""Engines that accept requests and generate nothing: one is replaced, a busy one is not, and most of them never are."""

from __future__ import annotations

import threading

import httpx
import pytest

from cluster import scraping
from cluster.rolling import Watched, is_ready
from cluster.teams import a_deployment, condition, says
from cluster.waiting import throughout, until
from gemma_operator.sandbox.simulator.instructions import PREFIX

pytestmark = pytest.mark.cluster

FAULT = f"{PREFIX}fault"


@pytest.fixture
def pair(team, operator):
    """`chat` of two replicas, Ready."""
    pool = team.pool("l4", nodes=3)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}, replicas=2))
    team.ready("chat")
    return team


def name_of(pod):
    return pod["metadata"]["name"]


def tell(team, pod, fault):
    team.annotate(name_of(pod), {FAULT: fault}, kind="Pod")


def deletions(team, since):
    return [write.name for write in team.writes(since=since) if (write.verb, write.kind) == ("delete", "Pod")]


def replaced(team, pod):
    """Its successor serves beside the other one; what the status said before the deletion is not taken for that."""
    pods = team.pods("chat")
    return (
        len(pods) == 2
        and name_of(pod) not in map(name_of, pods)
        and all(map(is_ready, pods))
        and says("Ready", "True", "Serving")(team.get("GemmaDeployment", "chat"))
    )


def wedged_events(team):
    return [event for event in team.events("chat") if event["reason"] == "Wedged"]


@pytest.mark.parametrize("fault", ["wedged", "error-500", "no-token", "hanging"])
def test_of_two_the_one_that_generates_nothing_is_replaced_once(pair, fault):
    """vllm#39863: /health answers, requests hang, no token comes."""
    since = pair.audit.position
    first, other = pair.pods("chat")
    tell(pair, first, fault)
    until(lambda: deletions(pair, since), what="its pod is deleted")

    def healthy_and_replaced():
        obj = pair.get("GemmaDeployment", "chat")
        assert condition(obj, "Healthy")["status"] == "True", "the other one serves"
        return replaced(pair, first)

    until(healthy_and_replaced, what="another has taken its place")
    assert deletions(pair, since) == [name_of(first)]
    assert name_of(other) in map(name_of, pair.pods("chat"))
    (event,) = wedged_events(pair)
    assert (event["type"], name_of(first) in event["note"]) == ("Warning", True)


def test_the_next_one_has_to_wait_and_so_it_does_after_a_restart(pair, operator):
    since = pair.audit.position
    first, other = pair.pods("chat")
    tell(pair, first, "wedged")
    until(lambda: deletions(pair, since), what="the first is deleted")
    until(lambda: replaced(pair, first), what="another has taken its place")
    operator.kill()
    operator.ensure_running()
    tell(pair, other, "no-token")
    pair.sees(
        "GemmaDeployment",
        "chat",
        lambda obj: f"pod {name_of(other)}" in condition(obj, "Ready").get("message", ""),
    )
    throughout(lambda: len(deletions(pair, since)) == 1, what="five minutes are not over", seconds=6)
    assert says("Healthy", "True")(pair.get("GemmaDeployment", "chat"))


def test_where_both_are_wedged_none_is_deleted_and_the_user_is_asked(pair, operator):
    """In the pause after an earlier one, so that the first of the two is not replaced before the second is found."""
    since = pair.audit.position
    earlier = pair.pods("chat")[0]
    tell(pair, earlier, "no-token")
    until(lambda: deletions(pair, since), what="the earlier one is deleted")
    until(lambda: replaced(pair, earlier), what="another has taken its place")
    for pod in pair.pods("chat"):
        tell(pair, pod, "no-token")
    pair.sees("GemmaDeployment", "chat", says("Stalled", "True", "Wedged"))
    obj = pair.get("GemmaDeployment", "chat")
    assert "2 of 2 replicas accept requests and generate nothing" in condition(obj, "Ready")["message"]
    assert says("Healthy", "False", "Wedged")(obj)
    until(
        lambda: (
            scraping.value(
                operator, "gemma_deployment_replicas", name="chat", namespace=pair.namespace, state="wedged"
            )
            == 2
        ),
        what="the metric counts both",
    )
    pair.tell("chat", fault=None)
    pair.ready("chat")
    assert len(deletions(pair, since)) == 1


def test_the_only_replica_is_replaced_since_nothing_else_would_bring_it_back(team, operator):
    team.apply(a_deployment("chat", hardware={"pools": [team.pool("l4", nodes=1)]}))
    team.ready("chat")
    (pod,) = team.pods("chat")
    tell(team, pod, "wedged")
    until(lambda: name_of(pod) not in map(name_of, team.pods("chat")), what="it goes")
    team.ready("chat")
    assert len(wedged_events(team)) == 1


def test_a_queue_that_is_full_and_moves_is_left_alone(pair):
    """Each token takes longer than a probe waits, so probes time out; tokens come all the same."""
    since = pair.audit.position
    pods = pair.pods("chat")
    for pod in pods:
        pair.annotate(name_of(pod), {f"{PREFIX}token-seconds": "3"}, kind="Pod")
    over = threading.Event()
    body = {"model": "chat", "prompt": "hello", "max_tokens": 1000, "stream": True}

    def one_request(address, delay_seconds):
        over.wait(delay_seconds)
        with (
            httpx.Client(trust_env=False, timeout=None) as http,
            http.stream("POST", f"http://{address}:8000/v1/completions", json=body) as answer,
        ):
            for _line in answer.iter_lines():
                if over.is_set():
                    return

    threads = [
        threading.Thread(target=one_request, args=(pod["status"]["podIP"], 0.5 * turn))
        for pod in pods
        for turn in range(6)
    ]
    for thread in threads:
        thread.start()
    try:
        throughout(
            lambda: (
                not deletions(pair, since) and says("Healthy", "True")(pair.get("GemmaDeployment", "chat"))
            ),
            what="busy and left alone",
            seconds=12,
        )
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wedged_events(pair) == []


def test_no_request_that_finds_the_other_replica_is_lost_while_one_is_replaced(pair):
    since = pair.audit.position
    first = pair.pods("chat")[0]
    tell(pair, first, "unhealthy")  # out of the Service, and no business of ours
    until(
        lambda: says("Ready", "True", "ReplicasMissing")(pair.get("GemmaDeployment", "chat")),
        what="it is said",
    )
    with Watched(pair) as seen:
        throughout(
            lambda: deletions(pair, since) == [],
            what="a pod that is not ready is left to Kubernetes",
            seconds=3,
        )
    assert seen.failed == []
    tell(pair, first, None)
    pair.ready("chat")
