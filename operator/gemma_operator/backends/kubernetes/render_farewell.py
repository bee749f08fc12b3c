"""What a pod gets so that its clients have moved over before its engine goes: the engine's program, and the hook.

The program is an annotation of the pod, shown to the container as a file: it changes with a rollout and never without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.render_parts import Json, annotation_file
from gemma_operator.engines.base import Engine

_VOLUME: Final = "farewell"
#: Where the engine finds the program.
PATH: Final = "/etc/gemma-operator/farewell"


@dataclass(frozen=True, slots=True)
class Goodbye:
    """Nothing but the hook where the engine needs no program."""

    hook: Json
    path: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Json, ...] = ()
    mounts: tuple[Json, ...] = ()


def goodbye_of(engine: Engine, *, unrouting_seconds: int) -> Goodbye:
    """For the pods of one engine; new requests may still arrive for `unrouting_seconds`."""
    command = engine.pre_stop(seconds=unrouting_seconds)
    hook: Json = (
        {"exec": {"command": list(command)}} if command else {"sleep": {"seconds": unrouting_seconds}}
    )
    if engine.farewell is None:
        return Goodbye(hook=hook)
    file = annotation_file(engine.farewell.file_name, names.FAREWELL)
    return Goodbye(
        hook=hook,
        path=PATH,
        annotations={names.FAREWELL: engine.farewell.source},
        volumes=({"name": _VOLUME, "downwardAPI": {"items": [file]}},),
        mounts=({"name": _VOLUME, "mountPath": PATH, "readOnly": True},),
    )
