"""The operator as a process of its own, run as its own ServiceAccount, started and killed as tests like.

Nothing of it is imported here: what a test sees is what a cluster sees. Its log goes to a file that a failing
test shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from cluster.waiting import LIMIT_SECONDS, until

#: Short enough that a killed operator is followed soon, long enough for two busy cores.
_SETTINGS = {
    "probePeriodSeconds": 1.0,
    "probeTimeoutSeconds": 2.0,
    "fleetDebounceSeconds": 0.2,
    "leaseDurationSeconds": 4,
    "leaseRenewSeconds": 3,
    "leaseRetrySeconds": 0.5,
    "rediscoverSeconds": 2,
    "surgePatienceSeconds": 1,
    "contestWindowSeconds": 20,
}
_UNWANTED = ("KUBECONFIG", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_TAIL_LINES = 60


class Operator:
    """One operator process at a time, against one kubeconfig."""

    def __init__(
        self,
        folder: Path,
        *,
        kubeconfig: Path,
        settings: Mapping[str, Any] | None = None,
        enter: Sequence[str] = (),
    ) -> None:
        """`enter` is what the command is prefixed with, to run in another network namespace."""
        self._enter = tuple(enter)
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / "operator.log"
        self._kubeconfig = kubeconfig
        self._settings = folder / "settings.yaml"
        self._settings.write_text(yaml.safe_dump({**_SETTINGS, **(settings or {})}))
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the process that was started last has said."""
        return self.log_file.read_text()[self._said_before :] if self.log_file.exists() else ""

    @property
    def tail(self) -> str:
        """The end of the log, of all processes."""
        text = self.log_file.read_text() if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-_TAIL_LINES:])

    @property
    def metrics_port(self) -> int:
        """The port that it chose."""
        found = until(
            lambda: re.search(r"metrics on port (\d+)", self.log), what="the metrics port in the log"
        )
        return int(found.group(1))

    @property
    def rss_mib(self) -> float:
        """Resident memory now."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) / 1024

    def start(self) -> None:
        """Starts it and does not wait."""
        assert not self.runs, "it runs already"
        self._said_before = len(self.log_file.read_text()) if self.log_file.exists() else 0
        environment = {key: value for key, value in os.environ.items() if key not in _UNWANTED}
        arguments = ("--settings", str(self._settings), "--metrics-port", "0")
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._enter,
                    sys.executable,
                    "-m",
                    "gemma_operator",
                    "run",
                    "--kubeconfig",
                    str(self._kubeconfig),
                    *arguments,
                ],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def wait(self, *, within_seconds: float = LIMIT_SECONDS) -> int:
        """Until it ends by itself; the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=within_seconds)

    @property
    def last_words(self) -> list[str]:
        """Its log without what it says of itself at the start."""
        return [line for line in self.log.splitlines() if "INFO    gemma-operator " not in line]

    def metrics(self) -> str:
        """What it tells Prometheus."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False, timeout=30).text

    def until_leading(self) -> None:
        """Until it holds the Lease, so until it may write."""
        until(lambda: ": leading" in self.log or not self.runs, what="the operator leads", within_seconds=90)
        assert self.runs, self.tail

    def ensure_running(self) -> None:
        """Starts it where it does not run."""
        if not self.runs:
            self.start()
            self.until_leading()

    def kill(self) -> None:
        """SIGKILL: it writes nothing more, and the Lease is not released."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self, *, within_seconds: float = LIMIT_SECONDS) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=within_seconds)

    def restart(self) -> None:
        """A clean end and a new start."""
        self.stop()
        self.ensure_running()

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self.runs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(within_seconds=10)
        self.kill()
