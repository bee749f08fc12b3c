"""Children that are not left as they were applied: how often that was tried, and when it is tried again.

Whoever changes a child back may be stronger, so each further try waits longer and a window never holds more than
`MOST_WRITES`. The memory is this process's own: a restart costs one try, and nothing stands in the object's metadata.
Pure: every call is given the time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    #: Changed back more often than a hand would.
    stubborn: bool
    #: Until it may be tried again.
    wait_seconds: float
    #: Until a repair that stands is believed.
    settles_seconds: float


@dataclass(frozen=True, slots=True)
class _Tries:
    sent: str
    changed: Changed
    admitted: bool
    #: Since the last time that nobody changed it for a window.
    count: int
    #: Moments of the last window, and how many requests each took.
    at: tuple[tuple[datetime, int], ...]


class Contests:
    """uid of an owner → uid of a child → its tries within a window."""

    def __init__(self, *, window_seconds: float) -> None:
        self._window = timedelta(seconds=window_seconds)
        self._tries: dict[str, dict[str, _Tries]] = {}

    def is_again(self, owner: str, uid: str, *, sent: str) -> bool:
        """This very manifest was applied to that child lately, so somebody changed it since."""
        tries = self._tries.get(owner, {}).get(uid)
        return tries is not None and tries.sent == sent

    def note(
        self,
        owner: str,
        uid: str,
        *,
        sent: str,
        now: datetime,
        changed: Changed,
        admitted: bool,
        requests: int = 1,
    ) -> None:
        """One try, and what is known of those who change it; of another manifest it is the first."""
        children = self._tries.setdefault(owner, {})
        before = children.pop(uid, None)
        earlier = before.at if before is not None and before.sent == sent else ()
        lately = tuple(each for each in earlier if now - each[0] <= self._window)
        count = before.count + 1 if before is not None and lately else 1
        children[uid] = _Tries(sent, changed, admitted, count, (*lately, (now, requests)))

    def forget(self, owner: str) -> tuple[str, ...]:
        """The owner went; the uids of the children that were remembered."""
        return tuple(self._tries.pop(owner, ()))

    def of(self, owner: str, *, now: datetime) -> Mapping[str, Contest]:
        """By uid of the child."""
        children = self._tries.get(owner, {})
        over = [uid for uid, tries in children.items() if not tries.admitted and self._is_over(tries, now)]
        for uid in over:
            del children[uid]
        return {uid: self._seen(tries, now) for uid, tries in children.items()}

    def _is_over(self, tries: _Tries, now: datetime) -> bool:
        return now - tries.at[-1][0] > self._window

    def _seen(self, tries: _Tries, now: datetime) -> Contest:
        last, count = tries.at[-1][0], tries.count
        stubborn = tries.admitted or count > _AT_ONCE
        pause = self._window * _PAUSES[min(count, len(_PAUSES)) - 1] if stubborn else timedelta()
        settled = last + self._window * _SETTLES if stubborn and not tries.admitted else last
        return Contest(
            sent=tries.sent,
            changed=tries.changed,
            admitted=tries.admitted,
            stubborn=stubborn,
            wait_seconds=self._until(max(last + pause, self._room_at(tries)), now),
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
