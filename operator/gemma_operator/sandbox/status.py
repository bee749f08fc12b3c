"""What runs, as the command line shows it."""

from __future__ import annotations

import contextlib
from typing import Any

from gemma_operator.errors import ApiError
from gemma_operator.sandbox import fleet, processes
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.session import Sandbox, missing_components


def status(folder: StateFolder) -> dict[str, Any]:
    """State `up`, `down` or `broken`, the processes, and what the API server holds where it should answer."""
    living = sorted(processes.find(folder.path), key=lambda process: process.component)
    state = folder.read_state()
    missing = missing_components(folder) if living else []
    healthy = bool(living) and not missing and bool(state.get("ready"))
    shown: dict[str, Any] = {
        "name": folder.name,
        "state": "up" if healthy else "broken" if living else "down",
        "processes": [{"component": process.component, "pid": process.pid} for process in living],
        "missing": missing,
    }
    if not healthy:
        return shown
    with contextlib.closing(Sandbox(folder, state)) as sandbox:
        try:
            return {
                **shown,
                "url": sandbox.url,
                "kubeconfig": str(sandbox.kubeconfig),
                "logs": str(folder.logs),
                **_counts(sandbox.client),
            }
        except ApiError as error:
            return {**shown, "state": "broken", "error": str(error)}


def _counts(client: Client) -> dict[str, dict[str, int]]:
    return {kind: _ready(client.items(f"/api/v1/{kind}")) for kind in ("nodes", "pods")}


def _ready(bodies: list[dict[str, Any]]) -> dict[str, int]:
    return {"total": len(bodies), "ready": sum(1 for body in bodies if fleet.is_true(body, "Ready"))}
