"""Engine arguments and environment that belong to the plan, so that users may not set them.

The lists are data: CEL and its Python twin are made from them, and `engines` asserts that every flag and
variable it emits stands here. Flag names are those of vLLM 0.32's `vllm serve --help=all`.
"""

import re
from typing import Final

# What the plan sets, and what would make the plan, the probes or the Service untrue.
OWNED_FLAGS: Final[tuple[str, ...]] = (
    # which model, under which name
    "model",
    "revision",
    "code-revision",
    "tokenizer",
    "tokenizer-revision",
    "served-model-name",
    "hf-token",
    "hf-config-path",
    "hf-overrides",
    "download-dir",
    "runner",
    "convert",
    # the numbers of the plan
    "dtype",
    "quantization",
    "max-model-len",
    "max-num-seqs",
    "max-num-batched-tokens",
    "gpu-memory-utilization",
    "device-memory-utilization",
    "kv-cache-dtype",
    "async-scheduling",
    "kv-cache-memory-bytes",
    "num-gpu-blocks-override",
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "nnodes",
    "node-rank",
    "device-ids",
    "speculative-config",
    "spec-method",
    "spec-model",
    "spec-tokens",
    "limit-mm-per-prompt",
    "language-model-only",
    "enable-lora",
    "lora-modules",
    "max-loras",
    "max-lora-rank",
    # what the fields of `serving` say
    "enable-auto-tool-choice",
    "tool-call-parser",
    "reasoning-parser",
    "chat-template",
    "default-chat-template-kwargs",
    # where it listens and how it ends
    "config",
    "host",
    "port",
    "uds",
    "root-path",
    "api-key",
    "middleware",
    "ssl-keyfile",
    "ssl-certfile",
    "headless",
    "grpc",
    "shutdown-timeout",
    "disable-access-log-for-endpoints",
    "help",
)

OWNED_ENVIRONMENT: Final[tuple[str, ...]] = (
    "CUDA_VISIBLE_DEVICES",
    "DO_NOT_TRACK",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "HIP_VISIBLE_DEVICES",
    "HOME",
    "HUGGING_FACE_HUB_TOKEN",
    "NVIDIA_VISIBLE_DEVICES",
    "PROMETHEUS_MULTIPROC_DIR",
    "ROCR_VISIBLE_DEVICES",
    "TORCHINDUCTOR_CACHE_DIR",
    "TRANSFORMERS_CACHE",
    "TRANSFORMERS_OFFLINE",
    "TRITON_CACHE_DIR",
    "USER",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_API_KEY",
    "VLLM_CACHE_ROOT",
    "VLLM_CONFIG_ROOT",
    "VLLM_ENGINE_READY_TIMEOUT_S",
    "VLLM_HOST_IP",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
    "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
    "VLLM_NO_USAGE_STATS",
    "VLLM_PORT",
    "VLLM_SERVER_DEV_MODE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)

_LONG_FLAG = re.compile(r"^--[^=. ]*")
_SHORT_FLAG = re.compile(r"^-[A-Za-z]")


def is_owned_argument(item: str) -> bool:
    """Whether an item of extraArgs is refused; `OWNED_ARGUMENT_CEL` is the same sentence for the API server.

    The engine's parser takes abbreviations, underscores, `--no-` forms and `--flag.key=value`, so a beginning
    of an owned flag is owned too. Short flags are refused whole: their long forms say the same.
    """
    if _SHORT_FLAG.match(item):
        return True
    head = _LONG_FLAG.match(item)
    if head is None:
        return False
    name = head.group().replace("_", "-").removeprefix("--").removeprefix("no-")
    return any(flag.startswith(name) for flag in OWNED_FLAGS)


def is_owned_variable(name: str) -> bool:
    """Whether an environment variable belongs to the operator."""
    return name in OWNED_ENVIRONMENT


_HAYSTACK_FLAGS = 8


def _by_first_letter(flags: list[str]) -> str:
    """Whether `n` is a beginning of one of `flags`, in CEL.

    The server's cost estimate multiplies the haystack by the longest item that extraArgs allows, and looks at
    the dearer side of a condition only: halving by the first letter keeps it far below the budget.
    """
    letters = sorted({flag[0] for flag in flags})
    if len(flags) <= _HAYSTACK_FLAGS or len(letters) == 1:
        return f"' {' '.join(flags)}'.contains(' ' + n)"
    middle = letters[len(letters) // 2]
    low = _by_first_letter([flag for flag in flags if flag < middle])
    high = _by_first_letter([flag for flag in flags if flag >= middle])
    return f"(n < '{middle}' ? {low} : {high})"


_TOO_LONG = max(map(len, OWNED_FLAGS)) + len("no-") + 1  # such a name is no beginning of an owned one
# `[x].all(name, ...)` is how this CEL, which has no `let`, gives a value a name.
OWNED_ARGUMENT_CEL: Final = (
    "!has(self.extraArgs) || self.extraArgs.all(a, !a.startsWith('-')"
    f" || a.matches('{_LONG_FLAG.pattern[:-1]}{{{_TOO_LONG}}}')"
    f" || (a.startsWith('--') ? [a.find('{_LONG_FLAG.pattern}').replace('_', '-')].all(h,"
    " [h.startsWith('--no-') ? h.substring(5) : h.substring(2)].all(n,"
    f" !{_by_first_letter(sorted(OWNED_FLAGS))}))"
    f" : !a.matches('{_SHORT_FLAG.pattern}')))"
)
OWNED_VARIABLE_CEL: Final = (
    "!has(self.env) || self.env.all(e, !(e.name in ["
    + ", ".join(f"'{name}'" for name in OWNED_ENVIRONMENT)
    + "]))"
)
