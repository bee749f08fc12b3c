"""What a node said to a pod that asks for its devices: took it, or refused it after all.

A card that died is still counted by its device plugin now and then: the scheduler sends a pod, the kubelet finds no
device to give and ends the pod with `UnexpectedAdmissionError`; nothing but the next pod shows it. Source: kubernetes
pkg/kubelet/lifecycle/predicate.go and pkg/kubelet/cm/admission/errors.go.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gemma_operator.hardware import foreign
from gemma_operator.hardware.pods import pod_requests

REFUSED: Final = "UnexpectedAdmissionError"


@dataclass(frozen=True, slots=True)
class Admission:
    """One pod's answer from its node, about each accelerator resource that it asks for."""

    uid: str
    node: str
    resources: tuple[str, ...]
    #: creationTimestamp: RFC 3339 in UTC sorts as it reads.
    made_at: str
    refused: bool


def admission(obj: Mapping[str, Any], requests: Mapping[str, int] | None = None) -> Admission | None:
    """The answer that a Pod's status shows; None while there is none, and for a pod without accelerators.

    `requests` saves reckoning them twice.
    """
    metadata, spec, status = obj.get("metadata") or {}, obj.get("spec") or {}, obj.get("status") or {}
    refused = status.get("phase") == "Failed" and status.get("reason") == REFUSED
    if not spec.get("nodeName") or not (refused or status.get("phase") == "Running"):
        return None
    resources = tuple(sorted(name for name in requests or pod_requests(spec) if foreign.vendor_of(name)))
    if not resources:
        return None
    return Admission(
        uid=metadata.get("uid", ""),
        node=sys.intern(spec["nodeName"]),
        resources=resources,
        made_at=metadata.get("creationTimestamp") or "",
        refused=refused,
    )
