"""The probes of a pod, read from its spec, played against its address, judged as the probe itself would.

kwok runs no probes, and no command can run in a pod that is not there. So an `exec` probe of the form
`[python3, -c, SCRIPT, PATH, BODY]` is played as what the operator's script does: POST BODY to PATH, success
when the answer is a 200 with at least one generated token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

_EXEC_LENGTH = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """What to ask, and how often. `body` None is a GET; `path` None: there is nothing to ask."""

    path: str | None
    body: str | None = None
    port: int | None = None  # None: the port of the model server
    initial_delay_seconds: float = 0
    period_seconds: float = 10
    timeout_seconds: float = 1
    failure_threshold: int = 3


def startup(container: Mapping[str, Any]) -> Probe:
    """What must succeed before the container counts as started; readiness where there is no other."""
    spec = container.get("startupProbe") or container.get("readinessProbe")
    return _probe(spec, container) if spec else Probe(path=None)


def token_was_generated(answer: object) -> bool:
    """Whether an answer of the completions API holds at least one generated token."""
    if not isinstance(answer, dict):
        return False
    usage = answer.get("usage") or {}
    if isinstance(usage, dict) and (usage.get("completion_tokens") or 0) > 0:
        return True
    return any(_text(choice) for choice in answer.get("choices") or [] if isinstance(choice, dict))


def patience_seconds(container: Mapping[str, Any]) -> float | None:
    """How long the liveness probe lets a container fail before it is killed; None where there is none."""
    spec = container.get("livenessProbe")
    if spec is None:
        return None
    return float((spec.get("periodSeconds") or 10) * (spec.get("failureThreshold") or 3))


async def succeeds(
    probe: Probe,
    *,
    host: str,
    port: int,
    http: aiohttp.ClientSession,
    credentials: Mapping[str, str] | None = None,
) -> bool:
    """Play the probe once; `credentials` are the headers that a script finds beside a guarded server."""
    if probe.path is None:
        return True
    url = f"http://{host}:{probe.port or port}{probe.path}"
    timeout = aiohttp.ClientTimeout(total=max(0.1, probe.timeout_seconds))
    try:
        if probe.body is None:
            async with http.get(url, timeout=timeout) as response:
                return 200 <= response.status < 400
        headers = {"Content-Type": "application/json", **(credentials or {})}
        async with http.post(url, data=probe.body.encode(), headers=headers, timeout=timeout) as response:
            return response.status == 200 and token_was_generated(orjson.loads(await response.read()))
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        return False


def _probe(spec: Mapping[str, Any], container: Mapping[str, Any]) -> Probe:
    path, body, port = _question(spec, container)
    return Probe(
        path=path,
        body=body,
        port=port,
        initial_delay_seconds=spec.get("initialDelaySeconds") or 0,
        period_seconds=spec.get("periodSeconds") or 10,
        timeout_seconds=spec.get("timeoutSeconds") or 1,
        failure_threshold=spec.get("failureThreshold") or 3,
    )


def _question(
    spec: Mapping[str, Any], container: Mapping[str, Any]
) -> tuple[str | None, str | None, int | None]:
    command = (spec.get("exec") or {}).get("command") or []
    if len(command) == _EXEC_LENGTH and command[1] == "-c" and command[3].startswith("/"):
        return command[3], command[4], None
    if get := spec.get("httpGet"):
        return get.get("path") or "/", None, _port(get.get("port"), container)
    # A probe of another kind (tcpSocket, grpc, another command) is taken for the engine's own health.
    return "/health", None, None


def _port(port: object, container: Mapping[str, Any]) -> int | None:
    if isinstance(port, int):
        return port
    declared = container.get("ports") or []
    return next((int(entry["containerPort"]) for entry in declared if entry.get("name") == port), None)


def _text(choice: Mapping[str, Any]) -> object:
    message = choice.get("message") or {}
    return choice.get("text") or message.get("content") or message.get("reasoning_content")
