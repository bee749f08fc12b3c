"""What an engine's answer to the request for one token is worth. Pure: bytes in, a result out.

A 200 is no proof: the answer must hold a token, and be the planned model's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from gemma_operator.engines.access_middleware import USER_KEYS_HEADER
from gemma_operator.probing.facts import FailureKind, Heard, ProbeResult
from gemma_operator.scrub import excerpt

_OK = 200
_NOT_FOUND = 404
_TOO_MANY = 429
_SERVER_ERROR = 500
_COUNT: Final = re.compile(r"[0-9]{1,6}")


def judge(
    *,
    status: int,
    body: bytes,
    model_name: str,
    generated_tokens: Callable[[Mapping[str, Any]], int],
    seconds: float,
) -> ProbeResult:
    """Whether these bytes are one token of `model_name`; `generated_tokens` knows the engine's dialect."""
    if status != _OK:
        kind = _kind_of_status(status, body, model_name)
        return ProbeResult(kind, detail=f"HTTP {status}: {_quote(body)}", seconds=seconds)
    answer = _decode(body)
    if answer is None:
        return ProbeResult(FailureKind.BROKEN, detail=_quote(body), seconds=seconds)
    model = answer.get("model")
    if model != model_name:
        detail = excerpt(f"asked for {model_name}, answered by {model}")
        return ProbeResult(FailureKind.WRONG_MODEL, detail=detail, seconds=seconds)
    try:
        tokens = generated_tokens(answer)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # whatever stands where an engine's answer has its parts: it is not one
        return ProbeResult(FailureKind.BROKEN, detail=_quote(body), seconds=seconds)
    if tokens < 1:
        return ProbeResult(FailureKind.NO_TOKEN, detail=_quote(body), seconds=seconds)
    return ProbeResult(None, model=model_name, tokens=tokens, seconds=seconds)


def hear(headers: Mapping[str, str]) -> Heard:
    """What the guard said, in the head of any answer. What is not a number (an older guard has none) says nothing."""
    said = headers.get(USER_KEYS_HEADER, "")
    return Heard(int(said) if _COUNT.fullmatch(said) else None)


def _kind_of_status(status: int, body: bytes, model_name: str) -> FailureKind:
    if status == _TOO_MANY or status >= _SERVER_ERROR:
        return FailureKind.STATUS
    # "The model `chat` does not exist.": a server of another model, not a path that is missing
    # (vLLM since 0.3, https://github.com/vllm-project/vllm/issues/3485)
    if status == _NOT_FOUND and f"`{model_name}`" in body.decode("utf-8", "replace"):
        return FailureKind.WRONG_MODEL
    return FailureKind.REJECTED


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _quote(body: bytes) -> str:
    return excerpt(body[:4096].decode("utf-8", "replace"))
