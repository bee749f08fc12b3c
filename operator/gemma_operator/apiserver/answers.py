"""What the API server's answers mean: a status code and a Status object become one of our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from gemma_operator.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    Rejected,
    TooManyRequests,
    Unauthorized,
)

_BY_STATUS: dict[int, type[ApiError]] = {
    400: Rejected,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: Rejected,
    422: Rejected,
}
_BUSY = (429, 503, 504)


def error_from(code: int, body: bytes, *, doing: str, retry_after: str | None = None) -> ApiError:
    """The error for an answer of `code` while `doing` ("list pods", "apply services chat/chat")."""
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = {}
    if not isinstance(status, Mapping):
        status = {}
    # a proxy in front of the server answers in html or plain text: its first words still help
    message = status.get("message") or " ".join(body[:200].decode("utf-8", "replace").split())
    return error_from_status(code, {**status, "message": message}, doing=doing, retry_after=retry_after)


def error_from_status(
    code: int, status: Mapping[str, Any], *, doing: str, retry_after: str | None = None
) -> ApiError:
    """The same from a Status that is parsed already, as watches send it in their stream."""
    reason = str(status.get("reason") or "")
    message = f"{doing}: {code} {status.get('message') or reason}".rstrip()
    if code in _BUSY:
        return TooManyRequests(
            message, status=code, reason=reason, retry_after_seconds=_retry_after(status, retry_after)
        )
    if code == 403:
        message = f"not allowed to {message}"
    return _BY_STATUS.get(code, ApiError)(message, status=code, reason=reason)


def _retry_after(status: Mapping[str, Any], header: str | None) -> float:
    details = status.get("details")
    for value in (header, details.get("retryAfterSeconds") if isinstance(details, Mapping) else None):
        try:
            return max(0.0, float(value))  # type: ignore[arg-type]  # None and a date are not numbers
        except (TypeError, ValueError):
            continue
    return 1.0
