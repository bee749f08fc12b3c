"""No request is lost while replicas come and go: real vLLMs on real nodes, asked through the Service.

One deployment serves all scenes. The clients are in a pod, half of them with connections that they keep, half with one
a request, streaming and plain. The first scenes are played with the operator down, and beside them five minutes pass in
which a generation that cannot answer must replace nobody. The others have one replica: what is lost there nobody else
could have answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from cluster.operating import Operator
from cluster.rolling import is_ready
from cluster.teams import Object, says
from cluster.waiting import until
from engine.houses import RealTeam, a_team, engine, stand_in, tiny
from engine.model import environment, image
from engine.nodes.cluster import RealCluster, say
from engine.scenes.clients import Clients

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())

NAME = "tiny"
CLIENTS = 16
#: How long a request shall take with nothing else to do; and what is asked for to learn how many tokens that is.
REQUEST_SECONDS, SAMPLE_TOKENS = 13.0, 200
#: What every scene must have met, else nothing is shown.
LEAST_MET, LEAST_IN_FLIGHT, LEAST_SECONDS = 20, 8, 10.0
SETTLED_SECONDS = 600.0
DOWN_SECONDS = 300.0

Figure = Callable[[str], None]
Scene = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def served(installed: RealCluster, one_operator: Operator, figure: Figure) -> Iterator[RealTeam]:
    """A team with the tiny model, and a pod of clients on the node that is never drained."""
    one_operator.ensure_running()
    team = a_team(installed)
    began = time.monotonic()
    team.apply(tiny(NAME, replicas=2, rollout={"drainSeconds": 240}))
    team.client_pod("clients", node="node-a")
    team.ready(NAME, within_seconds=SETTLED_SECONDS)
    figure(f"apply to Ready of two replicas of a real vLLM on real nodes: {time.monotonic() - began:.0f} s")
    yield team
    team.leave()


@pytest.fixture(scope="module")
def ask(served: RealTeam) -> Callable[[int], Clients]:
    """Clients that ask for so many tokens a request."""
    url = served.get("GemmaDeployment", NAME)["status"]["endpoint"]["url"]
    return lambda tokens: Clients(served, pod="clients", url=url, model=NAME, clients=CLIENTS, tokens=tokens)


@pytest.fixture(scope="module")
def tokens(ask: Callable[[int], Clients]) -> int:
    """How many a request must be for, so that on this machine it takes as long as it shall."""
    with ask(SAMPLE_TOKENS) as clients:
        pass  # each client ends the request that it began
    return round(SAMPLE_TOKENS * REQUEST_SECONDS / clients.report["shortest_seconds"])


@pytest.fixture
def scene(ask: Callable[[int], Clients], tokens: int, figure: Figure) -> Scene:
    """`with scene(what):` under load; nothing that was asked meanwhile may be lost."""

    @contextmanager
    def played(what: str) -> Iterator[None]:
        with ask(tokens) as clients:
            until(lambda: clients.mark("begins") == CLIENTS, what="all clients wait for an answer")
            began = time.monotonic()
            yield
            took = time.monotonic() - began
            clients.mark("ends")
        report = clients.report
        told = (
            f"{what}: {took:.0f} s; {report['answered']} of {tokens} tokens answered, "
            f"{report['retried']} on one retry, {report['lost']} lost; {report['met']} were in flight meanwhile, "
            f"{report['shortest_seconds']} to {report['longest_seconds']} s each {report['troubles'] or ''}"
        )
        say(told)
        figure(told)
        assert report["lost"] == 0, report
        assert report["met"] >= LEAST_MET, report
        assert report["marks"]["begins"] >= LEAST_IN_FLIGHT, report
        assert report["median_seconds"] >= LEAST_SECONDS, report

    return played


def settled(team: RealTeam, replicas: int = 2) -> None:
    """As many replicas as wanted, all of the newest generation and ready, and none on its way out."""
    deployment = team.path("Deployment", NAME)

    def it_is() -> bool:
        made = team.client.get(deployment)
        said = made["status"]
        counted = (said.get("replicas"), said.get("updatedReplicas"), said.get("readyReplicas"))
        seen = made["metadata"]["generation"] == said.get("observedGeneration")
        pods = _all_pods(team)
        stay = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]
        return seen and counted == (replicas,) * 3 and len(pods) == len(stay) == replicas

    until(it_is, what=f"{replicas} replicas and no others", within_seconds=SETTLED_SECONDS)


def _all_pods(team: RealTeam) -> list[Object]:
    """Those on their way out too, but not what has ended."""
    pods = team.pods(NAME, leaving=True)
    return [pod for pod in pods if pod["status"].get("phase") not in ("Succeeded", "Failed")]


def _names(team: RealTeam, name: str = NAME) -> set[str]:
    return {pod["metadata"]["name"] for pod in team.pods(name)}


@pytest.fixture
def alone(served: RealTeam, operator: Operator) -> RealTeam:
    """One replica: what is lost here nobody else could have answered."""
    served.change(NAME, {"replicas": 1})
    settled(served, 1)
    return served


@pytest.fixture
def pair(served: RealTeam) -> RealTeam:
    """Two replicas."""
    settled(served, 2)
    return served


class Unattended:
    """A rollout that stands still, and nobody but Kubernetes to look after it."""

    def __init__(self, team: RealTeam, operator: Operator) -> None:
        self.team = team
        self.operator = operator
        self.wrong: list[str] = []
        team.apply(stand_in(replicas=2))
        self.url = team.ready("chat", within_seconds=120)["status"]["endpoint"]["url"]
        team.client_pod("client", node="node-a")
        self._old = _names(team, "chat")
        team.change("chat", {"serving": engine(fault="completions-500")})
        until(lambda: _names(team, "chat") - self._old, what="a new pod exists")
        operator.kill()
        self._since = time.monotonic()
        self._over = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def _watch(self) -> None:
        while not self._over.wait(0.5):
            ready = {pod["metadata"]["name"] for pod in self.team.pods("chat") if is_ready(pod)}
            if not ready or not ready <= self._old:
                self.wrong.append(f"{time.monotonic() - self._since:.0f} s: ready are {sorted(ready)}")

    @property
    def a_new_one_ran(self) -> bool:
        """Whether the kubelet has started an engine of the new generation, so that health could lie."""
        return any(
            "running" in status["state"]
            for pod in self.team.pods("chat")
            if pod["metadata"]["name"] not in self._old
            for status in pod["status"].get("containerStatuses", ())
        )

    def lasted(self) -> float:
        """Waits until five minutes are over; how long nobody looked."""
        until(
            lambda: time.monotonic() - self._since >= DOWN_SECONDS,
            what="five minutes",
            within_seconds=DOWN_SECONDS,
        )
        return time.monotonic() - self._since

    def end(self) -> None:
        """Nobody watches any more, and the operator is back."""
        self._over.set()
        self._watching.join()
        self.operator.ensure_running()


@pytest.fixture(scope="module")
def unattended(installed: RealCluster, one_operator: Operator, served: RealTeam) -> Iterator[Unattended]:
    """From its first test to its last the operator is down."""
    team = a_team(installed)
    stood = Unattended(team, one_operator)
    yield stood
    stood.end()
    team.leave()


def test_one_of_two_is_evicted(unattended: Unattended, pair: RealTeam, scene: Scene) -> None:
    with scene("eviction of one of two, operator down"):
        pod = pair.pods(NAME)[0]["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        pair.client.create(f"{pair.path('Pod', pod)}/eviction", eviction)
        until(lambda: pod not in _names(pair), what="it goes")
        settled(pair)


def test_one_of_two_is_deleted(unattended: Unattended, pair: RealTeam, scene: Scene) -> None:
    with scene("deletion of one of two, operator down"):
        pod = pair.pods(NAME)[0]["metadata"]["name"]
        pair.delete("Pod", pod)
        until(lambda: pod not in _names(pair), what="it goes")
        settled(pair)


def test_one_of_two_nodes_is_drained(unattended: Unattended, pair: RealTeam, scene: Scene) -> None:
    assert any(pod["spec"]["nodeName"] == "node-b" for pod in pair.pods(NAME))
    words = ("--delete-emptydir-data", f"--pod-selector=gemma-operator.io/deployment={NAME}")
    try:
        with scene("drain of one of two nodes, operator down"):
            pair.cluster.kubectl("drain", "node-b", *words, "--timeout=400s", limit_seconds=420)
            settled(pair)
    finally:
        pair.cluster.kubectl("uncordon", "node-b")


def test_with_the_operator_down_a_generation_that_cannot_answer_replaces_nobody(
    unattended: Unattended, figure: Figure
) -> None:
    """For five minutes. The start-up probe runs in the pod: /health answers 200 and completions answer 500."""
    team = unattended.team
    assert unattended.a_new_one_ran
    figure(f"operator down beside a generation that cannot answer: {unattended.lasted():.0f} s")
    assert not unattended.wrong
    assert [team.ask("client", unattended.url) for _ in range(20)] == ["3"] * 20
    unattended.end()
    stuck = team.sees("GemmaDeployment", "chat", says("Healthy", "True"))
    assert not says("Ready", "True")(stuck)
    team.change("chat", {"serving": engine()})
    team.ready("chat", within_seconds=180)


def test_another_image(alone: RealTeam, operator: Operator, scene: Scene) -> None:
    old = _names(alone)
    with scene("image change"):
        alone.change(NAME, {"serving": {"engine": {"image": image.ALSO}}})
        until(lambda: _names(alone) - old, what="a new pod")
        settled(alone, 1)
        alone.ready(NAME)


def test_another_context_length_while_the_operator_is_killed(
    alone: RealTeam, operator: Operator, scene: Scene
) -> None:
    old = _names(alone)
    with scene("spec change, operator killed in the middle"):
        alone.change(NAME, {"serving": {"contextLength": 4096}})
        until(lambda: _names(alone) - old, what="a new pod")
        operator.kill()
        operator.ensure_running()
        settled(alone, 1)
        alone.ready(NAME)


def test_three_quick_edits(alone: RealTeam, operator: Operator, scene: Scene) -> None:
    with scene("three quick edits"):
        for length in (4104, 4112, 4120):
            old = _names(alone)
            alone.change(NAME, {"serving": {"contextLength": length}})
            until(lambda old=old: _names(alone) - old, what="a pod of this edit")
        settled(alone, 1)
        alone.ready(NAME)


def test_one_then_three_then_one(alone: RealTeam, operator: Operator, scene: Scene) -> None:
    with scene("scale 1 to 3 to 1"):
        for replicas in (3, 1):
            alone.change(NAME, {"replicas": replicas})
            settled(alone, replicas)
