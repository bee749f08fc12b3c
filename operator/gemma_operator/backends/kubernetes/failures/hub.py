"""Why weights do not come: the word of what brings them, or, of an engine that asks a hub itself, the hub's.

What brings the weights ends with one line of JSON, `{"reason": …, "message": …}`, of which
its reason is trusted and its message is an excerpt.
"""

from __future__ import annotations

import json
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.signs import Sign, first_sign, sign
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica
from gemma_operator.scrub import excerpt

#: What the script may say; anything else in a termination message is an excerpt.
SPOKEN: Final = frozenset(
    {
        Reason.WEIGHTS_MISSING,
        Reason.WEIGHTS_GATED,
        Reason.WEIGHTS_MISMATCH,
        Reason.CREDENTIAL_INVALID,
        Reason.CREDENTIAL_MALFORMED,
        Reason.HUB_RATE_LIMITED,
        Reason.HUB_UNREACHABLE,
        Reason.CLAIM_UNSUITABLE,
        Reason.DISK_FULL,
    }
)
_SPOKEN_WORDS: Final = {reason.value: reason for reason in SPOKEN}

#: transformers 5.19 utils/hub.py, huggingface_hub 2.4 utils/_http.py, h11. In this order: a hub answers 401 for a
#: repository that is not there too, and then speaks of gated ones.
SIGNS: Final[tuple[Sign, ...]] = (
    sign(
        Reason.CREDENTIAL_MALFORMED,
        "has a token that no header may hold",
        r"Illegal header value",
        r"Invalid header value",
    ),
    sign(
        Reason.CREDENTIAL_INVALID,
        "has a token that the hub does not know",
        r"Invalid credentials in Authorization header",
        r"Invalid user token",
    ),
    sign(
        Reason.WEIGHTS_MISSING,
        "asks for weights that the hub does not have",
        r"\S+ is not a local folder and is not a valid model identifier",
        r"\S+ is not a valid git identifier",
        r"(?:Repository|Revision|Entry) Not Found for url",
        r"(?:Repository|Revision|Entry)NotFoundError",
    ),
    sign(
        Reason.WEIGHTS_GATED,
        "asks for gated weights",
        r"You are trying to access a gated repo",
        r"Cannot access gated repo",
        r"\S+ is a gated repository",
        r"GatedRepoError",
    ),
    sign(Reason.HUB_RATE_LIMITED, "asked the hub too often", r"429 (?:Too Many Requests|Client Error)"),
    sign(
        Reason.HUB_UNREACHABLE,
        "does not reach the hub",
        r"We couldn't connect to '",
        r"LocalEntryNotFoundError",
        r"Name or service not known",
        r"Temporary failure in name resolution",
    ),
)


def read_word(message: str) -> tuple[Reason, str] | None:
    """The script's last word, where a termination message is one."""
    try:
        said = json.loads(message.strip().rpartition("\n")[2].removeprefix("weights: "))
        reason = _SPOKEN_WORDS[said["reason"]]
        words = str(said["message"])
    except (ValueError, KeyError, TypeError):
        return None
    return reason, excerpt(words, limit=400)


def hub_said(replica: Replica) -> Trouble | None:
    """Of what brings the weights, or of the engine."""
    for each in replica.containers:
        if word := read_word(each.terminated_message):
            reason, words = word
            return told(reason, f"pod {replica.name} does not get its weights", words, node=replica.node)
        if found := first_sign(each.words, SIGNS):
            known, words = found
            return told(known.reason, f"{replica.whose(each)} {known.did}", words)
    return None
