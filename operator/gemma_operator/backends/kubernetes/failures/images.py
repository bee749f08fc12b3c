"""Why an image does not come. Words of containerd behind those of the kubelet.

containerd 2 has them in core/remotes/docker/resolver.go, 1.6 in remotes/docker/resolver.go ("failed to do request");
what stands behind that is Go's: net/net.go and net/dial.go ("dial tcp"), net/http, crypto/x509.

Kubelets before 1.32 say only "Back-off pulling image" between two tries; then it is ImagePull until the next one.
"""

from __future__ import annotations

import re
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures.signs import Sign, first_sign, sign
from gemma_operator.backends.kubernetes.failures.trouble import Trouble, told
from gemma_operator.backends.kubernetes.snapshot import Replica

#: pkg/kubelet/images/types.go and k8s.io/cri-api/pkg/errors/errors.go, 1.37.
_WAITS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
#: What every pull begins with, and the image's name for the second time: the cause stands last, and room is scarce.
_PREAMBLE: Final = re.compile(
    r"rpc error: code = \w+ desc = |failed to pull and unpack image (?=\"[^\"]+\": failed)"
)
_TWICE: Final = re.compile(r"(\"[^\"]+\"): failed to resolve reference \1: ")
_NO_SUCH_IMAGE: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_NO_ANSWER: Final = (
    "let the nodes reach the registry, or name one that answers in serving.engine.image or the operator's image "
    "mirror"
)
_NOT_TRUSTED: Final = (
    "tell the container runtime of the nodes about the registry's certificate (containerd: hosts.toml), or use another "
    "in serving.engine.image or the operator's image mirror"
)
_TOO_OFTEN: Final = (
    "wait, name a Secret of an account in pod.imagePullSecrets, or set the operator's image mirror"
)
SIGNS: Final[tuple[Sign, ...]] = (
    sign(Reason.DISK_FULL, "", r"no space left on device", r"disk quota exceeded"),
    sign(
        Reason.IMAGE_PULL,
        "",
        r"x509: ",
        r"tls: failed to verify certificate",
        r"server gave HTTP response to HTTPS client",
        remedy=_NOT_TRUSTED,
    ),
    # before "failed to authorize", which is also said where whoever gives tokens does not answer
    sign(
        Reason.IMAGE_PULL,
        "",
        r"\bdial (?:tcp|udp)\b",
        r"no such host",
        r"connection (?:refused|reset by peer)",
        r"(?:network is unreachable|no route to host)",
        r"(?:i/o|TLS handshake) timeout",
        r"Client\.Timeout exceeded",
        r"\b50[0234] (?:Internal Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)",
        remedy=_NO_ANSWER,
    ),
    sign(Reason.IMAGE_PULL, "", r"429 Too Many Requests", r"toomanyrequests", remedy=_TOO_OFTEN),
    # before "denied": a registry that hides what one may not see speaks of both
    sign(
        Reason.IMAGE_DENIED,
        "",
        r"pull access denied",
        r"failed to authorize",
        r"insufficient_scope",
        r"40[13] (?:Unauthorized|Forbidden)",
        r"no basic auth credentials",
        r"\bdenied\b",
    ),
    sign(
        Reason.IMAGE_NOT_FOUND,
        "",
        r": not found",
        r"manifest unknown",
        r"no match for platform",
        r"404 Not Found",
    ),
)


def image(replica: Replica) -> Trouble | None:
    """Of the engine's container or another's."""
    for each in replica.containers:
        if each.waiting_reason in _WAITS:
            found = first_sign(each.waiting_message, SIGNS)
            reason, remedy = (found[0].reason, found[0].remedy) if found else (Reason.IMAGE_PULL, "")
            if each.waiting_reason in _NO_SUCH_IMAGE:
                reason, remedy = Reason.IMAGE_NOT_FOUND, ""
            words = _without_repetition(each.waiting_message) or each.waiting_reason
            what = f"pod {replica.name} cannot pull its image"
            return told(reason, what, words, node=replica.node, remedy=remedy)
    return None


def _without_repetition(words: str) -> str:
    return _TWICE.sub(r"\1: ", _PREAMBLE.sub("", words))
