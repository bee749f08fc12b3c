"""What a contest over a child means: whether the child is applied now, and what is said. Pure.

A child that others change or delete is put back at once, twice; then ever later, and the status says who changes what.
What admission makes of our own request is told by its place: in metadata it is left so; in a pod template it is left so
while the pods do well, since mirrors of images and added tolerations are an administrator's right; anywhere else it
makes the child another thing than was wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import standing
from gemma_operator.backends.kubernetes.contests import Contest, place
from gemma_operator.backends.kubernetes.failures.trouble import Trouble
from gemma_operator.backends.kubernetes.snapshot import Child, Snapshot

_METADATA: Final = "metadata"
_TEMPLATE: Final = "spec.template"
_REMEDY: Final = "make it leave this object alone; it is put back from time to time, and soon after"
#: Kubernetes keeps no name of who deletes.
_REMEDY_OF_DELETION: Final = (
    "stop what prunes or cleans up in this namespace (the API server's audit log names who deletes); it is made again "
    "from time to time, and soon after"
)
_SHOWN: Final = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """One child that is rendered, and what stands in its place; None: nothing does."""

    kind: str
    name: str
    #: Hash of what it should be.
    sent: str
    child: Child | None

    @property
    def stands(self) -> bool:
        """It is as it was sent."""
        return self.child is not None and self.child.owned_hash == self.sent

    def contest_in(self, snapshot: Snapshot) -> Contest | None:
        """What is known of its last tries; of another manifest nothing is."""
        contest = snapshot.contests.get(place(self.kind, self.name))
        return contest if contest is not None and contest.sent == self.sent else None


@dataclass(frozen=True, slots=True)
class Contested:
    """One child that is not left as it was applied."""

    wanted: Wanted
    contest: Contest
    #: It is another thing than was wanted; else that is only remarked.
    grave: bool

    @property
    def trouble(self) -> Trouble:
        """Who changes what, and what to do."""
        if self.wanted.child is None or (self.contest.gone and not self.contest.changed.fields):
            did = f"somebody deletes {self.wanted.kind} {self.wanted.name} each time that it is made"
            return Trouble(Reason.CONFLICT, f"{did}: {_REMEDY_OF_DELETION}", final=True)
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
        return f"{named}{more} of {self.wanted.kind} {self.wanted.name}"


def is_left(wanted: Wanted, snapshot: Snapshot) -> bool:
    """Whether a child of ours stays as it is for now: it is as it was sent, or its next try is not due."""
    contest = wanted.contest_in(snapshot)
    if wanted.child is None:
        return contest is not None and contest.gone and contest.wait_seconds > 0
    if wanted.stands:
        return True
    answered = snapshot.answers.get(wanted.child.uid) == (wanted.sent, wanted.child.owned_hash)
    if contest is None:
        return answered
    if answered and not _is_retried(contest, snapshot):
        return True
    return contest.wait_seconds > 0


def found(children: Iterable[Wanted], snapshot: Snapshot) -> tuple[Contested, ...]:
    """The contests that are spoken of; the grave ones first."""
    seen = [
        Contested(wanted, contest, grave=wanted.child is None or not contest.admitted or _is_grave(contest))
        for wanted in children
        if (contest := wanted.contest_in(snapshot)) is not None and _is_said(contest, wanted)
    ]
    return tuple(sorted(seen, key=lambda each: (not each.grave, each.wanted.kind)))


def look_again_seconds(contested: Iterable[Contested], snapshot: Snapshot) -> float | None:
    """When the next try is due, or when a repair that stands is believed."""
    moments = [
        each.contest.settles_seconds if each.wanted.stands else each.contest.wait_seconds
        for each in contested
        if each.wanted.child is None or not each.contest.admitted or _is_retried(each.contest, snapshot)
    ]
    return min((moment for moment in moments if moment > 0), default=None)


def _is_said(contest: Contest, wanted: Wanted) -> bool:
    if wanted.child is None:
        return contest.gone and (contest.stubborn or contest.wait_seconds > 0)
    if wanted.stands:
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
