"""Nodes that take pods and refuse them: what they offer is no room for a while.

Two refusals in a row of one (node, resource) begin a quarantine that counts from the last of them; a pod made later
that the node took ends the row. Told by pods as they are listed and watched, with their own times, so a restart finds
the same quarantines in the refused pods that were kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from gemma_operator.hardware.admissions import Admission

logger = logging.getLogger(__name__)

IN_A_ROW: Final = 2


@dataclass(slots=True)
class _Row:
    """What is known of one (node, resource)."""

    taken_at: str = ""
    #: Pod uid → when it was made: of refusals after the last pod that was taken.
    refused: dict[str, str] = field(default_factory=dict)


class Quarantine:
    """Which (node, resource) have no room now. `changed` is called when that is another set."""

    def __init__(self, *, seconds: float, now: Callable[[], datetime]) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._seconds = seconds
        self._now = now
        self._rows: dict[tuple[str, str], _Row] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._moved = asyncio.Event()

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """(node, resource) in quarantine."""
        now = self._now().timestamp()
        return frozenset(pair for pair, until in self._until.items() if until > now)

    def nodes_of(self, resource: str) -> frozenset[str]:
        """Nodes whose devices of this name are in quarantine."""
        return frozenset(node for node, name in self.pairs if name == resource)

    def saw(self, admission: Admission | None) -> None:
        """A pod's answer, as often as the pod changes."""
        if admission is None:
            return
        for resource in admission.resources:
            self._take((admission.node, resource), admission)

    def forget(self, node: str) -> None:
        """The node went; one that comes under its name begins anew."""
        for pair in [pair for pair in self._rows if pair[0] == node]:
            del self._rows[pair]
            self._until.pop(pair, None)

    def _take(self, pair: tuple[str, str], admission: Admission) -> None:
        row = self._rows.setdefault(pair, _Row()) if admission.refused else self._rows.get(pair)
        if row is None:
            return  # a node that never refused anything is not kept account of
        if not admission.refused:
            row.taken_at = max(row.taken_at, admission.made_at)
        elif admission.uid not in row.refused:
            row.refused[admission.uid] = admission.made_at
        row.refused = {uid: at for uid, at in row.refused.items() if at > row.taken_at}
        self._judge(pair, row)

    def _judge(self, pair: tuple[str, str], row: _Row) -> None:
        before = self.pairs
        if len(row.refused) >= IN_A_ROW:
            row.refused = dict(sorted(row.refused.items(), key=lambda item: item[1])[-IN_A_ROW:])
            self._until[pair] = _seconds(max(row.refused.values())) + self._seconds
        else:
            self._until.pop(pair, None)
        if self.pairs != before:
            logger.warning(
                "node %s %s", pair[0], "refuses pods" if pair in self.pairs else "takes pods again"
            )
            self._moved.set()
            self.changed()

    async def run(self) -> None:
        """Lifts what is over, until cancelled."""
        while True:
            self._moved.clear()
            now = self._now().timestamp()
            over = [pair for pair, until in self._until.items() if until <= now]
            for pair in over:
                del self._until[pair]
            if over:
                self.changed()
            wait = min((until - now for until in self._until.values()), default=None)
            try:
                async with asyncio.timeout(None if wait is None else max(0.0, wait)):
                    await self._moved.wait()
            except TimeoutError:
                continue


def _seconds(timestamp: str) -> float:
    """Of an RFC 3339 time; one that cannot be read was long ago."""
    try:
        return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
    except ValueError:
        return 0.0
