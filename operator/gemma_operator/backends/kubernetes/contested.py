"""What a contest over a child means: whether the child is applied now, and what is said. Pure.

A child that others change is put back at once, twice; then ever later, and the status says who changes what. What
admission makes of our own request is told by its place: in metadata it is left so; in a pod template it is left so
while the pods do well, since mirrors of images and added tolerations are an administrator's right; anywhere else it
makes the child another thing than was wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import standing
from gemma_operator.backends.kubernetes.contests import Contest
from gemma_operator.backends.kubernetes.failures.trouble import Trouble
from gemma_operator.backends.kubernetes.snapshot import Child, Snapshot

_METADATA: Final = "metadata"
_TEMPLATE: Final = "spec.template"
_REMEDY: Final = "make it leave this object alone; it is put back from time to time, and soon after"
_SHOWN: Final = 2


@dataclass(frozen=True, slots=True)
class Contested:
    """One child that is not left as it was applied."""

    child: Child
    contest: Contest
    #: It is another thing than was wanted; else that is only remarked.
    grave: bool

    @property
    def trouble(self) -> Trouble:
        """Who changes what, and what to do."""
        if self.contest.admitted:
            did = f"an admission webhook or policy changes {self._what} at every write"
        else:
            who = ", ".join(self.contest.changed.managers[:_SHOWN]) or "somebody"
            did = f"field manager {who} changes {self._what} again after each repair"
        return Trouble(Reason.CONFLICT, f"{did}: {_REMEDY}", final=True)

    @property
    def remark(self) -> str:
        """Where nothing has to be done."""
        return f"admission changes {self._what}"

    @property
    def _what(self) -> str:
        fields = self.contest.changed.fields
        named = ", ".join(fields[:_SHOWN]) or "fields"
        more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
        return f"{named}{more} of {self.child.kind} {self.child.name}"


def is_left(child: Child, snapshot: Snapshot, *, sent: str) -> bool:
    """Whether our child stays as it is for now: because it is as it was sent, or because its next try is not due."""
    if child.owned_hash == sent:
        return True
    answered = snapshot.answers.get(child.uid) == (sent, child.owned_hash)
    contest = _of(child, snapshot, sent=sent)
    if contest is None:
        return answered
    if answered and not _is_retried(contest, snapshot):
        return True
    return contest.wait_seconds > 0


def found(children: Iterable[tuple[Child, str]], snapshot: Snapshot) -> tuple[Contested, ...]:
    """The contests that are spoken of, of children with the hash of what they should be; the grave ones first."""
    seen = [
        Contested(child, contest, grave=not contest.admitted or _is_grave(contest))
        for child, sent in children
        if (contest := _of(child, snapshot, sent=sent)) is not None and _is_said(contest, child)
    ]
    return tuple(sorted(seen, key=lambda each: (not each.grave, each.child.kind)))


def look_again_seconds(contested: Iterable[Contested], snapshot: Snapshot) -> float | None:
    """When the next try is due, or when a repair that stands is believed."""
    moments = [
        each.contest.settles_seconds
        if each.child.owned_hash == each.contest.sent
        else each.contest.wait_seconds
        for each in contested
        if not each.contest.admitted or _is_retried(each.contest, snapshot)
    ]
    return min((moment for moment in moments if moment > 0), default=None)


def _of(child: Child, snapshot: Snapshot, *, sent: str) -> Contest | None:
    contest = snapshot.contests.get(child.uid)
    return contest if contest is not None and contest.sent == sent else None


def _is_said(contest: Contest, child: Child) -> bool:
    if child.owned_hash == contest.sent:
        return contest.settles_seconds > 0
    return contest.stubborn or contest.wait_seconds > 0


def _is_grave(contest: Contest) -> bool:
    return any(not field.startswith((_METADATA, _TEMPLATE)) for field in contest.changed.fields)


def _is_retried(contest: Contest, snapshot: Snapshot) -> bool:
    """What admission does is tried against where it does harm; in pods it does when they are in trouble."""
    if _is_grave(contest):
        return True
    in_pods = any(field.startswith(_TEMPLATE) for field in contest.changed.fields)
    return in_pods and standing.is_in_trouble(snapshot)
