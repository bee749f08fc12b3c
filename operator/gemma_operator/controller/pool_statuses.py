"""Writes the status of AcceleratorPools, where it differs: by the leader only, through a queue of its own.

Which nodes a pool has depends on every node and on every other pool, so a change of either asks for a look at
all of them; changes that come together are let settle first. A look costs no request where nothing differs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from gemma_operator.api import names
from gemma_operator.apiserver.records import Place
from gemma_operator.backends.kubernetes.answers import Answers
from gemma_operator.backends.kubernetes.ownership import digest
from gemma_operator.catalog.records import Catalog
from gemma_operator.controller import pool_status
from gemma_operator.controller.fleet import Fleet
from gemma_operator.controller.queue import Queue
from gemma_operator.controller.workers import work
from gemma_operator.errors import NotFound

#: Sends a whole status; the answer goes into the store before this one returns.
ApplyStatus = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Store(Protocol):
    """The AcceleratorPools as the server stores them."""

    def get(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        """The object, or None."""
        ...

    def places(self) -> Iterable[Place]:
        """Where all of them stand."""
        ...


class PoolStatuses:
    """Keeps every AcceleratorPool's status true. `queue` is opened and closed with the Lease."""

    def __init__(
        self,
        *,
        store: Store,
        fleet: Fleet,
        catalog: Catalog,
        apply_status: ApplyStatus,
        now: Callable[[], datetime],
        debounce_seconds: float,
    ) -> None:
        self.queue: Queue[str] = Queue()
        self._store = store
        self._fleet = fleet
        self._catalog = catalog
        self._apply_status = apply_status
        self._now = now
        self._debounce_seconds = debounce_seconds
        self._answers = Answers()

    def changed(self) -> None:
        """A node or a pool came, went or changed: each pool is looked at soon."""
        for _namespace, name in self._store.places():
            self.queue.add_after(name, self._debounce_seconds)

    def touched(self, name: str) -> None:
        """One pool's object is another one, although it declares the same: somebody may have edited its status."""
        self.queue.add_after(name, self._debounce_seconds)

    async def run(self) -> None:
        """One worker, until cancelled: there are few pools, and each seldom changes."""
        await work(self.queue, self.reconcile, on_result=lambda _result, _seconds: None)

    async def reconcile(self, name: str) -> float | None:
        """Looks at one pool once; nothing is due by time alone."""
        obj = self._store.get("", name)
        if obj is None or "deletionTimestamp" in obj["metadata"]:
            return None
        uid = obj["metadata"]["uid"]
        found = pool_status.seen(name, pools=self._fleet.pools, overlapping=self._fleet.overlapping)
        status = pool_status.status_json(
            obj, found, catalog=self._catalog, now_iso=self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        sent = digest(status)
        if self._answers.stands(uid, sent=sent, live=digest(obj.get("status") or {})):
            return None
        body = {"apiVersion": names.API_VERSION, "kind": names.POOL_KIND, "metadata": {"name": name}}
        try:
            answer = await self._apply_status({**body, "status": status})
        except NotFound:
            self._answers.forget(uid)
            return None
        self._answers.note(uid, sent=sent, stood=digest(answer.get("status") or {}))
        return None
