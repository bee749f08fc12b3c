"""A second engine, for tests only: everything that the house asks of a model server, in one file.

It differs from vLLM wherever an engine may: command, port, paths, flags, the request for a token, the dialect of
its answers and the names of its metrics. Its catalog entry is tests/data/stand-in/engines.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gemma_operator.engines.base import ExtraArguments, MetricNames, Program, Serving, TokenRequest
from gemma_operator.planner.values import KvPrecision, Plan, Settings

_PROBE = "import sys; sys.exit(not sys.argv[2])"


class StandIn:
    """A server that is started by one file of settings on its command line."""

    name = "STANDIN"
    command: tuple[str, ...] = ("stand-in", "start")
    port = 9001
    health_path = "/alive"
    metrics_path = "/figures"
    metrics = MetricNames(
        running="standin_active",
        waiting="standin_queued",
        kv_usage="standin_cache_full",
        prompt_tokens="standin_tokens_read_total",
        generation_tokens="standin_tokens_written_total",
        requests="standin_answers_total",
        requests_reason_label="why",
        cache_info="standin_cache",
        cache_info_tokens_label="tokens",
    )
    guard = Program(file_name="stand_in_guard.py", source="")
    farewell: Program | None = None

    def arguments(self, plan: Plan, serving: Serving) -> tuple[str, ...]:
        """`name=value`, one a setting."""
        settings = plan.settings
        limits = ",".join(f"{name}:{limit}" for name, limit in settings.modality_limits)
        return (
            f"model={serving.model_path or plan.repo}",
            f"serve-as={serving.model_name}",
            f"context={settings.context_length}",
            f"sequences={settings.max_sequences}",
            f"batch={settings.max_batched_tokens}",
            f"cache={settings.kv_cache_precision.value}",
            f"gpus={settings.tensor_parallel}",
            f"use={settings.utilization_percent}",
            f"items={limits}",
            *serving.extra_args,
        )

    def environment(self, plan: Plan, serving: Serving) -> tuple[tuple[str, str], ...]:
        """Its cache, and the user's own."""
        del plan
        return (("STANDIN_CACHE", serving.cache_path), *serving.environment)

    def settings(self, arguments: Sequence[str], *, version: str = "1.4") -> Settings:
        """`arguments` turned round."""
        del version
        given = dict(word.split("=", 1) for word in arguments)
        pairs = (item.split(":") for item in given["items"].split(",") if item)
        return Settings(
            context_length=int(given["context"]),
            max_sequences=int(given["sequences"]),
            max_batched_tokens=int(given["batch"]),
            kv_cache_precision=KvPrecision(given["cache"]),
            tensor_parallel=int(given["gpus"]),
            utilization_percent=int(given["use"]),
            modality_limits=tuple((name, int(limit)) for name, limit in pairs),
        )

    def extra_arguments(
        self,
        extra_args: Sequence[str],
        *,
        version: str = "1.4",
        environment: Iterable[tuple[str, str]] = (),
    ) -> ExtraArguments:
        """It knows no flag of the user's."""
        del version, environment
        return ExtraArguments(overrides=(), unknown=tuple(extra_args))

    def token_request(self, *, model_name: str) -> TokenRequest:
        """Its own dialect."""
        return TokenRequest(path="/say", body=f'{{"model":"{model_name}","words":1}}')

    def generated_tokens(self, answer: Mapping[str, Any]) -> int:
        """It counts them itself."""
        return int(answer["said"])

    def pre_stop(self, *, seconds: int) -> tuple[str, ...]:
        """It closes its connections by itself."""
        del seconds
        return ()

    def startup_probe(self, request: TokenRequest) -> tuple[str, ...]:
        """Any image of it has python3."""
        return ("python3", "-c", _PROBE, request.path, request.body)
