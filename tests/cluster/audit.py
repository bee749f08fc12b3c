"""Who wrote what, from the API server's audit log: the truth about writes, since it is not the operator's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OPERATOR = "system:serviceaccount:gemma-system:gemma-operator"
_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_KINDS = {
    "deployments": "Deployment",
    "services": "Service",
    "serviceaccounts": "ServiceAccount",
    "networkpolicies": "NetworkPolicy",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "gemmadeployments": "GemmaDeployment",
    "pods": "Pod",
    "jobs": "Job",
    "events": "Event",
}
_CREATED = 201


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was answered. `str` is how tests speak of it: `apply Service chat`."""

    verb: str
    kind: str
    name: str
    code: int

    def __str__(self) -> str:
        return f"{self.verb} {self.kind}" if self.kind == "Event" else f"{self.verb} {self.kind} {self.name}"

    @property
    def created(self) -> bool:
        """An apply that found nothing there."""
        return self.verb == "apply" and self.code == _CREATED


@dataclass(frozen=True, slots=True)
class Position:
    """A moment, and where the log was then.

    A line is written after what it tells of can be seen, so it is the moment at which a request came that tells
    whether it was before: the API server runs on this machine and writes it as `at` is written.
    """

    offset: int
    at: str


START = Position(0, "")


class AuditLog:
    """The audit log of one sandbox."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def position(self) -> Position:
        """Now, for `writes(since=…)`."""
        return Position(self._path.stat().st_size, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

    def writes(self, *, namespace: str = "", since: Position = START, user: str = OPERATOR) -> list[Write]:
        """Writes that `user` began since then, in the order in which they were answered, as far as they are written
        down: one that can be seen may lack for a moment. Leases are no writes: they are heart-beats.
        """
        return [_write(event) for event in self._events(namespace, since, user) if _counts(event)]

    def _events(self, namespace: str, since: Position, user: str) -> Iterator[dict[str, Any]]:
        wanted = (user.encode(), f'"namespace":"{namespace}"'.encode() if namespace else b"")
        with self._path.open("rb") as log:
            log.seek(since.offset)
            for line in log:
                if line.endswith(b"\n") and all(words in line for words in wanted):
                    event = json.loads(line)
                    if event["user"]["username"] == user and event["requestReceivedTimestamp"] >= since.at:
                        yield event


def _counts(event: dict[str, Any]) -> bool:
    return event["verb"] in _WRITES and event["objectRef"]["resource"] != "leases"


def _write(event: dict[str, Any]) -> Write:
    of = event["objectRef"]
    kind = _KINDS.get(of["resource"], of["resource"])
    verb = {"patch": "apply"}.get(event["verb"], event["verb"])
    if of.get("subresource"):
        kind = of["subresource"]
    return Write(verb, kind, of.get("name", ""), event.get("responseStatus", {}).get("code", 0))
