"""The bodies that a simulated server answers with. Pure: requests and figures in, bodies out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = "0.32.0"
_DEFAULT_TOKENS = 16
_WORDS = ("simulated", "answer", "of", "the", "sandbox", "no", "model", "ran")


class BadRequest(Exception):
    """A request that vLLM would refuse, with its status and type."""

    def __init__(self, status: int, kind: str, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {"message": f"{message} (simulated)", "type": kind, "param": param, "code": status},
        }


@dataclass(frozen=True, slots=True)
class Ask:
    """A completion request, checked."""

    model: str
    chat: bool
    prompt_tokens: int
    max_tokens: int
    finish_reason: str
    stream: bool
    include_usage: bool


def ask(body: object, *, chat: bool, names: tuple[str, ...], max_model_len: int) -> Ask:
    """Read a request as vLLM does; raises BadRequest for what it would refuse."""
    if not isinstance(body, dict):
        raise BadRequest(400, "BadRequestError", "the body must be a JSON object")
    model = body.get("model") or names[0]
    if model not in names:
        raise BadRequest(404, "NotFoundError", f"The model `{model}` does not exist.", param="model")
    prompt_tokens = _prompt_tokens(body, chat=chat)
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    max_tokens = _positive(asked) if asked is not None else _DEFAULT_TOKENS
    if prompt_tokens + (max_tokens if asked is not None else 0) > max_model_len:
        raise BadRequest(
            400,
            "BadRequestError",
            f"This model's maximum context length is {max_model_len} tokens. However, you requested "
            f"{max_tokens} output tokens and your prompt contains {prompt_tokens} input tokens.",
            param="input_tokens",
        )
    options = body.get("stream_options") or {}
    return Ask(
        model=str(model),
        chat=chat,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        finish_reason="stop" if asked is None else "length",
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
    )


def word(index: int) -> str:
    """The `index`th token of every answer; the first says what this is."""
    return _WORDS[index % len(_WORDS)] + " "


def whole(asked: Ask, *, identifier: str, created: int, tokens: int) -> dict[str, Any]:
    """The answer to a request without `stream`; no token where `tokens` is 0."""
    text = "".join(word(index) for index in range(tokens)).rstrip()
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": asked.finish_reason,
        "logprobs": None,
        "stop_reason": None,
    }
    if asked.chat:
        choice["message"] = {"role": "assistant", "content": text or None, "tool_calls": []}
    else:
        choice["text"] = text
    head = _head(asked, "chat.completion" if asked.chat else "text_completion", identifier, created)
    return {**head, "choices": [choice], "usage": usage(asked, tokens)}


def chunk(
    asked: Ask,
    *,
    identifier: str,
    created: int,
    text: str,
    finish_reason: str | None = None,
    first: bool = False,
) -> dict[str, Any]:
    """One piece of a stream."""
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
    if asked.chat:
        choice["delta"] = {"role": "assistant", "content": ""} if first else {"content": text}
    else:
        choice["text"] = text
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    return {**_head(asked, kind, identifier, created), "choices": [choice]}


def usage_chunk(asked: Ask, *, identifier: str, created: int, tokens: int) -> dict[str, Any]:
    """The last piece where the client asked for usage."""
    kind = "chat.completion.chunk" if asked.chat else "text_completion"
    return {**_head(asked, kind, identifier, created), "choices": [], "usage": usage(asked, tokens)}


def usage(asked: Ask, tokens: int) -> dict[str, Any]:
    """Token counts."""
    return {
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": asked.prompt_tokens + tokens,
        "prompt_tokens_details": None,
    }


def models(names: tuple[str, ...], *, created: int, max_model_len: int) -> dict[str, Any]:
    """/v1/models."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": name,
                "parent": None,
                "max_model_len": max_model_len,
                "simulated": True,
            }
            for name in names
        ],
    }


def _head(asked: Ask, kind: str, identifier: str, created: int) -> dict[str, Any]:
    prefix = "chatcmpl" if asked.chat else "cmpl"
    return {
        "id": f"{prefix}-{identifier}",
        "object": kind,
        "created": created,
        "model": asked.model,
        "system_fingerprint": "simulated",
    }


def _prompt_tokens(body: Mapping[str, Any], *, chat: bool) -> int:
    """A word a token, and the four of a turn's markers: not a tokenizer, but it counts and never says 0."""
    if not chat:
        prompt = body.get("prompt")
        if prompt is None:
            raise BadRequest(400, "BadRequestError", "prompt: Field required")
        return max(1, len(prompt)) if isinstance(prompt, list) else max(1, len(str(prompt).split()))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest(400, "BadRequestError", "messages: a list with at least one message is required")
    return sum(4 + len(_text(message.get("content")).split()) for message in messages)


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _positive(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise BadRequest(
            400, "BadRequestError", f"max_tokens must be at least 1, got {value}.", param="max_tokens"
        )
    return value
