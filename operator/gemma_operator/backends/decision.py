"""What a policy says: the one word between deciding and acting, the same for every backend.

A decision is a whole: the objects to apply, what to delete, the status as it shall stand, and when to
look again. It says nothing about how; `act` sends it and knows nothing of GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gemma_operator.api.conditions import Condition

Manifest = Mapping[str, Any]


class Ask(Enum):
    """What a policy wants from placement before it decides."""

    NOTHING = "nothing"
    PLACE = "place"
    #: A rollout is about to begin: is there room for one replica more? Decided again with the answer.
    ROOM = "room"


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object to delete: by uid, so that a namesake that came later is left alone."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Event:
    """One Kubernetes Event, on a change of state only."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class StatusFields:
    """The status beside its conditions. `None` leaves a field out; nothing here changes at rest."""

    replicas: int = 0
    ready_replicas: int = 0
    selector: str = ""
    plan: Mapping[str, Any] | None = None
    alternatives: Sequence[Mapping[str, Any]] = ()
    endpoint: Mapping[str, str] | None = None
    measured: Mapping[str, int] | None = None
    startup: Sequence[Mapping[str, Any]] = ()
    last_handled_replan_at: str | None = None
    last_handled_refresh_at: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What shall be so. Empty `apply`, `merge` and `delete` and an equal status mean: nothing is written."""

    policy: str
    conditions: tuple[Condition, ...] = ()
    apply: tuple[Manifest, ...] = ()
    #: Parts of children, each with its uid, that change while the rest stays as another version rendered it.
    merge: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    #: None: the status stays as it is (somebody said hands off, or the object is on its way out).
    status: StatusFields | None = None
    ask: Ask = Ask.NOTHING
    events: tuple[Event, ...] = field(default=())
    look_again_after_seconds: float | None = None


def soonest(*seconds: float | None) -> float | None:
    """The first moment that is still to come: what is over brings no further look by itself."""
    return min((each for each in seconds if each is not None and each > 0), default=None)
