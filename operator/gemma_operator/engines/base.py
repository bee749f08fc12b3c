"""What the house knows of a model server: one file an engine, one catalog entry, nothing else.

An engine turns settings into flags and flags into settings, says how one token is asked for, and which
of its metrics mean what. It starts nothing and talks to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gemma_operator.planner.values import Plan, Settings


@dataclass(frozen=True, slots=True)
class Serving:
    """What a user asked of the server beside its capacity."""

    model_name: str
    tuning: str
    tool_calling: bool
    thinking: str
    extra_args: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    shutdown_seconds: int = 60
    #: How long one replica may take to start; an engine that has a deadline of its own gets this one.
    startup_seconds: int = 600
    #: The writable mount: everything that an engine downloads, compiles or caches lands below it.
    cache_path: str = "/cache"
    #: Where the weights already lie in the container; empty: the engine asks the hub for the plan's repository.
    model_path: str = ""
    #: Where the plan's drafter lies; empty: the engine asks the hub for it.
    drafter_path: str = ""
    #: Where the engine's guard lies in the container, beside the keys; empty: everybody may ask.
    access_path: str = ""
    #: Where the engine's farewell lies in the container; empty: it has none.
    farewell_path: str = ""
    #: Nothing is asked of the hub: all that the engine reads lies in `cache_path` or at `model_path`.
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A file of ours that the server loads from where the pod shows it."""

    file_name: str
    source: str


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """How one token is asked for: the same in the start-up probe and from the operator."""

    path: str
    body: str


@dataclass(frozen=True, slots=True)
class MetricNames:
    """The engine's metric families that are read; every other line of a scrape is skipped as bytes."""

    running: str
    waiting: str
    kv_usage: str
    prompt_tokens: str
    generation_tokens: str
    requests: str
    requests_reason_label: str
    cache_info: str
    cache_info_tokens_label: str


@dataclass(frozen=True, slots=True)
class ExtraArguments:
    """extraArgs as the planner must know them, and the flags that it knows nothing about."""

    overrides: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


class Engine(Protocol):
    """One model server."""

    name: str
    #: The container's command: said, because an image of the user's own may have another entry point.
    command: tuple[str, ...]
    port: int
    health_path: str
    metrics_path: str
    metrics: MetricNames
    #: Loaded from `Serving.access_path`: it asks for a key (docs/access.md).
    guard: Program
    #: Loaded from `Serving.farewell_path`: it moves clients over before the end. None: the engine needs no help there.
    farewell: Program | None

    def arguments(self, plan: Plan, serving: Serving) -> tuple[str, ...]:
        """The whole command line after `command`."""
        ...

    def environment(self, plan: Plan, serving: Serving) -> tuple[tuple[str, str], ...]:
        """Environment of the container, in a fixed order; the user's own last."""
        ...

    def settings(self, arguments: Sequence[str], *, version: str = ...) -> Settings:
        """The settings that a command line of that version stands for; `arguments` turned round."""
        ...

    def extra_arguments(
        self,
        extra_args: Sequence[str],
        *,
        version: str = ...,
        environment: Iterable[tuple[str, str]] = ...,
    ) -> ExtraArguments:
        """What the user's own flags and variables change in the sums; `version` defaults to the operator's."""
        ...

    def pre_stop(self, *, seconds: int) -> tuple[str, ...]:
        """The exec hook before SIGTERM, which lasts that long; empty: there is nothing to do but to wait."""
        ...

    def token_request(self, *, model_name: str) -> TokenRequest:
        """One token, greedy."""
        ...

    def generated_tokens(self, answer: Mapping[str, Any]) -> int:
        """Tokens that an answer really holds; 0 where it holds none."""
        ...

    def startup_probe(self, request: TokenRequest) -> tuple[str, ...]:
        """The exec probe that asks for one token inside the pod: `python3 -c SCRIPT PATH BODY`."""
        ...
