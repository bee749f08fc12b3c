"""The load of a scene: clients in a pod of the team, and what they say at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.houses import RealTeam

_PROGRAM = Path(__file__).with_name("load.py")
_KUBECTL = Path(sys.executable).with_name("kubectl")


class Clients:
    """They ask for as long as the block lasts; `report` afterwards."""

    def __init__(
        self, team: RealTeam, *, pod: str, url: str, model: str, clients: int, tokens: int, key: str = ""
    ) -> None:
        words = [url, model, "--clients", str(clients), "--tokens", str(tokens), "--key", key]
        kubectl = [str(_KUBECTL), "--kubeconfig", str(team.cluster.kubeconfig), "-n", team.namespace]
        program = ["python3", "-c", _PROGRAM.read_text(), *words]
        self._command = [*kubectl, "exec", "-i", pod, "--", *program]
        self.report: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self._answer()
        return self

    def mark(self, words: str) -> int:
        """Something begins or ends now; how many requests are in flight."""
        self._say(f"mark {words}")
        in_flight: int = self._answer()["inFlight"]
        return in_flight

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._say("stop")
            self.report = self._answer()
        self._process.kill()
        with self._process, self._errors:  # waits, and closes what leads to it
            pass

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"the clients ended: {self._errors.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
