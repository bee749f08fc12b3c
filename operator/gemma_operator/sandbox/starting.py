"""The steps of `up`: the files that components read, their processes, and the wait until each answers."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import Any

import httpx

import gemma_operator
from gemma_operator.errors import SandboxError
from gemma_operator.sandbox import identities, plane, processes
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.paths import StateFolder

_LIMIT_SECONDS = 120
_POLL_SECONDS = 0.05
_TAIL_LINES = 12
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def prepare(folder: StateFolder, block: Block) -> dict[str, Any]:
    """Make the folder, private to this user, with what the API server and kwok read; returns the state."""
    for path in (folder.path, folder.logs, folder.certificates):
        path.mkdir(mode=0o700, parents=True)
    tokens = identities.new_tokens()
    state = {"name": folder.name, "block": block.number, "tokens": tokens, "ready": False}
    folder.write_state(state)
    (folder.path / "tokens.csv").write_text(identities.token_file(tokens))
    (folder.path / "audit-policy.yaml").write_text(plane.AUDIT_POLICY)
    (folder.path / "stages.yaml").write_text(plane.stages())
    return state


def write_kubeconfigs(folder: StateFolder, block: Block, tokens: dict[str, str]) -> None:
    """One kubeconfig an identity; the API server has made its certificate by now."""
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
        path.touch(mode=0o600)
        path.write_text(text)


class Starter:
    """Starts components and waits until they answer, or tells why one does not."""

    def __init__(self, folder: StateFolder, *, token: str) -> None:
        self._folder = folder
        self._pids: dict[str, int] = {}
        self._headers = {"Authorization": f"Bearer {token}"}

    def start(self, *components: plane.Component) -> None:
        """Start these side by side and return when each answers."""
        for component in components:
            self._pids[component.name] = processes.spawn(
                component.argv,
                component=component.name,
                folder=self._folder.path,
                log_file=self._folder.log_of(component.name),
                environment=_environment(),
            )
        deadline = time.monotonic() + _LIMIT_SECONDS
        for component in components:
            self._wait(component, deadline=deadline)

    def _wait(self, component: plane.Component, *, deadline: float) -> None:
        while not self._answers(component):
            if processes.has_ended(self._pids[component.name]):
                raise SandboxError(
                    f"{component.name} ended as soon as it was started; {self._tail(component)}"
                )
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{component.name} did not answer within {_LIMIT_SECONDS} s; {self._tail(component)}"
                )
            time.sleep(_POLL_SECONDS)

    def _answers(self, component: plane.Component) -> bool:
        if component.health_url is None:
            return (self._folder.path / f"{component.name}.ready").exists()
        secure = component.health_url.startswith("https:")
        try:
            verify = ssl.create_default_context(cafile=str(self._folder.ca_file)) if secure else False
            headers = self._headers if secure else {}
            with httpx.Client(verify=verify, trust_env=False, timeout=2, headers=headers) as http:
                return http.get(component.health_url).is_success
        except (httpx.HTTPError, OSError):  # not listening yet, or the certificate is not written yet
            return False

    def _tail(self, component: plane.Component) -> str:
        log = self._folder.log_of(component.name)
        lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:] if log.exists() else []
        return "the end of its log:\n  " + "\n  ".join(line[:300] for line in lines)


def _environment() -> dict[str, str]:
    """Ours, without what would send the components' requests elsewhere."""
    unwanted = {"KUBECONFIG", *_PROXIES, *(name.lower() for name in _PROXIES)}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    # The daemon must find this package as we did, installed or not.
    package_root = str(Path(gemma_operator.__file__).parents[1])
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [package_root, kept.get("PYTHONPATH")]))}
