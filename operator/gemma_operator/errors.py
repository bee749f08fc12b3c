"""The errors of this operator, as a tree that a caller can read.

GemmaOperatorError
├── InvalidSpec              a field of a user's object, and how to mend it
├── InvalidCatalog           a catalog file, and where
├── InvalidSettings          the operator's own settings file
├── UsageError               bad input on the command line (exit code 2)
├── SandboxError             the sandbox cannot be built or started
├── ApiError                 the API server said no, or nothing
│   ├── NotFound             404
│   ├── Conflict             409: somebody else wrote first, or the object exists
│   ├── Gone                 410: the resourceVersion is too old, list again
│   ├── Forbidden            403: which right is missing stands in the message
│   ├── Unauthorized         401: the credentials are stale
│   ├── Rejected             400, 422: admission or validation; sending it again changes nothing
│   ├── TooManyRequests      429, 503: with the seconds that the server asked for
│   ├── Unreachable          no answer: refused, reset, timed out
│   └── NotLeader            a write that was not sent: this process does not hold the Lease any more
└── EngineError              a model server did not answer as one does

A message says what to change. Nothing catches `Exception` but the outermost loops, which log it whole: a worker, which
counts it and tries the key again; a cache, for the one object that it cannot read; the prober, for one look.
"""

from __future__ import annotations


class GemmaOperatorError(Exception):
    """The root: catching it catches everything that this project raises on purpose."""


class InvalidSpec(GemmaOperatorError):
    """A field of a user's object is wrong. `field` is its path as the yaml spells it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.message = message


class InvalidCatalog(GemmaOperatorError):
    """A catalog file cannot be read; the message names file, entry and remedy."""


class InvalidSettings(GemmaOperatorError):
    """The operator's settings file or flags cannot be used."""


class UsageError(GemmaOperatorError):
    """Bad input on the command line: one line on stderr, exit code 2."""


class SandboxError(GemmaOperatorError):
    """The sandbox cannot be built or started; the message says what is missing."""


class ApiError(GemmaOperatorError):
    """The API server answered with an error, or did not answer. `status` is 0 where there was no answer."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: the object exists, or changed since it was read."""


class Gone(ApiError):
    """410: what was asked for is too old; list again."""


class Forbidden(ApiError):
    """403: the message names the verb and the resource."""


class Unauthorized(ApiError):
    """401: log in again, once."""


class Rejected(ApiError):
    """400 or 422: the server will never take this object as it is."""


class TooManyRequests(ApiError):
    """429 or 503: wait as long as the server says."""

    def __init__(
        self, message: str, *, status: int, reason: str = "", retry_after_seconds: float = 1.0
    ) -> None:
        super().__init__(message, status=status, reason=reason)
        self.retry_after_seconds = retry_after_seconds


class Unreachable(ApiError):
    """No answer at all."""


class NotLeader(ApiError):
    """A write that was not sent: somebody else may be the leader by now. Never worth a retry here."""


class EngineError(GemmaOperatorError):
    """A model server did not answer as a model server does."""
