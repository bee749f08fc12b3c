"""Many deployments that fail at once on real nodes, and when Kubernetes showed each failure and the status said it.

One thread looks at all of them, so that a failure which a test waits for late is timed like the first. What was said is
taken away: it has failed for long enough, and others wait for its GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cluster.teams import Object, condition
from cluster.waiting import until
from engine.houses import RealTeam

_RECORDED = Path(__file__).parents[2] / "data/failures"
_LOOK_SECONDS = 0.2
_OF_A_POD = ("gemma-operator.io/deployment", "gemma-operator.io/weights")
_IN_TURN = (None, "PodInitializing", "ContainerCreating")


def words(name: str) -> str:
    """What the stand-in is told, to end with the text of a recorded failure."""
    text = (_RECORDED / f"{name}.txt").read_text().split("\n", 3)[3].rstrip("\n")
    return f"says:{text}"


@dataclass(frozen=True)
class Seen:
    """What Kubernetes shows of one deployment."""

    name: str
    pods: Sequence[Object]
    events: Sequence[Object]


Shown = Callable[[Seen], bool]


def waits(seen: Seen) -> bool:
    """A container waits for something else than its turn."""
    return any(status["state"].get("waiting", {}).get("reason") not in _IN_TURN for status in _statuses(seen))


def ended(seen: Seen) -> bool:
    """A container ended, and not well."""
    return any(
        status.get(state, {}).get("terminated", {}).get("exitCode")
        for status in _statuses(seen)
        for state in ("state", "lastState")
    )


def ended_again(seen: Seen) -> bool:
    """A container ended after it had been started anew."""
    return ended(seen) and any(
        status["restartCount"] and not status["state"].get("running") for status in _statuses(seen)
    )


def homeless(seen: Seen) -> bool:
    """The scheduler found no node."""
    said = [each for pod in seen.pods for each in pod["status"].get("conditions", ())]
    return any((each["type"], each.get("reason")) == ("PodScheduled", "Unschedulable") for each in said)


def not_made(seen: Seen) -> bool:
    """A controller was not let make a pod."""
    return any(
        event["reason"] == "FailedCreate" and event["regarding"]["name"].startswith(f"{seen.name}-")
        for event in seen.events
    )


def sent_away(seen: Seen) -> bool:
    """A node evicted a pod."""
    return any(pod["status"].get("reason") == "Evicted" for pod in seen.pods)


def _statuses(seen: Seen) -> Iterator[Object]:
    for pod in seen.pods:
        for kind in ("initContainerStatuses", "containerStatuses"):
            yield from pod["status"].get(kind, ())


@dataclass
class Case:
    """One deployment that fails: what is to be said of it, in which words, and whether it is the user's move."""

    team: RealTeam
    made: Object
    reason: str
    words: str
    shows: Shown
    #: In the end; None where it depends on how often it has happened.
    stalled: bool | None = False
    #: The last look before Kubernetes was seen to show it.
    unshown_at: float = 0.0
    shown: bool = False
    said_at: float = 0.0
    #: The object as it first said so.
    seen: Object = field(default_factory=dict)

    @property
    def name(self) -> str:
        name: str = self.made["metadata"]["name"]
        return name

    @property
    def message(self) -> str:
        return str(condition(self.seen, "Ready")["message"])

    @property
    def most_seconds(self) -> float:
        """From Kubernetes to the status, at most: between two looks nobody knows when it was."""
        return self.said_at - self.unshown_at

    @property
    def over(self) -> bool:
        """Shown and said."""
        return bool(self.shown and self.said_at)

    def begin(self) -> None:
        """As a user does who does not wait."""
        self.team.client.create(self.team.path("GemmaDeployment"), self.made)

    def take(self, obj: Object, seen: Seen, *, began: float) -> None:
        """One look, which began then."""
        self.shown = self.shown or self.shows(seen)
        if not self.shown:
            self.unshown_at = began
        if not self.said_at:
            self.seen = obj
            last = bool(condition(obj, "Stalled")) or not self.stalled
            if condition(obj, "Ready").get("reason") == self.reason and last:
                self.said_at = time.monotonic()


class Failing:
    """All cases, looked at until each was said or the scene is over."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        self._cases = cases
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look_on)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def said(self, name: str, *, within_seconds: float) -> Case:
        """Waits until the status says this one."""
        case = self._cases[name]
        try:
            until(lambda: case.over, what=f"{name} is said as {case.reason}", within_seconds=within_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {case.seen.get('status')}") from None
        return case

    def _look_on(self) -> None:
        while waiting := [case for case in self._cases.values() if not case.over]:
            for team in {id(case.team): case.team for case in waiting}.values():
                _look(team, {case.name: case for case in waiting if case.team is team})
            if self._over.wait(_LOOK_SECONDS):
                return


def _look(team: RealTeam, cases: Mapping[str, Case]) -> None:
    began = time.monotonic()
    untold = {case.shows for case in cases.values()}
    pods = _pods(team) if untold - {not_made} else {}
    events = team.all("Event") if not_made in untold else []
    for obj in team.all("GemmaDeployment"):
        name = obj["metadata"]["name"]
        if name in cases:
            cases[name].take(obj, Seen(name, pods.get(name, []), events), began=began)
    for case in cases.values():
        if case.over:
            team.delete("GemmaDeployment", case.name)


def _pods(team: RealTeam) -> dict[str, list[Object]]:
    """By whose they are, of the engine or of the Job that brings weights."""
    found: dict[str, list[Object]] = {}
    for pod in team.client.items(team.path("Pod")):
        labels = pod["metadata"]["labels"]
        owner = next((labels[label] for label in _OF_A_POD if label in labels), "")
        found.setdefault(owner, []).append(pod)
    return found
