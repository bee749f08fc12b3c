"""vLLM: how it is started, asked and read.

Every flag that is emitted here stands in the parser of each version from 0.19.1 to 0.33.0 (`vllm_flags`); a test holds
it to them. Each setting that capacity depends on is emitted, also where it equals the engine's default: defaults
move between versions, plans do not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from gemma_operator.engines import command_line
from gemma_operator.engines.base import ExtraArguments, MetricNames, Program, Serving, TokenRequest
from gemma_operator.engines.farewell_middleware import FILE as FAREWELL_FILE
from gemma_operator.engines.startup_probe import generated_tokens
from gemma_operator.engines.vllm_flags import flags_of
from gemma_operator.planner.values import Adapters, Drafting, KvPrecision, Plan, Settings

PORT: Final = 8000
MODALITIES: Final = ("image", "video", "audio")
_KV_DTYPES: Final = {KvPrecision.BF16: "auto", KvPrecision.FP8: "fp8"}
#: User's flags that change what fits; the planner reckons with them or marks the plan unverified.
_ACCOUNTED: Final = frozenset(
    {
        "attention-backend",  # this one and the two of the KV connector: compatibility.yaml speaks of them
        "block-size",
        "compilation-config",
        "cpu-offload-gb",
        "cudagraph-capture-sizes",
        "disable-hybrid-kv-cache-manager",
        "enable-expert-parallel",
        "enable-sleep-mode",  # up to 0.26 its allocator hides from the profiling run: more KV cache than there is room
        "enforce-eager",
        "kv-offloading-size",
        "kv-transfer-config",
        "max-cudagraph-capture-size",
        "mm-processor-kwargs",
        "optimization-level",
    }
)

_ATTENTION: Final = "attention-backend"
#: Of the user's environment: it changes which of two model runners the engine takes.
_RUNNER: Final = "VLLM_USE_V2_MODEL_RUNNER"

DEFAULT_VERSION: Final = "0.32"
KNOWN_FLAGS: Final = flags_of(DEFAULT_VERSION)


def _source(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text(encoding="utf-8")


_PROBE_SCRIPT: Final = _source("startup_probe.py")
_LAST_WORDS: Final = _source("last_words.py")
_PRE_STOP: Final = _source("farewell_hook.py")
#: Where the kubelet looks for a container's last words unless it is told otherwise.
_TERMINATION_LOG: Final = "/dev/termination-log"
_PYTHON_PATH: Final = "PYTHONPATH"
_GUARD: Final = "gemma_access.RequireKey"
_FAREWELL: Final = "gemma_farewell.Farewell"
#: Longer than a proxy keeps a connection that nothing uses (Google's keep theirs for 600 s): vLLM's own 5 s end some
#: just when a request is sent on them.
_KEEP_ALIVE_SECONDS: Final = 620


class Vllm:
    """vLLM's OpenAI server, 0.19.1 to 0.33."""

    name = "VLLM"
    command: tuple[str, ...] = (
        "python3",
        "-c",
        _LAST_WORDS,
        _TERMINATION_LOG,
        str(PORT),
        "vllm",
        "serve",
    )
    port = PORT
    health_path = "/health"
    guard = Program(file_name="gemma_access.py", source=_source("access_middleware.py"))
    farewell: Program | None = Program(
        file_name="gemma_farewell.py", source=_source("farewell_middleware.py")
    )
    metrics_path = "/metrics"
    metrics = MetricNames(
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_usage="vllm:kv_cache_usage_perc",
        prompt_tokens="vllm:prompt_tokens_total",
        generation_tokens="vllm:generation_tokens_total",
        requests="vllm:request_success_total",
        requests_reason_label="finished_reason",
        cache_info="vllm:cache_config_info",
        cache_info_tokens_label="kv_cache_size_tokens",
    )

    def arguments(self, plan: Plan, serving: Serving) -> tuple[str, ...]:
        """The model, what the plan says, what the user asked of the server, and the user's own flags last."""
        return (
            *_model(plan, serving),
            "--served-model-name",
            serving.model_name,
            "--host",
            "0.0.0.0",  # noqa: S104 - the Service and the probes reach it at the pod's address
            "--port",
            str(PORT),
            # its own key leaves `/invocations` open; the last middleware that is added is the first that is asked
            *(("--middleware", _GUARD) if serving.access_path else ()),
            *(("--middleware", _FAREWELL) if serving.farewell_path else ()),
            *_capacity_flags(plan.settings, drafter_path=serving.drafter_path),
            *_dialogue_flags(plan, serving),
            # 0, the default, aborts what runs when the pod is told to go.
            "--shutdown-timeout",
            str(serving.shutdown_seconds),
            "--disable-access-log-for-endpoints",
            "/health,/metrics,/ping",
            *serving.extra_args,
        )

    def environment(self, plan: Plan, serving: Serving) -> tuple[tuple[str, str], ...]:
        """Caches on the writable mount, no reports to vllm.ai, and the plan's own start-up deadline."""
        del plan
        cache = serving.cache_path
        return (
            ("HOME", cache),
            # An image that does not know uid 2000 fails in getpwuid() without a name (vLLM issue 38552).
            ("USER", "vllm"),
            ("HF_HOME", f"{cache}/huggingface"),
            ("VLLM_CACHE_ROOT", f"{cache}/vllm"),
            ("VLLM_CONFIG_ROOT", f"{cache}/config/vllm"),
            ("TRITON_CACHE_DIR", f"{cache}/triton"),
            ("TORCHINDUCTOR_CACHE_DIR", f"{cache}/inductor"),
            ("XDG_CACHE_HOME", f"{cache}/xdg"),
            ("XDG_CONFIG_HOME", f"{cache}/config"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("DO_NOT_TRACK", "1"),
            ("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", str(_KEEP_ALIVE_SECONDS)),
            ("VLLM_ENGINE_READY_TIMEOUT_S", str(serving.startup_seconds)),
            # A name that is looked up would be answered by the hub, or by waiting for it.
            *((("HF_HUB_OFFLINE", "1"),) if serving.offline or serving.model_path else ()),
            *serving.environment,
            *_module_path(serving),
        )

    def settings(self, arguments: Sequence[str], *, version: str = DEFAULT_VERSION) -> Settings:
        """What a command line of `arguments` stands for. Later flags win, as in the engine's parser."""
        flags = {flag.name: flag for flag in command_line.read(arguments, known=flags_of(version))}

        def switched_on(name: str) -> bool:
            return name in flags and flags[name].switched_on

        def value(name: str, default: str = "") -> str:
            return (flags[name].value or default) if name in flags else default

        return Settings(
            context_length=int(value("max-model-len")),
            max_sequences=int(value("max-num-seqs")),
            max_batched_tokens=int(value("max-num-batched-tokens")),
            kv_cache_precision=next(p for p, dtype in _KV_DTYPES.items() if dtype == value("kv-cache-dtype")),
            tensor_parallel=int(value("tensor-parallel-size")),
            utilization_percent=round(float(value("gpu-memory-utilization")) * 100),
            modality_limits=tuple(json.loads(value("limit-mm-per-prompt", "{}")).items()),
            async_scheduling=switched_on("async-scheduling"),
            enforce_eager=switched_on("enforce-eager"),
            drafting=_drafting(value("speculative-config")),
            adapters=Adapters(count=int(value("max-loras")), rank=int(value("max-lora-rank")))
            if switched_on("enable-lora")
            else None,
        )

    def extra_arguments(
        self,
        extra_args: Sequence[str],
        *,
        version: str = DEFAULT_VERSION,
        environment: Iterable[tuple[str, str]] = (),
    ) -> ExtraArguments:
        """Which of the user's flags and variables the planner must know, and which flags that version does not."""
        flags = tuple(command_line.read(extra_args, known=flags_of(version)))
        overrides = {flag.name: _override(flag) for flag in flags if flag.name in _ACCOUNTED}
        overrides |= dict(filter(None, map(_attention_backend, flags)))
        overrides |= {name: _switch(value) for name, value in environment if name == _RUNNER}
        unknown = dict.fromkeys(flag.written for flag in flags if not flag.known)
        return ExtraArguments(overrides=tuple(sorted(overrides.items())), unknown=tuple(unknown))

    def token_request(self, *, model_name: str) -> TokenRequest:
        """One greedy token of a plain completion, for every tuning.

        Not a chat: a model that thinks opens its answer with a tag, which the reasoning parser swallows, so
        the one token of a chat may leave nothing to see.
        """
        body = {"model": model_name, "prompt": "The capital of France is", "max_tokens": 1, "temperature": 0}
        return TokenRequest(path="/v1/completions", body=json.dumps(body, separators=(",", ":")))

    def generated_tokens(self, answer: Mapping[str, Any]) -> int:
        """The same rule as inside the pod."""
        return generated_tokens(answer)

    def pre_stop(self, *, seconds: int) -> tuple[str, ...]:
        """Tells the farewell, and waits."""
        return ("python3", "-c", _PRE_STOP, str(FAREWELL_FILE), str(PORT), str(seconds))

    def startup_probe(self, request: TokenRequest) -> tuple[str, ...]:
        """The image has python3, but no curl that is promised."""
        return ("python3", "-c", _PROBE_SCRIPT, request.path, request.body)


def _module_path(serving: Serving) -> Iterator[tuple[str, str]]:
    """Where Python finds the middleware, before what the user has on it."""
    ours = [path for path in (serving.access_path, serving.farewell_path) if path]
    if ours:
        users = [value for name, value in serving.environment if name == _PYTHON_PATH]
        yield _PYTHON_PATH, ":".join([*ours, *users[-1:]])


def _model(plan: Plan, serving: Serving) -> tuple[str, ...]:
    """A path has no revision: the engine would look for one on the hub."""
    if serving.model_path:
        return (serving.model_path,)
    return (plan.repo, *(("--revision", plan.revision) if plan.revision else ()))


def _capacity_flags(settings: Settings, *, drafter_path: str) -> Iterator[str]:
    yield from ("--max-model-len", str(settings.context_length))
    yield from ("--max-num-seqs", str(settings.max_sequences))
    yield from ("--max-num-batched-tokens", str(settings.max_batched_tokens))
    yield from ("--tensor-parallel-size", str(settings.tensor_parallel))
    yield from ("--gpu-memory-utilization", f"{settings.utilization_percent / 100:.2f}")
    yield from ("--kv-cache-dtype", _KV_DTYPES[settings.kv_cache_precision])
    yield "--async-scheduling" if settings.async_scheduling else "--no-async-scheduling"
    if settings.enforce_eager:
        yield "--enforce-eager"
    if limits := dict(settings.modality_limits):
        yield from ("--limit-mm-per-prompt", _compact(limits))
    if not any(limits.values()):
        yield "--language-model-only"  # what limits of 0 say, in one word
    if settings.drafting:
        model = drafter_path or settings.drafting.repo
        drafter = {"model": model, "num_speculative_tokens": settings.drafting.tokens}
        yield from ("--speculative-config", _compact(drafter))
    if settings.adapters:
        yield "--enable-lora"
        yield from ("--max-loras", str(settings.adapters.count))
        yield from ("--max-lora-rank", str(settings.adapters.rank))


def _drafting(speculative_config: str) -> Drafting | None:
    if not speculative_config:
        return None
    given = json.loads(speculative_config)
    return Drafting(repo=given["model"], tokens=given["num_speculative_tokens"])


def _dialogue_flags(plan: Plan, serving: Serving) -> Iterator[str]:
    """Tools and thinking belong to Instruct: a Base model has neither template nor tags."""
    if serving.tuning == "Base":
        return
    if plan.chat_template:
        yield from ("--chat-template", plan.chat_template)
    if serving.tool_calling:
        yield from ("--enable-auto-tool-choice", "--tool-call-parser", "gemma4")
    yield from ("--reasoning-parser", "gemma4")
    if serving.thinking != "OnRequest":
        wanted = {"enable_thinking": serving.thinking == "Default"}
        yield from ("--default-chat-template-kwargs", _compact(wanted))


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _attention_backend(flag: command_line.Flag) -> tuple[str, str] | None:
    """What `--attention-config` says in the place of `--attention-backend`: as JSON, or by `.backend`."""
    if flag.name != "attention-config" or flag.value is None:
        return None
    try:
        given = {flag.key: flag.value} if flag.key else json.loads(flag.value)
    except ValueError:
        return None  # the engine will say what is wrong with it
    backend = given.get("backend") if isinstance(given, dict) else None
    return (_ATTENTION, str(backend)) if backend else None


def _switch(value: str) -> str:
    return "true" if value.strip().lower() in {"1", "true"} else "false"


def _override(flag: command_line.Flag) -> str:
    if flag.value is not None:
        return flag.value
    return "true" if flag.switched_on else "false"
