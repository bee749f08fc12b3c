"""List and watch one kind, for the daemon: every object once, then each change, for ever.

Smaller than the operator's cache on purpose: whole objects, no paging, no cutting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import orjson

_RETRY_SECONDS = 0.2
# A watch line is a whole object; aiohttp refuses lines of more than twice its read buffer.
READ_BUFFER_BYTES = 4 * 2**20

_log = logging.getLogger(__name__)


class Watch:
    """Calls `changed` with each object and `gone` with the last that was seen of a deleted one."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        path: str,
        *,
        changed: Callable[[dict[str, Any]], None],
        gone: Callable[[dict[str, Any]], None],
    ) -> None:
        self._session = session
        self._path = path
        self._changed = changed
        self._gone = gone
        self._known: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """List, watch, and list again whenever the watch ends other than by time."""
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                version = await self._watch(version)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("watch of %s: %s", self._path, error or type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _list(self) -> str:
        async with self._session.get(self._path) as response:
            response.raise_for_status()
            listed = orjson.loads(await response.read())
        current = {item["metadata"]["uid"]: item for item in listed["items"]}
        for uid in [uid for uid in self._known if uid not in current]:
            self._gone(self._known.pop(uid))
        for item in current.values():
            self._see(item)
        return str(listed["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        """The resourceVersion from which to go on; empty where only a list helps."""
        parameters = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self._session.get(self._path, params=parameters, timeout=timeout) as response:
            if response.status != 200:
                return ""
            async for line in response.content:
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return ""
                version = event["object"]["metadata"]["resourceVersion"]
                self._dispatch(event["type"], event["object"])
        return version

    def _dispatch(self, kind: str, item: dict[str, Any]) -> None:
        if kind in {"ADDED", "MODIFIED"}:
            self._see(item)
        elif kind == "DELETED":
            self._known.pop(item["metadata"]["uid"], None)
            self._gone(item)

    def _see(self, item: dict[str, Any]) -> None:
        known = self._known.get(item["metadata"]["uid"])
        if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            self._known[item["metadata"]["uid"]] = item
            self._changed(item)


async def cancel(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks and wait for their end, whatever it was: who cancels has more to do, and errors were reported."""
    living = [task for task in tasks if task is not None]
    for task in living:
        task.cancel()
    if living:
        await asyncio.wait(living)
