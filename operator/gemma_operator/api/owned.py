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
    "VLLM_NO_USAGE_STATS",
    "VLLM_PORT",
    "VLLM_SERVER_DEV_MODE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)

_HAYSTACK = " " + " ".join(OWNED_FLAGS)
_LONG_FLAG = re.compile(r"^--[^=.]*")
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
    name = head.group().replace("_", "-")
    return f" {name.removeprefix('--no-').removeprefix('--')}" in _HAYSTACK


def is_owned_variable(name: str) -> bool:
    """Whether an environment variable belongs to the operator."""
    return name in OWNED_ENVIRONMENT


_NAME_CEL = "a.find('^--[^=.]*').replace('_', '-')"
OWNED_ARGUMENT_CEL: Final = (
    "!has(self.extraArgs) || self.extraArgs.all(a, !a.startsWith('-') || (a.startsWith('--') ? "
    f"!'{_HAYSTACK}'.contains(' ' + ({_NAME_CEL}.startsWith('--no-') ? {_NAME_CEL}.substring(5) : "
    f"{_NAME_CEL}.substring(2)))"
    " : !a.matches('^-[A-Za-z]')))"
)
OWNED_VARIABLE_CEL: Final = (
    "!has(self.env) || self.env.all(e, !(e.name in ["
    + ", ".join(f"'{name}'" for name in OWNED_ENVIRONMENT)
    + "]))"
)
