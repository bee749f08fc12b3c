"""Whether a restarted operator has asked the replicas, which the last one asked; until then it says nothing. Pure."""

from __future__ import annotations

from dataclasses import replace

from gemma_operator.backends.decision import Decision, soonest
from gemma_operator.backends.kubernetes import standing
from gemma_operator.backends.kubernetes.snapshot import Replica, Snapshot
from gemma_operator.backends.kubernetes.view import View
from gemma_operator.probing.facts import Verdict, verdict


def is_asking(view: View) -> bool:
    """What was said was learnt by asking, and some ready replica was not asked by this process yet.

    A start that was refused by its guard for want of a key was told by asking too.
    """
    snapshot = view.snapshot
    if not standing.learnt_by_asking(snapshot):
        return standing.was_healthy(snapshot) and _has_asked_nobody(view)
    lacks_a_key = standing.lacks_a_key(snapshot)
    return any(
        (replica.ready and verdict(snapshot.facts.get(replica.uid)) is Verdict.UNKNOWN)
        or (lacks_a_key and replica.phase == "Running" and not _looked_at(replica, snapshot))
        for replica in view.health.current
    )


def unsaid(decision: Decision, view: View) -> Decision:
    """What is to be made is made at once; what was said last stands for one probe period."""
    period_seconds = view.snapshot.settings.probe_period_seconds
    again = soonest(decision.look_again_after_seconds, period_seconds)
    return replace(decision, conditions=(), status=None, look_again_after_seconds=again)


def _looked_at(replica: Replica, snapshot: Snapshot) -> bool:
    facts = snapshot.facts.get(replica.uid)
    return facts is not None and facts.looked_at


def _has_asked_nobody(view: View) -> bool:
    """In the middle of a rollout it is the older replicas that serve."""
    ready = [each for each in (*view.health.current, *view.health.outdated) if each.ready]
    facts = view.snapshot.facts
    return bool(ready) and all(verdict(facts.get(each.uid)) is Verdict.UNKNOWN for each in ready)
