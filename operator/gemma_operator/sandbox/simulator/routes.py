"""Which routes vLLM 0.32 has, from its own list, and which of them are simulated."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

# What the simulator answers as vLLM does; every other route of the list answers 501.
SIMULATED = frozenset(
    {
        ("GET", "/health"),
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("GET", "/version"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
    }
)


@cache
def table() -> dict[str, frozenset[str]]:
    """Path as vLLM spells it → methods."""
    packaged = resources.files("gemma_operator.sandbox.simulator") / "vllm-0.32-routes.txt"
    routes: dict[str, frozenset[str]] = {}
    for line in packaged.read_text(encoding="utf-8").splitlines():
        path, _, methods = line.partition(", Methods: ")
        routes[path] = routes.get(path, frozenset()) | frozenset(methods.split(", "))
    return routes


def methods(path: str) -> frozenset[str] | None:
    """The methods of the route that answers `path`; None where vLLM answers 404."""
    exact = table().get(path)
    if exact is not None:
        return exact
    return next((found for pattern, found in _patterns() if pattern.fullmatch(path)), None)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], frozenset[str]], ...]:
    templated = [(path, found) for path, found in table().items() if "{" in path]
    return tuple((re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), found) for path, found in templated)
