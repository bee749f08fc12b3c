"""Where the sandbox keeps its things: the user's cache folder, and one private folder a sandbox."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemma_operator.errors import UsageError

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


def cache_root() -> Path:
    """The folder that may be deleted whole at any time when no sandbox runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "gemma-operator"


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The paths of one sandbox. Everything it writes is in here, and `down` deletes it."""

    name: str
    path: Path

    @classmethod
    def named(cls, name: str) -> StateFolder:
        """The folder of the sandbox `name`; nothing is created yet."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot name a sandbox: use at most 40 of a-z, 0-9 and '-', "
                "beginning and ending with a letter or digit"
            )
        return cls(name=name, path=cache_root() / "sandboxes" / name)

    @classmethod
    def all_existing(cls) -> list[StateFolder]:
        """Every sandbox that has a folder, whether it runs or not."""
        root = cache_root() / "sandboxes"
        if not root.is_dir():
            return []
        return [cls(name=entry.name, path=entry) for entry in sorted(root.iterdir()) if entry.is_dir()]

    @property
    def lock_file(self) -> Path:
        """Held while a sandbox of this name comes up or goes; beside the folder, which comes and goes."""
        return self.path.with_name(f".{self.name}.lock")

    @property
    def logs(self) -> Path:
        """One log a component."""
        return self.path / "logs"

    @property
    def certificates(self) -> Path:
        """The API server's own certificate and key; the key signs ServiceAccount tokens too."""
        return self.path / "certificates"

    @property
    def ca_file(self) -> Path:
        """The certificate that clients trust: the API server signs its own."""
        return self.certificates / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        """The user's kubeconfig: an administrator."""
        return self.path / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON line a request, with the user who made it."""
        return self.path / "audit.log"

    def kubeconfig_of(self, component: str) -> Path:
        """The kubeconfig of one component or identity."""
        return self.path / f"kubeconfig-{component}"

    def log_of(self, component: str) -> Path:
        """Where a component's output goes."""
        return self.logs / f"{component}.log"

    def write_state(self, state: dict[str, Any]) -> None:
        """Record what this sandbox is, in one rename, so that a reader never sees half of it."""
        temporary = self.path / ".state.json"
        temporary.write_text(json.dumps(state, indent=1))
        temporary.rename(self.path / "state.json")

    def read_state(self) -> dict[str, Any]:
        """What `write_state` recorded; empty where an `up` died before that."""
        try:
            state = json.loads((self.path / "state.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}
