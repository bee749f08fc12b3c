"""What guards an endpoint with `access.apiKey`: the engine's guard, the users' keys and the hash of the operator's key.

All of it is in the pod itself, in one projected volume. The users' keys come from their own Secret, which the kubelet
brings and only the kubelet reads; a key that is changed there is changed in the volume. The guard and the hash are
annotations of the pod, so they change with a rollout and never without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes.render_parts import Json, annotation_file
from gemma_operator.engines.access_middleware import PROBE_KEY_HASH
from gemma_operator.engines.base import Engine
from gemma_operator.engines.startup_probe import KEY_FILE

_VOLUME: Final = "access"
_KEY_FILE: Final = PurePosixPath(KEY_FILE)
#: Root owns the files; the engine runs with group 0.
_READABLE_BY_GROUP: Final = 0o440
#: Read by nobody. It is what makes Kubernetes say CreateContainerConfigError with the Secret's name where the Secret
#: or its key is missing; of a volume it would say so in an Event alone.
_WITNESS: Final = "GEMMA_ACCESS_KEY_AT_START"


@dataclass(frozen=True, slots=True)
class Access:
    """What the pod gets beside what it has anyway; nothing where everybody may ask."""

    #: Where the guard lies in the container; empty: there is none.
    path: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()
    environment: tuple[Json, ...] = ()


EVERYBODY: Final = Access()


def access_of(deployment: GemmaDeployment, *, engine: Engine, probe_key: str) -> Access:
    """For the pods of one deployment; `probe_key` is what the operator will show."""
    wanted = deployment.spec.access
    if wanted is None or wanted.api_key is None:
        return EVERYBODY
    secret = wanted.api_key.secret_key_ref
    guard = engine.guard
    keys = {"name": secret.name, "items": [{"key": secret.key, "path": _KEY_FILE.name}], "optional": True}
    return Access(
        path=str(_KEY_FILE.parent),
        annotations={
            names.ACCESS_GUARD: guard.source,
            names.ACCESS_PROBE: hashlib.sha256(probe_key.encode()).hexdigest(),
        },
        volumes=(
            {
                "name": _VOLUME,
                "projected": {
                    "defaultMode": _READABLE_BY_GROUP,
                    "sources": [
                        # optional, so that a Secret that is deleted takes its keys away and not the last ones stay
                        {"secret": keys},
                        {
                            "downwardAPI": {
                                "items": [
                                    annotation_file(guard.file_name, names.ACCESS_GUARD),
                                    annotation_file(PROBE_KEY_HASH, names.ACCESS_PROBE),
                                ]
                            }
                        },
                    ],
                },
            },
        ),
        mounts=({"name": _VOLUME, "mountPath": str(_KEY_FILE.parent), "readOnly": True},),
        environment=(
            {
                "name": _WITNESS,
                "valueFrom": {"secretKeyRef": {"name": secret.name, "key": secret.key}},
            },
        ),
    )
