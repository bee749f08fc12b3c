"""One sandbox's life: up, used, down. The command line and the tests both come through here.

A sandbox is a folder and processes that carry the folder's name. `start` sweeps away whatever an earlier one
of that name left, however it ended; nothing else is ever touched.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from gemma_operator.errors import SandboxError
from gemma_operator.sandbox import audit, build, identities, locks, plane, processes
from gemma_operator.sandbox import block as blocks
from gemma_operator.sandbox import fleet as fleets
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.starting import Starter, prepare, write_kubeconfigs

_NODES_LIMIT_SECONDS = 120

Say = Callable[[str], None]


def _silent(_: str) -> None:
    """The default for who does not want to hear of the progress."""


class Sandbox:
    """A sandbox that is up. `start` makes one, `attach` finds one that runs already."""

    def __init__(self, folder: StateFolder, state: Mapping[str, Any]) -> None:
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
        """A fresh sandbox with this fleet (None: the packaged one); an older one of that name goes first."""
        folder = StateFolder.named(name)
        nodes = fleets.nodes(fleets.default() if fleet is None else fleet)
        binaries = build.binaries(assets, say=log)
        with locks.held(folder.lock_file, purpose=f"sandbox {name} up", say=log):
            _sweep(folder, say=log)
            try:
                return cls._bring_up(folder, binaries, nodes, say=log)
            except BaseException:
                _sweep(folder, say=_silent)
                folder.lock_file.unlink(missing_ok=True)
                raise

    @classmethod
    def attach(cls, name: str = "default") -> Sandbox:
        """The sandbox of that name, which must run."""
        folder = StateFolder.named(name)
        state = folder.read_state()
        again = f"`gemma-operator sandbox up --name {name}`"
        if not state.get("ready") or not processes.find(folder.path):
            raise SandboxError(f"sandbox {name!r} does not run: start it with {again}")
        if missing := missing_components(folder):
            raise SandboxError(
                f"sandbox {name!r} is broken, {', '.join(missing)} died (logs in {folder.logs}): "
                f"{again} starts a fresh one"
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

    def audit_mark(self) -> int:
        """A position in the audit log behind everything that was answered by now."""
        return audit.mark(self.audit_log, self.client)

    def requests(self, *, user: str = identities.OPERATOR.user, since: int = 0) -> list[audit.Request]:
        """What a user (default: the operator) asked since a mark, until now."""
        return audit.requests(self.audit_log, user=user, since=since, until=self.audit_mark())

    @property
    def client(self) -> Client:
        """Blocking calls as administrator."""
        if self._client is None:
            self._client = Client(self.url, token=self.admin_token, ca_file=self.ca_file)
        return self._client

    def add_nodes(self, nodes: Iterable[dict[str, Any]]) -> None:
        """Let nodes join; one whose name is taken keeps its place and gets the new labels and status."""
        fleets.add(self.client, nodes)

    def become(self, fleet: Mapping[str, Any]) -> None:
        """Make the fleet exactly this one; the nodes that stay keep their pods."""
        fleets.become(self.client, fleets.nodes(fleet))
        fleets.wait_ready(self.client, limit_seconds=_NODES_LIMIT_SECONDS)

    def delete_node(self, name: str, *, collect_pods: bool = False) -> None:
        """Take a node away, as a cloud does. Its model servers refuse at once.

        controller-manager's pod GC then collects the pods, which takes about a minute; `collect_pods` does
        it here and now.
        """
        fleets.delete(self.client, name, collect_pods=collect_pods)

    def close(self) -> None:
        """Let go of our connections; the sandbox stays up."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def stop(self) -> list[str]:
        """End it: no process, no file is left. Returns the components that still lived."""
        self.close()
        return remove(self.name)

    @classmethod
    def _bring_up(
        cls, folder: StateFolder, binaries: Path, nodes: list[dict[str, Any]], *, say: Say
    ) -> Sandbox:
        began = time.monotonic()
        claim = blocks.claim()
        try:
            state = prepare(folder, claim.block)
            admin = state["tokens"][identities.ADMIN.key]
            starter = Starter(folder, token=admin)
            starter.start(plane.etcd(binaries, folder, claim.block))
            starter.start(plane.apiserver(binaries, folder, claim.block))
            write_kubeconfigs(folder, claim.block, state["tokens"])
            starter.start(*plane.followers(binaries, folder, claim.block))
        finally:
            claim.release()
        say(f"control plane at {plane.url(claim.block)} after {time.monotonic() - began:.1f} s")
        sandbox = cls(folder, state)
        sandbox.add_nodes(nodes)
        fleets.wait_ready(sandbox.client, limit_seconds=_NODES_LIMIT_SECONDS)
        folder.write_state({**state, "ready": True})
        say(f"{len(nodes)} simulated nodes ready after {time.monotonic() - began:.1f} s")
        return sandbox


def remove(name: str, *, say: Say = _silent) -> list[str]:
    """End the sandbox of that name, whole or half; returns the components that lived."""
    folder = StateFolder.named(name)
    if not folder.path.exists() and not folder.lock_file.exists() and not processes.find(folder.path):
        return []
    with locks.held(folder.lock_file, purpose=f"sandbox {name} down", say=say, remove_after=True):
        return _sweep(folder, say=_silent)


def missing_components(folder: StateFolder) -> list[str]:
    """The components of which no process lives."""
    living = {process.component for process in processes.find(folder.path)}
    return [component for component in plane.COMPONENTS if component not in living]


def _sweep(folder: StateFolder, *, say: Say) -> list[str]:
    killed = processes.kill_all(folder.path)
    if killed:
        say(f"ended what an earlier sandbox {folder.name!r} left: {', '.join(killed)}")
    shutil.rmtree(folder.path, ignore_errors=True)
    if folder.path.exists():
        raise SandboxError(f"{folder.path} cannot be deleted: look at who owns it")
    return killed
