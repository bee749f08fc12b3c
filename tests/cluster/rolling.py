"""What tests of rollouts look at all the time: how many replicas serve, and what becomes of requests meanwhile."""

from __future__ import annotations

import threading
from typing import Any, Self

import httpx

from cluster.teams import Team
from gemma_operator.sandbox.visit import endpoints

_PAUSE_SECONDS = 0.05
_BODY = {"model": "chat", "prompt": "hello", "max_tokens": 1}


def is_ready(pod: dict[str, Any]) -> bool:
    """By Kubernetes: it generated a token in its start-up probe, and answers /health."""
    return any(
        said["type"] == "Ready" and said["status"] == "True" for said in pod["status"].get("conditions", ())
    )


def has_ended(pod: dict[str, Any]) -> bool:
    """Whether an engine of it ended, this one or the one before it."""
    statuses = pod["status"].get("containerStatuses", ())
    return any("terminated" in {**each.get("state", {}), **each.get("lastState", {})} for each in statuses)


class Watched:
    """While it is entered: the fewest replicas that served at once, and each request that nobody answered.

    A request goes to a pod that is behind the Service; the pods are simulated and have no preStop, so one that is just
    going may refuse, and the next look at the endpoints is the retry that a client would make.
    """

    def __init__(self, team: Team, name: str = "chat") -> None:
        self._team, self._name = team, name
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {name}")
        self.fewest = 10**6
        self.most_pods = 0
        self.answered = 0
        self.failed: list[str] = []
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._look()  # a rollout may be over before a thread had its first turn
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with httpx.Client(trust_env=False, timeout=5) as http:
                while not self._over.wait(_PAUSE_SECONDS):
                    self._look()
                    self._ask(http)
        except BaseException as error:  # raised again by the test
            self._error = error

    def _look(self) -> None:
        pods = self._team.pods(self._name)
        self.fewest = min(self.fewest, sum(map(is_ready, pods)))
        self.most_pods = max(self.most_pods, len(pods))

    def _ask(self, http: httpx.Client) -> None:
        why = "no endpoint"
        for _attempt in range(3):
            found = endpoints(self._team.client, namespace=self._team.namespace, service=self._name)
            for endpoint in found[self.answered % max(1, len(found)) :] + found:
                try:
                    answer = http.post(f"http://{endpoint.host}:{endpoint.port}/v1/completions", json=_BODY)
                except httpx.HTTPError as error:
                    why = repr(error)
                    continue
                if answer.status_code == 200:
                    self.answered += 1
                    return
                why = f"{endpoint.pod}: HTTP {answer.status_code}"
                break
        self.failed.append(why)
