"""List and watch of one resource into a table of small records.

A page is cut down before the next one is decoded, so memory holds one page of whole objects at most. The
watch goes on from the last version it saw (bookmarks move it on where nothing changes); when the server has
forgotten that version (410), everything is listed again and what went meanwhile is reported as gone. Whatever
else goes wrong is waited out with a growing, jittered pause: a cache ends only when its task is cancelled. Nor does
it end for one object that cannot be read, since anybody in the cluster may write such a one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.records import Change, Place, Records, place_of
from gemma_operator.apiserver.resources import Resource
from gemma_operator.errors import ApiError, Gone, TooManyRequests

T = TypeVar("T")

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 15.0
#: A stream that lived this long was a good one: the next failure starts from the first pause again.
_GOOD_STREAM_SECONDS = 5.0
_WATCH_SECONDS = 300


class Cache(Generic[T]):
    """The records of one resource, as new as the watch; run `run()` as a task and wait for `synced`."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        cut: Callable[[Mapping[str, Any]], T | None],
        label_selector: str = "",
        field_selector: str = "",
        on_change: Callable[[Change[T]], None] | None = None,
        index: Callable[[T], Hashable | None] | None = None,
        page_size: int = 500,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        #: The last failure, None while list or watch is well; for start-up checks and `/readyz`.
        self.failure: ApiError | None = None
        self._client = client
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._cut = cut
        self._records = Records(cut=self._readable, on_change=on_change, index=index)
        self._page_size = page_size
        self._version = ""
        self._failures = 0

    def __len__(self) -> int:
        return len(self._records)

    def get(self, namespace: str, name: str) -> T | None:
        """The record of one object, or None."""
        return self._records.get(namespace, name)

    def values(self) -> Iterator[T]:
        """All records."""
        return self._records.values()

    def by(self, value: Hashable) -> tuple[T, ...]:
        """The records whose `index` is `value`."""
        return self._records.by(value)

    def put_answer(self, obj: Mapping[str, Any]) -> None:
        """The answer to our own write: what is read next is at least as new."""
        self._records.put(obj)

    async def run(self) -> None:
        """Lists and watches until cancelled."""
        while True:
            started = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                    started = time.monotonic()
                await self._watch()
            except ApiError as error:
                if isinstance(error, Gone):
                    self._version = ""
                await self._pause(error, lived_seconds=time.monotonic() - started)
            else:
                # the server ends streams by itself; one that ends at once must not become a hot loop
                if time.monotonic() - started < 1.0:
                    await asyncio.sleep(_jittered(_FIRST_PAUSE_SECONDS))

    async def _list(self) -> None:
        listed: set[Place] = set()
        version = ""
        pages = self._client.list(
            self.resource,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            page_size=self._page_size,
        )
        async with aclosing(pages):
            async for page in pages:
                for obj in page.items:
                    listed.add(place_of(obj))
                    self._records.put(obj)
                version = page.resource_version
                del page
        for namespace, name in self._records.prune(listed, version=int(version)):
            logger.info("%s %s/%s went while it was not watched", self.resource.full_name, namespace, name)
        self._version = version
        # a watch that works has to show that all is well: a list that is followed by none is dear
        self.failure = None
        self.synced.set()

    async def _watch(self) -> None:
        # jittered, so that the streams of all caches and replicas do not end together
        seconds = int(_WATCH_SECONDS * random.uniform(1.0, 1.5))  # noqa: S311
        stream = self._client.watch(
            self.resource,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=seconds,
        )
        async with aclosing(stream):
            async for kind, obj in stream:
                self._take(kind, obj)

    def _take(self, kind: str, obj: Mapping[str, Any]) -> None:
        if kind in {"ADDED", "MODIFIED"}:
            self._records.put(obj)
        elif kind == "DELETED":
            self._records.remove(obj)
        elif kind != "BOOKMARK":
            logger.warning("unknown event %r while watching %s", kind, self.resource.full_name)
            return
        self._version = obj["metadata"]["resourceVersion"]
        self._is_well()

    def _readable(self, obj: Mapping[str, Any]) -> T | None:
        """What `cut` keeps; nothing of an object that it cannot read, which is told with all that is known of it."""
        try:
            return self._cut(obj)
        except Exception:
            namespace, name = place_of(obj)
            where = f"{namespace}/{name}" if namespace else name
            logger.exception("%s %s cannot be read and is left out", self.resource.full_name, where)
            return None

    def _is_well(self) -> None:
        self.failure = None
        self._failures = 0

    async def _pause(self, error: ApiError, *, lived_seconds: float) -> None:
        self.failure = error
        if lived_seconds >= _GOOD_STREAM_SECONDS:
            self._failures = 0
        ceiling = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        seconds = _jittered(ceiling)
        if isinstance(error, TooManyRequests):
            seconds = max(seconds, error.retry_after_seconds)
        logger.warning("%s; trying again in %.1f s", error, seconds)
        await asyncio.sleep(seconds)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311
