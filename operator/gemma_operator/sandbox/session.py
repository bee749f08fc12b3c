"""One sandbox's life: up, used, down. The command line and the tests both come through here.

A sandbox is a folder and processes that carry the folder's name. `start` sweeps away whatever an earlier one
of that name left, however it ended; nothing else is ever touched.
"""

from __future__ import annotations

import os
import shutil
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from gemma_operator.errors import ApiError, SandboxError
from gemma_operator.sandbox import block as blocks
from gemma_operator.sandbox import build, identities, locks, plane, processes
from gemma_operator.sandbox import fleet as fleets
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.paths import StateFolder

_START_LIMIT_SECONDS = 120
_COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "daemon")

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """The default for who does not want to hear of the progress."""


class Sandbox:
    """A sandbox that is up. `start` makes one, `attach` finds one that runs already."""

    def __init__(self, folder: StateFolder, state: dict[str, Any]) -> None:
        self.folder = folder
        self.block = Block(int(state["block"]))
        self._tokens: dict[str, str] = state["tokens"]
        self._client: Client | None = None

    @classmethod
    def start(
        cls,
        name: str = "default",
        *,
        fleet: Mapping[str, Any] | None = None,
        assets: str | None = None,
        log: Say = _silent,
    ) -> Sandbox:
        """A fresh sandbox with this fleet (None: the packaged one); an older one of that name is removed."""
        folder = StateFolder.named(name)
        nodes = fleets.nodes(fleets.default() if fleet is None else fleet)
        binaries = build.binaries(assets, say=log)
        with locks.held(folder.lock_file, purpose=f"sandbox {name} up", say=log):
            _sweep(folder, say=log)
            try:
                return _bring_up(folder, binaries, nodes, say=log)
            except BaseException:
                _sweep(folder, say=_silent)
                raise

    @classmethod
    def attach(cls, name: str = "default") -> Sandbox:
        """The sandbox of that name, which must run."""
        folder = StateFolder.named(name)
        missing = missing_components(folder)
        state = folder.read_state()
        if missing or not state.get("ready"):
            raise SandboxError(
                f"sandbox {name!r} does not run: start it with `gemma-operator sandbox up --name {name}`"
                if len(missing) == len(_COMPONENTS) or not state.get("ready")
                else f"sandbox {name!r} is broken, {', '.join(missing)} died (logs in {folder.logs}): "
                f"`gemma-operator sandbox up --name {name}` starts a fresh one"
            )
        return cls(folder, state)

    @property
    def name(self) -> str:
        """The name under which it was started."""
        return self.folder.name

    @property
    def url(self) -> str:
        """The API server."""
        return plane.url(self.block)

    @property
    def ca_file(self) -> Path:
        """What to trust at `url`."""
        return self.folder.ca_file

    @property
    def admin_token(self) -> str:
        """An administrator's bearer token."""
        return self._tokens[identities.ADMIN.key]

    @property
    def operator_token(self) -> str:
        """The bearer token of the operator's ServiceAccount; what it may do is what RBAC grants it."""
        return self._tokens[identities.OPERATOR.key]

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.folder.kubeconfig

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's kubeconfig."""
        return self.folder.kubeconfig_of(identities.OPERATOR.key)

    @property
    def audit_log(self) -> Path:
        """The API server's audit log, a JSON line a request."""
        return self.folder.audit_log

    @property
    def client(self) -> Client:
        """Blocking calls as administrator."""
        if self._client is None:
            self._client = Client(self.url, token=self.admin_token, ca_file=self.ca_file)
        return self._client

    def add_nodes(self, nodes: Iterable[dict[str, Any]]) -> None:
        """Let nodes join the fleet; one whose name is taken keeps its place and gets the new labels and status."""
        fleets.add(self.client, nodes)

    def delete_node(self, name: str) -> None:
        """Take a node away, as a cloud does; controller-manager then collects its pods."""
        fleets.delete(self.client, name)

    def stop(self) -> list[str]:
        """End it: no process, no file is left. Returns the components that still lived."""
        if self._client is not None:
            self._client.close()
            self._client = None
        return remove(self.name)


def remove(name: str, *, say: Say = _silent) -> list[str]:
    """End the sandbox of that name, whole or half; returns the components that lived."""
    folder = StateFolder.named(name)
    if not folder.path.exists() and not processes.find(folder.path):
        return []
    with locks.held(folder.lock_file, purpose=f"sandbox {name} down", say=say, remove_after=True):
        return _sweep(folder, say=_silent)


def missing_components(folder: StateFolder) -> list[str]:
    """The components of which no process lives."""
    living = {process.component for process in processes.find(folder.path)}
    return [component for component in _COMPONENTS if component not in living]


def _sweep(folder: StateFolder, *, say: Say) -> list[str]:
    killed = processes.kill_all(folder.path)
    if killed:
        say(f"ended what an earlier sandbox {folder.name!r} left: {', '.join(killed)}")
    shutil.rmtree(folder.path, ignore_errors=True)
    if folder.path.exists():
        raise SandboxError(f"{folder.path} cannot be deleted: look at who owns it")
    return killed


def _bring_up(folder: StateFolder, binaries: Path, nodes: list[dict[str, Any]], *, say: Say) -> Sandbox:
    began = time.monotonic()
    claim = blocks.claim()
    try:
        state = _prepare(folder, claim.block)
        starter = _Starter(folder)
        starter.start(plane.etcd(binaries, folder, claim.block))
        starter.start(plane.apiserver(binaries, folder, claim.block), token=state["tokens"]["admin"])
        _write_kubeconfigs(folder, claim.block, state["tokens"])
        starter.start(*plane.followers(binaries, folder, claim.block), token=state["tokens"]["admin"])
    finally:
        claim.release()
    say(f"control plane at {plane.url(claim.block)} after {time.monotonic() - began:.1f} s")
    sandbox = Sandbox(folder, state)
    sandbox.add_nodes(nodes)
    fleets.wait_ready(sandbox.client, limit_seconds=_START_LIMIT_SECONDS)
    folder.write_state({**state, "ready": True})
    say(f"{len(nodes)} simulated nodes ready after {time.monotonic() - began:.1f} s")
    return sandbox


def _prepare(folder: StateFolder, block: Block) -> dict[str, Any]:
    for path in (folder.path, folder.logs, folder.certificates):
        path.mkdir(mode=0o700, parents=True)
    state = {"name": folder.name, "block": block.number, "tokens": identities.new_tokens(), "ready": False}
    folder.write_state(state)
    (folder.path / "tokens.csv").write_text(identities.token_file(state["tokens"]))
    (folder.path / "audit-policy.yaml").write_text(plane.AUDIT_POLICY)
    (folder.path / "stages.yaml").write_text(plane.stages())
    return state


def _write_kubeconfigs(folder: StateFolder, block: Block, tokens: dict[str, str]) -> None:
    certificate = folder.ca_file.read_bytes()
    for identity in identities.ALL:
        path = folder.kubeconfig if identity is identities.ADMIN else folder.kubeconfig_of(identity.key)
        text = identities.kubeconfig(
            sandbox=folder.name,
            url=plane.url(block),
            certificate=certificate,
            identity=identity,
            token=tokens[identity.key],
        )
        path.write_text(text)
        path.chmod(0o600)


class _Starter:
    """Starts components and waits until they answer, or tells why one does not."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder

    def start(self, *components: plane.Component, token: str = "") -> None:
        for component in components:
            processes.spawn(
                component.argv,
                component=component.name,
                folder=self._folder.path,
                log_file=self._folder.log_of(component.name),
                environment=_environment(),
            )
        deadline = time.monotonic() + _START_LIMIT_SECONDS
        for component in components:
            self._wait(component, token=token, deadline=deadline)

    def _wait(self, component: plane.Component, *, token: str, deadline: float) -> None:
        while not self._answers(component, token=token):
            if all(process.component != component.name for process in processes.find(self._folder.path)):
                raise SandboxError(
                    f"{component.name} ended as soon as it was started; {self._tail(component)}"
                )
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{component.name} did not answer within {_START_LIMIT_SECONDS} s; {self._tail(component)}"
                )
            time.sleep(0.05)

    def _answers(self, component: plane.Component, *, token: str) -> bool:
        if component.health_url is None:
            return (self._folder.path / f"{component.name}.ready").exists()
        if component.health_url.startswith("https:") and not self._folder.ca_file.exists():
            return False
        try:
            verify = self._trust() if component.health_url.startswith("https:") else False
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            with httpx.Client(verify=verify, trust_env=False, timeout=2) as http:
                return http.get(component.health_url, headers=headers).is_success
        except (httpx.HTTPError, ssl.SSLError, OSError):
            return False

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self._folder.ca_file))

    def _tail(self, component: plane.Component) -> str:
        log = self._folder.log_of(component.name)
        lines = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        return "the end of its log:\n  " + "\n  ".join(line[:300] for line in lines)


def _environment() -> dict[str, str]:
    """Ours, without what would send the components' requests elsewhere."""
    unwanted = {
        "KUBECONFIG",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    }
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def status(folder: StateFolder) -> dict[str, Any]:
    """What runs, as the command line shows it; asks the API server only if it should answer."""
    living = sorted(processes.find(folder.path), key=lambda process: process.component)
    state = folder.read_state()
    missing = missing_components(folder)
    shown: dict[str, Any] = {
        "name": folder.name,
        "state": "down" if not living else "up" if not missing and state.get("ready") else "broken",
        "processes": [{"component": process.component, "pid": process.pid} for process in living],
        "missing": missing if living else [],
    }
    if shown["state"] != "up":
        return shown
    sandbox = Sandbox(folder, state)
    try:
        shown |= {"url": sandbox.url, "kubeconfig": str(sandbox.kubeconfig), **_counts(sandbox.client)}
    except ApiError as error:
        shown |= {"state": "broken", "error": str(error)}
    finally:
        if sandbox._client is not None:
            sandbox._client.close()
    return shown


def _counts(client: Client) -> dict[str, Any]:
    pods = client.items("/api/v1/pods")
    ready = sum(1 for pod in pods if fleets.is_true(pod, "Ready"))
    nodes = client.items("/api/v1/nodes")
    return {
        "nodes": {"total": len(nodes), "ready": sum(1 for node in nodes if fleets.is_true(node, "Ready"))},
        "pods": {"total": len(pods), "ready": ready},
    }
