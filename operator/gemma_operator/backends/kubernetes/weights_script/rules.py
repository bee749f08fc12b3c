"""What is decided while weights are brought: which files, whether they are the planned model, what an error means.

Runs inside the engine's image with the standard library alone (Python 3.10 and newer), together with `work`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

#: Exit code where no other try will do: a Job ends at it.
FINAL_EXIT = 42
#: Certificates in PEM that are trusted beside the image's own.
CA_BUNDLE = "GEMMA_CA_BUNDLE"
#: What the engine reads; other formats of the same weights are left where they are.
ENDINGS = (".json", ".safetensors", ".jinja", ".model", ".txt")
UNREAD = ("consolidated", "original/", "onnx/", "metal/", "gguf/")
#: Names in a task's `shape`, in words.
WORDS = {
    "queryHeads": "attention heads",
    "slidingLayers": "sliding layers with a KV cache",
    "slidingKvHeads": "KV heads on sliding layers",
    "slidingHeadDim": "dimensions a head on sliding layers",
    "slidingWindow": "tokens of window",
    "fullLayers": "full layers with a KV cache",
    "fullKvHeads": "KV heads on full layers",
    "fullHeadDim": "dimensions a head on full layers",
}
#: Of a file in safetensors: 8 bytes that say how long its header is, and the longest that is read; its loader refuses
#: a file that its tensors do not fill (HeaderTooLarge, MetadataIncompleteBuffer in tensor.rs of safetensors 0.4.2).
HEAD_BYTES, MOST_HEADER_BYTES = 8, 100_000_000
_FULL_DISK, _NOT_WRITABLE = (28, 122), (13, 30)  # ENOSPC, EDQUOT; EACCES, EROFS


class Refused(Exception):
    """Why there are no weights. `passing`: waiting helps by itself. `final`: no other try of the same will do."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        passing: bool = False,
        final: bool = False,
        wait_seconds: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message
        self.passing, self.final, self.wait_seconds = passing, final, wait_seconds


def wanted(name: str) -> bool:
    """Whether the engine reads this file of a repository."""
    return name.endswith(ENDINGS) and not name.startswith(UNREAD)


def lacking(names: Collection[str], *, drafter: bool = False) -> str:
    """What the engine would miss among these files; empty where nothing is."""
    if "config.json" not in names:
        return "config.json"
    if not any(name.endswith(".safetensors") for name in names):
        return "weights in safetensors"
    has_tokenizer = not {"tokenizer.json", "tokenizer.model"}.isdisjoint(names)
    return "" if has_tokenizer or drafter else "a tokenizer"


def header_bytes(head: bytes) -> int:
    """How long the header of a file in safetensors is; 0 where it is none: a pointer of git lfs, an empty file."""
    length = int.from_bytes(head, "little")
    return length if len(head) == HEAD_BYTES and length <= MOST_HEADER_BYTES else 0


def size_of(header: Mapping[str, Any], header_length: int) -> int:
    """How long the whole file is: its tensors lie one behind the other up to its end."""
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return HEAD_BYTES + header_length + max(ends, default=0)


def shape_of(config: Mapping[str, Any]) -> dict[str, int]:
    """The shape that a config.json tells, as far as it does (transformers 5.19, Gemma4TextConfig)."""
    text = config.get("text_config") or config
    kinds = list(text.get("layer_types") or ())
    owning = kinds[: len(kinds) - (text.get("num_kv_shared_layers") or 0)]
    kv_heads = text.get("num_key_value_heads")
    found = {
        "queryHeads": text.get("num_attention_heads"),
        "slidingLayers": owning.count("sliding_attention") if kinds else None,
        "slidingKvHeads": kv_heads,
        "slidingHeadDim": text.get("head_dim"),
        "slidingWindow": text.get("sliding_window"),
        "fullLayers": owning.count("full_attention") if kinds else None,
        "fullKvHeads": (text.get("attention_k_eq_v") and text.get("num_global_key_value_heads")) or kv_heads,
        "fullHeadDim": text.get("global_head_dim"),
    }
    return {key: value for key, value in found.items() if value is not None}


def mismatch(config: Mapping[str, Any], task: Mapping[str, Any], names: Collection[str] = ()) -> str:
    """Why this is no checkpoint of the planned variant and precision; empty where it is one."""
    kind = str(config.get("model_type"))
    if not kind.startswith("gemma4"):
        return f"its model_type is {kind[:40]}"
    found = shape_of(config)
    for key, value in task["shape"].items():
        if found.get(key, value) != value:
            return f"it has {found[key]} {WORDS.get(key, key)} and {task['variant']} has {value}"
    parts = (config, config.get("text_config") or {})
    quantised = "hf_quant_config.json" in names or any(
        part.get(key) for part in parts for key in ("quantization_config", "compression_config")
    )
    if task.get("quantised", quantised) != quantised:
        return f"its weights are {'' if quantised else 'not '}quantised and the plan says {task['precision']}"
    return ""


def disk_trouble(error: BaseException, where: str) -> Refused | None:
    """What an error of the volume means; None where it is not the volume's."""
    number = getattr(error, "errno", None)
    if number in _FULL_DISK:
        return Refused("DiskFull", f"the volume at {where} is full: give it more room")
    if number in _NOT_WRITABLE:
        return Refused("ClaimUnsuitable", f"the volume at {where} cannot be written by user {os.getuid()}")
    return None


def judge(
    kinds: Collection[str],
    status: int | None,
    *,
    task: Mapping[str, Any],
    hub: str,
    has_token: bool = False,
    retry_after_seconds: float = 0.0,
) -> Refused:
    """What an error of the hub's client means: by its classes' names (huggingface_hub 0.30 to 2.4) and the status."""
    repo, revision = task["repo"], task.get("revision") or "main"
    if "GatedRepoError" in kinds or status == 403:
        return Refused(
            "WeightsGated",
            f"{hub} gives {repo} only to those whom it let in: accept its licence there, and name a token of that "
            "account, with the right to read gated repositories, in credentials.huggingFaceToken",
        )
    if "RevisionNotFoundError" in kinds:
        return Refused("WeightsMissing", f"{hub} has no commit {revision} of {repo}", final=True)
    if status == 401 and has_token:
        words = (
            f"{hub} does not know the token in credentials.huggingFaceToken: put a valid one into its Secret"
        )
        return Refused("CredentialInvalid", words)
    unknown = {"RepositoryNotFoundError", "HFValidationError", "DisabledRepoError"}
    if status == 401 or not unknown.isdisjoint(kinds):
        hint = "" if has_token else ", or shows it only with a token (credentials.huggingFaceToken)"
        return Refused("WeightsMissing", f"{hub} has no repository {repo}{hint}", final=True)
    if status == 404:
        return Refused("WeightsMissing", f"{hub} lacks a file of {repo} at {revision}", final=True)
    if status == 429:
        words = f"{hub} answers 429, too many requests from here: wait, or name a token"
        return Refused("HubRateLimited", words, passing=True, wait_seconds=retry_after_seconds)
    words = f"answers {status}" if status else "does not answer"
    return Refused(
        "HubUnreachable", f"{hub} {words}: check the network, the hub mirror and the proxy", passing=True
    )


def untrusted(error: BaseException) -> Refused | None:
    """What a certificate that nobody known signed means; None where an error is none of it. Waiting mends nothing."""
    if type(error).__name__ != "SSLCertVerificationError":
        return None
    why = str(getattr(error, "verify_message", ""))[:80] or "not to be verified"
    return Refused(
        "HubUnreachable",
        f"the certificate that {hub_address()} or the proxy before it shows is not trusted ({why}): put the authority "
        "that signed it into the operator's setting caBundle",
    )


def explained(error: BaseException, task: Mapping[str, Any]) -> Refused:
    """The most telling error of a chain: the client wraps what the server answered."""
    chain: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and len(chain) < 10:
        chain.append(each)
        each = each.__cause__ or each.__context__
    for each in chain:
        known = (
            each if isinstance(each, Refused) else untrusted(each) or disk_trouble(each, task.get("root", ""))
        )
        if known is not None:
            return known
    answers = [getattr(each, "response", None) for each in chain]
    place = next((n for n, answer in enumerate(answers) if getattr(answer, "status_code", None)), 0)
    after = str(getattr(answers[place], "headers", {}).get("Retry-After", ""))
    return judge(
        {kind.__name__ for kind in type(chain[place]).__mro__},
        getattr(answers[place], "status_code", None),
        task=task,
        hub=hub_address(),
        has_token=bool(os.environ.get("HF_TOKEN")),
        retry_after_seconds=float(after) if after.isdigit() else 0.0,
    )


def hub_address() -> str:
    """The hub as it may be shown: without user and query."""
    scheme, _, rest = os.environ.get("HF_ENDPOINT", "https://huggingface.co").partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2].rstrip('/')}"


def clean(token: str) -> str:
    """A newline at the end is the commonest mistake and harmless without it; no header may hold one inside."""
    token = token.strip()
    if any(not "!" <= letter <= "~" for letter in token):
        raise Refused(
            "CredentialMalformed",
            "the token in credentials.huggingFaceToken holds a blank, a line break or another letter that no header "
            "may: write its Secret again with the token alone",
        )
    return token
