"""Children that are not left as they were applied: how often that was tried, and when it is tried again.

Whoever changes a child back or deletes it may be stronger, so each further try waits longer and a window never holds
more than `MOST_WRITES`. A child is known by its place, since one that was deleted comes back as another object. The
memory is this process's own: a restart costs one try, and nothing stands in the object's metadata.
Pure: every call is given the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from gemma_operator.backends.kubernetes.differences import Changed

#: Requests that write one contested child within one window.
MOST_WRITES: Final = 5
#: After the first try, the second, …: in windows. Of ten minutes: 15, 45, 120 and 300 seconds.
_PAUSES: Final = (1 / 40, 3 / 40, 8 / 40, 20 / 40)
#: Tries that make nobody wait, unless admission answers them: the apply itself, and one repair of what a hand did.
_AT_ONCE: Final = 2
#: A repair that has stood so long is believed; what fights over a field comes back sooner (an autoscaler: 15 seconds).
_SETTLES: Final = 2 / 40


@dataclass(frozen=True, slots=True)
class Contest:
    """What is known of one child's last tries, at one moment."""

    #: Hash of the manifest that was tried.
    sent: str
    changed: Changed
    #: Changed within our own request: by a webhook or a policy, which leaves no name in managedFields.
    admitted: bool
    #: It was deleted since it was first tried, and made again.
    gone: bool
    #: Changed back or deleted more often than a hand would.
    stubborn: bool
    #: Until it may be tried again.
    wait_seconds: float
    #: Until a repair that stands is believed.
    settles_seconds: float


@dataclass(frozen=True, slots=True)
class Try:
    """One apply of a child, and what was found of it before, or in the answer."""

    #: Hash of the manifest.
    sent: str
    changed: Changed = field(default_factory=Changed)
    admitted: bool = False
    #: It had been applied lately and was not there any more.
    gone: bool = False
    #: That it took.
    requests: int = 1


@dataclass(frozen=True, slots=True)
class _Tries:
    uid: str
    last: Try
    #: One of them found nothing there.
    gone: bool
    #: Since the last time that nobody changed it for a window.
    count: int
    #: Moments of the last window, and how many requests each took.
    at: tuple[tuple[datetime, int], ...]


def place(kind: str, name: str) -> str:
    """How a child is known, whatever object stands there."""
    return f"{kind}/{name}"


class Contests:
    """uid of an owner → place of a child → its tries within a window."""

    def __init__(self, *, window_seconds: float) -> None:
        self._window = timedelta(seconds=window_seconds)
        self._tries: dict[str, dict[str, _Tries]] = {}

    def is_again(self, owner: str, where: str, *, sent: str) -> bool:
        """This very manifest was applied there lately, so somebody changed or deleted it since."""
        tries = self._tries.get(owner, {}).get(where)
        return tries is not None and tries.last.sent == sent

    def note(self, owner: str, where: str, tried: Try, *, uid: str, now: datetime) -> None:
        """One try, of the object that stands there now; of another manifest it is the first."""
        children = self._tries.setdefault(owner, {})
        before = children.pop(where, None)
        earlier = before.at if before is not None and before.last.sent == tried.sent else ()
        lately = tuple(each for each in earlier if now - each[0] <= self._window)
        count, gone = (before.count + 1, before.gone) if before is not None and lately else (1, False)
        at = (*lately, (now, tried.requests))
        children[where] = _Tries(uid, tried, gone or tried.gone, count, at)

    def removed(self, owner: str, where: str) -> None:
        """We deleted it ourselves: whatever comes there next is no answer to anybody."""
        self._tries.get(owner, {}).pop(where, None)

    def forget(self, owner: str) -> tuple[str, ...]:
        """The owner went; the uids of the children that were remembered."""
        return tuple(tries.uid for tries in self._tries.pop(owner, {}).values())

    def of(self, owner: str, *, now: datetime) -> Mapping[str, Contest]:
        """By place of the child."""
        children = self._tries.get(owner, {})
        over = [
            where
            for where, tries in children.items()
            if not tries.last.admitted and self._is_over(tries, now)
        ]
        for where in over:
            del children[where]
        return {where: self._seen(tries, now) for where, tries in children.items()}

    def _is_over(self, tries: _Tries, now: datetime) -> bool:
        return now - tries.at[-1][0] > self._window

    def _seen(self, tries: _Tries, now: datetime) -> Contest:
        moment, count, tried = tries.at[-1][0], tries.count, tries.last
        stubborn = tried.admitted or count > _AT_ONCE
        pause = self._window * _PAUSES[min(count, len(_PAUSES)) - 1] if stubborn else timedelta()
        settled = moment + self._window * _SETTLES if stubborn and not tried.admitted else moment
        return Contest(
            sent=tried.sent,
            changed=tried.changed,
            admitted=tried.admitted,
            gone=tries.gone,
            stubborn=stubborn,
            wait_seconds=self._until(max(moment + pause, self._room_at(tries)), now),
            settles_seconds=self._until(settled, now),
        )

    def _room_at(self, tries: _Tries) -> datetime:
        """When a window has room for as many requests as the last try took."""
        left = MOST_WRITES - tries.at[-1][1]
        for moment, requests in reversed(tries.at):
            left -= requests
            if left < 0:
                return moment + self._window
        return tries.at[-1][0]

    def _until(self, moment: datetime, now: datetime) -> float:
        """A clock that was set back makes nobody wait for longer than a window."""
        return min(self._window, max(timedelta(), moment - now)).total_seconds()
