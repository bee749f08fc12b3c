"""Pools that a deployment left because they brought no node in time, and when they may be tried again.

A pool that was left offers no nodes to come. It is a candidate again once more replicas have room on it than had when
it was left: so capacity that came counts, and a count that the scheduler does not share cannot send a deployment to
and fro (each return needs more room than the last one had, and room has an end).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_operator.hardware.records import PoolId
from gemma_operator.planner.room import NO_ROOM, Room
from gemma_operator.planner.values import LeftPool


@dataclass(frozen=True, slots=True)
class Leaving:
    """The pool of a plan whose capacity wait is over."""

    pool: PoolId
    #: What `placement.capacityTimeoutSeconds` said.
    after_seconds: int


def noted(before: Sequence[LeftPool], leaving: Leaving, *, room_now: int) -> tuple[LeftPool, ...]:
    """The pools that are left from now on, each once, the one that is left now at the end."""
    known = [each.room for each in before if each.pool == leaving.pool]
    others = tuple(each for each in before if each.pool != leaving.pool)
    return (*others, LeftPool(leaving.pool, leaving.after_seconds, max([room_now, *known])))


def room_beside(left: Sequence[LeftPool], pool: PoolId, found: Room) -> Room:
    """What is found of a pool's room, as far as it counts for who left it."""
    entry = next((each for each in left if each.pool == pool), None)
    if entry is None:
        return found
    return Room(now=found.now, after_scale_up=found.now) if found.now > entry.room else NO_ROOM


def words(left: LeftPool) -> str:
    """For status and events: what was left and why, with nothing in it that moves."""
    return f"{left.pool.source.value}/{left.pool.name} brought no node within {left.after_seconds} s and was left"
