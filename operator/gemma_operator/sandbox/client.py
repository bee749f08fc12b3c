"""The sandbox's own way to its API server: a few blocking calls for `session` and the command line.

Small on purpose and apart from `apiserver`, the operator's: a fault there must not hide itself in the tests'
own eyes.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Self

import httpx

from gemma_operator.errors import ApiError, Conflict, NotFound, Rejected, Unreachable

_ERRORS: dict[int, type[ApiError]] = {400: Rejected, 404: NotFound, 409: Conflict, 422: Rejected}


class Client:
    """Blocking calls with one token."""

    def __init__(self, url: str, *, token: str, ca_file: Path, timeout_seconds: float = 30) -> None:
        context = ssl.create_default_context(cafile=str(ca_file))
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=url, headers=headers, verify=context, timeout=timeout_seconds, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str) -> dict[str, Any]:
        """One object or a list."""
        return self._call("GET", path)

    def items(self, path: str) -> list[dict[str, Any]]:
        """The items of a list."""
        items: list[dict[str, Any]] = self.get(path).get("items") or []
        return items

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST."""
        return self._call("POST", path, body)

    def replace(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT."""
        return self._call("PUT", path, body)

    def merge(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A JSON merge patch."""
        return self._call("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """DELETE."""
        return self._call("DELETE", path, body)

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        headers = {"Content-Type": content_type} if body is not None else {}
        try:
            response = self._http.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        if response.is_success:
            answer: dict[str, Any] = response.json()
            return answer
        message = _message(response)
        kind = _ERRORS.get(response.status_code, ApiError)
        raise kind(f"{method} {path}: {message}", status=response.status_code)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:300] or response.reason_phrase
