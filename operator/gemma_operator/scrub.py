"""What may leave the house: text from elsewhere passes here before it reaches status, events or logs.

Logs of engines and answers of APIs may hold tokens and signed URLs. One function, so that one test
can hold it; what it removes is replaced by a word that tells what stood there.
"""

from __future__ import annotations

import re

_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # a whole URL with a signature in its query is worthless without it, so the query goes
    (
        re.compile(
            r"(https?://[^\s\"'?]+)\?[^\s\"']*(?:signature|sig|token|credential|key|x-amz|x-goog)[^\s\"']*",
            re.IGNORECASE,
        ),
        r"\1?[removed]",
    ),
    (re.compile(r"(https?://)[^\s/@:]+:[^\s/@]+@", re.IGNORECASE), r"\1[removed]@"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\1 [removed]"),
    (re.compile(r"\bhf_[A-Za-z0-9]{8,}"), "[removed]"),
    (re.compile(r"\b(?:ya29\.|AIza|ghp_|gho_|sk-|AKIA|ASIA)[A-Za-z0-9_.-]{10,}"), "[removed]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"), "[removed]"),
    (
        re.compile(
            r"\b((?:api[-_]?key|token|secret|password|authorization)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{6,}",
            re.IGNORECASE,
        ),
        r"\1[removed]",
    ),
)


def scrub(text: str) -> str:
    """`text` without tokens, credentials and signed URLs. Idempotent."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def excerpt(text: str, *, limit: int = 200) -> str:
    """The scrubbed text on one line, at most `limit` characters: scrubbed first, so no cut hides a secret."""
    line = " ".join(scrub(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
