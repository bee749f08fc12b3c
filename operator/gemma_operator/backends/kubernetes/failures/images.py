"""Why an image does not come. Words of containerd (core/remotes/docker/resolver.go) behind those of the kubelet.

Kubelets before 1.32 say only "Back-off pulling image" between two tries; then it is ImagePull until the next one.
"""

from __future__ import annotations

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
_NO_SUCH_IMAGE: Final = frozenset({"InvalidImageName", "ErrImageNeverPull"})
SIGNS: Final[tuple[Sign, ...]] = (
    sign(Reason.DISK_FULL, "", r"no space left on device", r"disk quota exceeded"),
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
            reason = found[0].reason if found else Reason.IMAGE_PULL
            if each.waiting_reason in _NO_SUCH_IMAGE:
                reason = Reason.IMAGE_NOT_FOUND
            words = each.waiting_message or each.waiting_reason
            return told(reason, f"pod {replica.name} cannot pull its image", words, node=replica.node)
    return None
