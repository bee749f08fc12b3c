"""What a simulated model server is told: by its container's arguments, and by annotations on its pod.

Annotations are read again at every change of the pod, so a fault can be switched on under a running server:

| `sandbox.gemma-operator.io/…` | default | meaning |
|---|---|---|
| `startup-seconds` | 1 | from container start to the first 200 of /health |
| `token-seconds` | 0 | time for each generated token |
| `kv-cache-tokens` | 4 * --max-model-len | size of the KV cache; /metrics tells it only where it is given |
| `fault` | none | one of `Fault` |
| `memory-needed-gib`, `memory-available-gib` | 6.11, 5.17 | figures of a memory refusal |
| `memory-estimated-length` | by their ratio | the context that the refusal says would fit |
| `ends-with` | none | it ends: `{"exitCode": 1, "reason": "Error", "message": "…", "ranSeconds": 640}` |
| `waits-with` | none | it is never made: `{"reason": "ErrImagePull", "message": "…"}`, as its kubelet would say it |
| `weights-seconds` | 0 | what brings the weights (an init container, or a Job's pod) takes so long |
| `weights-fault` | none | it fails with this reason (`WeightsGated`, …), as the real one would say it |

Whether memory suffices is decided by whoever writes the annotation, never reckoned: a simulator that asked
our own planner would always agree with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

PREFIX = "sandbox.gemma-operator.io/"
_DEFAULT_PORT = 8000
_DEFAULT_MODEL_LEN = 32768
_DEFAULT_SEQUENCES = 256


class Fault(StrEnum):
    """What can go wrong with a server."""

    NO_TOKEN = "no-token"  # noqa: S105  200 with an empty choice, no token generated
    WRONG_MODEL = "wrong-model"  # serves another name than it was started with
    ERROR_500 = "error-500"  # inference answers 500, /health stays 200
    REFUSED = "refused"  # nothing listens although the pod runs
    HANGING = "hanging"  # connections are accepted and never answered
    WEDGED = "wedged"  # /health and /metrics answer, no request ever gets a token
    UNHEALTHY = "unhealthy"  # /health answers 503
    MEMORY_REFUSAL = "memory-refusal"  # the engine refuses to start: too little KV cache


@dataclass(frozen=True, slots=True)
class Words:
    """What a kubelet says of a container that waits, or ended."""

    reason: str
    message: str = ""
    exit_code: int = 1
    #: Told apart from how long it really ran, so that nobody has to wait for a start-up budget.
    ran_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class ServerArguments:
    """What the container's command line says."""

    container: str
    names: tuple[str, ...]
    port: int
    max_model_len: int
    max_num_seqs: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What the pod's annotations say.

    A refusal without figures takes those of a published one: 6.11 GiB needed, 5.17 GiB available.
    """

    startup_seconds: float = 1.0
    token_seconds: float = 0.0
    kv_cache_tokens: int | None = None
    fault: Fault | None = None
    memory_needed_gib: float = 6.11
    memory_available_gib: float = 5.17
    memory_estimated_length: int | None = None
    ends_with: Words | None = None
    waits_with: Words | None = None
    weights_seconds: float = 0.0
    weights_fault: str | None = None
    unreadable: tuple[str, ...] = ()

    def refusal(self, max_model_len: int) -> str:
        """vLLM's own words, which end up in the container's termination message."""
        fitting = self.memory_estimated_length
        if fitting is None:
            fitting = int(max_model_len * self.memory_available_gib / self.memory_needed_gib)
        return (
            "ValueError: To serve at least one request with the model's max seq len "
            f"({max_model_len}), ({self.memory_needed_gib:.2f} GiB KV cache is needed, which is larger than "
            f"the available KV cache memory ({self.memory_available_gib:.2f} GiB). Based on the available "
            f"memory, the estimated maximum model length is {fitting}. Try increasing "
            "`gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine. (simulated)"
        )


def server_arguments(pod: Mapping[str, Any]) -> ServerArguments | None:
    """The pod's model server; None where no container looks like one."""
    for container in pod["spec"]["containers"]:
        words = [*(container.get("command") or []), *(container.get("args") or [])]
        flags = _flags(words)
        if "served-model-name" not in flags and "model" not in flags and "serve" not in words:
            continue
        names = flags.get("served-model-name") or flags.get("model") or _positional_model(words)
        return ServerArguments(
            container=container["name"],
            names=tuple(names) or ("model",),
            port=_port(container, flags),
            max_model_len=_number(flags, "max-model-len", _DEFAULT_MODEL_LEN),
            max_num_seqs=_number(flags, "max-num-seqs", _DEFAULT_SEQUENCES),
        )
    return None


def orders(pod: Mapping[str, Any]) -> Orders:
    """The pod's annotations. One that cannot be read is named in `unreadable` and has no effect."""
    given = {
        key.removeprefix(PREFIX): str(value)
        for key, value in (pod["metadata"].get("annotations") or {}).items()
        if key.startswith(PREFIX)
    }
    values: dict[str, Any] = {}
    unreadable = []
    for key, text in given.items():
        reader = _READERS.get(key)
        try:
            if reader is None:
                raise ValueError("unknown key")
            values[key.replace("-", "_")] = reader(text)
        except ValueError as error:
            unreadable.append(f"{PREFIX}{key}={text}: {error}")
    return Orders(**values, unreadable=tuple(unreadable))


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("must be a finite number, not negative")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _word(text: str) -> str | None:
    return text or None


def _words(text: str) -> Words | None:
    if not text:
        return None
    said = json.loads(text)
    if not isinstance(said, dict) or not isinstance(said.get("reason"), str):
        raise ValueError("must be a JSON object with a reason")
    return Words(
        reason=said["reason"],
        message=str(said.get("message", "")),
        exit_code=int(said.get("exitCode", 1)),
        ran_seconds=said.get("ranSeconds"),
    )


def _fault(text: str) -> Fault | None:
    return Fault(text) if text else None


_READERS = {
    "startup-seconds": _seconds,
    "token-seconds": _seconds,
    "kv-cache-tokens": _count,
    "fault": _fault,
    "memory-needed-gib": _seconds,
    "memory-available-gib": _seconds,
    "memory-estimated-length": _count,
    "ends-with": _words,
    "waits-with": _words,
    "weights-seconds": _seconds,
    "weights-fault": _word,
}


def _flags(words: Sequence[str]) -> dict[str, list[str]]:
    """`--flag value value` and `--flag=value`, the last of each winning, as vLLM's parser has it."""
    flags: dict[str, list[str]] = {}
    current: list[str] | None = None
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            current = flags[name.replace("_", "-")] = [value] if equals else []
        elif current is not None:
            current.append(word)
    return flags


def _positional_model(words: Sequence[str]) -> list[str]:
    after = list(words)[list(words).index("serve") + 1 :] if "serve" in words else []
    return [after[0]] if after and not after[0].startswith("-") else []


def _port(container: Mapping[str, Any], flags: Mapping[str, list[str]]) -> int:
    declared = container.get("ports") or []
    named = [port for port in declared if port.get("name") == "http"] or declared
    fallback = int(named[0]["containerPort"]) if named else _DEFAULT_PORT
    return _number(flags, "port", fallback)


def _number(flags: Mapping[str, list[str]], name: str, default: int) -> int:
    values = flags.get(name)
    return int(values[0]) if values and values[0].isdigit() else default
