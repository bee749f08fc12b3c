"""A real engine as a process of this machine: exactly the container that the operator would run, without a cluster.

What the pod would mount lies elsewhere here, so the places that the container names are replaced; nothing else is.
It listens where the operator tells it to, so two of them cannot run at once on one machine, only in namespaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from cluster.waiting import until
from engine.model import environment, models
from gemma_operator.api import names
from gemma_operator.backends.kubernetes import render_access, render_farewell, render_pod
from gemma_operator.catalog import loader
from gemma_operator.cli import asked, documents, fleets, plan
from gemma_operator.engines.access_middleware import PROBE_KEY_HASH
from gemma_operator.engines.registry import engine_named
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

CATALOG = Path(__file__).with_name("catalog")
_NODE = Path(__file__).parents[2] / "data/nodes/k3s-l4-gce.yaml"
#: What the operator shows a guarded engine.
PROBE_KEY = "of-the-operator"
_PORT = 8000
_STARTED_WITHIN_SECONDS = 240
#: The tests with a cluster take longer than those without, and two workers share the machine.
_BEHIND_THE_CLUSTER = ("nice", "-n", "5")
_PORT_FREE_WITHIN_SECONDS = 90


def planned(manifest: Path) -> tuple[Plan, dict[str, Any]]:
    """What the operator plans for the manifest on a node with an L4, and the engine's container."""
    made, template = _rendered(manifest)
    return made, template["spec"]["containers"][0]


def bringing(manifest: Path) -> dict[str, Any]:
    """The container that brings the weights before the engine starts."""
    (container,) = _rendered(manifest)[1]["spec"]["initContainers"]
    found: dict[str, Any] = container
    return found


def changed(
    container: dict[str, Any], *arguments: str, model: str = models.TINY, **variables: str
) -> dict[str, Any]:
    """With another model of the folder, arguments that count last, and other variables."""
    kept = [each for each in container["env"] if each["name"] not in variables]
    given = [{"name": name, "value": value} for name, value in variables.items()]
    args = [f"/mnt/model/{model}", *container["args"][1:], *arguments]
    return {**container, "args": args, "env": [*kept, *given]}


def guarded(manifest: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The engine's container where `access.apiKey` is set, and the files beside the users' keys."""
    template = _rendered(manifest)[1]
    said = template["metadata"]["annotations"]
    files = {
        engine_named("VLLM").guard.file_name: said[names.ACCESS_GUARD],
        PROBE_KEY_HASH: said[names.ACCESS_PROBE],
    }
    return template["spec"]["containers"][0], files


def _rendered(manifest: Path) -> tuple[Plan, dict[str, Any]]:
    question = asked.from_file(str(manifest))
    catalog = loader.load(CATALOG)
    fleet = fleets.of_objects(documents.objects(str(_NODE)))
    made = plan.plan(question, fleet, catalog, planned_at="2026-11-26T00:00:00Z").plan
    assert made is not None, "the tiny model has no plan"
    engine = engine_named(made.engine)
    template = render_pod.pod_template(
        question.deployment,
        made,
        settings=OperatorSettings(),
        engine=engine,
        budget_seconds=600,
        access=render_access.access_of(question.deployment, engine=engine, probe_key=PROBE_KEY),
    )
    return made, template


def _port_is_free() -> bool:
    """As the engine itself will ask for it; what an earlier one has left there goes within a minute."""
    with socket.socket() as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asking.bind(("127.0.0.1", _PORT))
        except OSError:
            return False
    return True


class Starting:
    """Runs while the block lasts, answers or not, and leaves no process behind."""

    def __init__(
        self, container: dict[str, Any], *, folder: Path, places: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._container = container
        self._last_words = folder / "termination-log"
        self._places = {
            "/mnt/model": str(models.folder(say=print)),
            "/cache": str(folder / "cache"),
            "/dev/termination-log": str(self._last_words),
            render_farewell.PATH: str(folder / "farewell"),
            **places,
        }
        self._packages = environment.site_packages(say=print)
        self._bin = folder / "bin"
        self.log_file = folder / "engine.log"
        self._process: subprocess.Popen[bytes] | None = None
        #: What the container's first process starts has a session of its own.
        self._session = 0

    def __enter__(self) -> Self:
        # somebody else's engine would answer in the place of ours
        until(_port_is_free, what=f"port {_PORT} is free", within_seconds=_PORT_FREE_WITHIN_SECONDS)
        self._write_commands()
        self._write_farewell()
        command = [
            *_BEHIND_THE_CLUSTER,
            *map(self._placed, self._container["command"]),
            *map(self._placed, self._container["args"]),
        ]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self._session = self._first_child()
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    @property
    def environment(self) -> dict[str, str]:
        """What the container sets, and what its image would."""
        given = {each["name"]: self._placed(each.get("value", "")) for each in self._container["env"]}
        path = [str(self._packages), *map(self._placed, given["PYTHONPATH"].split(":"))]
        return {**given, "PATH": f"{self._bin}:/usr/bin:/bin", "PYTHONPATH": ":".join(path)}

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def last_words(self) -> str:
        """What the kubelet would find."""
        return self._last_words.read_text(errors="replace") if self._last_words.exists() else ""

    @property
    def processes(self) -> list[str]:
        """The names of those that live, the engine's own first."""
        return [name for _, name in sorted(self._living())]

    def probe(self) -> subprocess.CompletedProcess[str]:
        """The start-up probe, as the kubelet runs it in the container."""
        command = list(self._container["startupProbe"]["exec"]["command"])
        for there, here in self._places.items():  # the script names the file of the keys
            command = [word.replace(f'"{there}/', f'"{here}/') for word in command]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def terminate(self) -> None:
        """What the kubelet sends to the container's first process."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def ended(self, *, within_seconds: float) -> int:
        """The exit code."""
        assert self._process is not None
        return self._process.wait(within_seconds)

    def _placed(self, text: str) -> str:
        for there, here in self._places.items():
            if text == there or text.startswith(f"{there}/"):
                return here + text[len(there) :]
        return text

    def _write_farewell(self) -> None:
        program = engine_named("VLLM").farewell
        assert program is not None
        folder = Path(self._places[render_farewell.PATH])
        folder.mkdir()
        (folder / program.file_name).write_text(program.source)

    def _write_commands(self) -> None:
        self._bin.mkdir()
        (self._bin / "python3").symlink_to(environment.interpreter())
        vllm = self._bin / "vllm"
        vllm.write_text(environment.COMMAND.format(python=self._bin / "python3"))
        vllm.chmod(0o755)

    def _first_child(self) -> int:
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        while self._process.poll() is None:
            if found := children.read_text().split():
                return int(found[0])
            time.sleep(0.01)
        raise AssertionError(f"nothing was started: {self.log[-3000:]}")

    def _living(self) -> Iterator[tuple[int, str]]:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                name, _, rest = (process / "stat").read_text().partition("(")[2].rpartition(")")
            except (FileNotFoundError, ProcessLookupError):
                continue
            state, _, _, session, *_ = rest.split()
            if state != "Z" and int(session) == self._session:
                yield int(process.name), name

    def _kill(self) -> None:
        assert self._process is not None
        for pid in (self._process.pid, *(each for each, _ in self._living())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        # gigabytes are given back after the kill, and the next engine needs them
        until(lambda: not list(self._living()), what="all processes of the engine have ended")


class Engine(Starting):
    """Serves while the block lasts."""

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._wait_for_health()
        except BaseException:
            self._kill()
            raise
        return self

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask(urllib.request.Request(f"http://127.0.0.1:{_PORT}{path}"))

    def post(
        self, path: str, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[int, dict[str, Any]]:
        status, answer = self._ask(_request(path, body, headers))
        return status, json.loads(answer)

    def stream(
        self, path: str, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[dict[str, Any]]:
        """The events of an answer, as they come."""
        with urllib.request.urlopen(_request(path, {**body, "stream": True}, headers), timeout=120) as answer:
            for line in answer:
                if line.startswith(b"data: {"):
                    yield json.loads(line[len(b"data: ") :])

    def _ask(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _wait_for_health(self) -> None:
        deadline = time.monotonic() + _STARTED_WITHIN_SECONDS
        assert self._process is not None
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"the engine ended: {self.log[-3000:]}"
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"no /health within {_STARTED_WITHIN_SECONDS} s: {self.log[-3000:]}")


def _request(
    path: str, body: dict[str, Any], headers: Mapping[str, str] = MappingProxyType({})
) -> urllib.request.Request:
    sent = {"Content-Type": "application/json", **headers}
    return urllib.request.Request(f"http://127.0.0.1:{_PORT}{path}", json.dumps(body).encode(), sent)
