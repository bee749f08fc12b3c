"""A cache of a kind that a cluster may have and may lack: Karpenter's, GKE's, DRA's.

What the API serves is asked at the start and from time to time; the kind is watched while it is served, and forgotten
when it is not any more. A kind that may not be read counts as one that is not there: nothing here is needed to run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.records import Change
from gemma_operator.apiserver.resources import Resource
from gemma_operator.errors import ApiError, Forbidden, NotFound

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: While the server does not say what it serves.
_PAUSE_SECONDS: Final = 2.0
#: So often it is asked before it counts as absent for now.
_FAILURES: Final = 10
#: A kind whose CRD was removed answers 404 from then on: that is seen after so long, and not ten minutes later.
_GLANCE_SECONDS: Final = 5.0


class OptionalCache(Generic[T]):
    """The records of the first of `resources` that is served (versions of one kind, the newest first)."""

    def __init__(
        self,
        client: Client,
        resources: Sequence[Resource],
        *,
        cut: Callable[[Mapping[str, Any]], T | None],
        on_change: Callable[[Change[T]], None],
        look_again_seconds: float = 600.0,
        page_size: int = 200,
    ) -> None:
        self.resource = resources[0]
        #: Known to be absent, or listed once.
        self.synced = asyncio.Event()
        self._client = client
        self._resources = tuple(resources)
        self._cut = cut
        self._on_change = on_change
        self._look_again_seconds = look_again_seconds
        self._page_size = page_size
        self._cache: Cache[T] | None = None

    @property
    def failure(self) -> ApiError | None:
        """The last failure of a kind that is served."""
        return None if self._cache is None else self._cache.failure

    def __len__(self) -> int:
        return 0 if self._cache is None else len(self._cache)

    def values(self) -> Iterator[T]:
        """All records; none where the kind is not served."""
        return iter(()) if self._cache is None else self._cache.values()

    async def run(self) -> None:
        """Looks and watches until cancelled."""
        failures = 0
        while True:
            try:
                resource = await self._readable()
            except ApiError as error:
                failures += 1
                if (
                    failures >= _FAILURES
                ):  # nothing here is needed: a broken webhook must not keep us from starting
                    self.synced.set()
                logger.warning("%s: %s", self.resource.full_name, error)
                await asyncio.sleep(min(_PAUSE_SECONDS, self._look_again_seconds))
                continue
            failures = 0
            if resource is None:
                self.synced.set()
                await asyncio.sleep(self._look_again_seconds)
            else:
                await self._follow(resource)

    async def _readable(self) -> Resource | None:
        """The newest version that is served and that we may list."""
        resource = await self._served()
        if resource is None:
            return None
        try:
            async for _page in self._client.list(resource, page_size=1):
                break
        except Forbidden as error:
            logger.info("%s is left out: %s", resource.full_name, error)
            return None
        except NotFound:
            return None
        return resource

    async def _served(self) -> Resource | None:
        for resource in self._resources:
            try:
                listed = await self._client.get_path(f"/apis/{resource.api_version}")
            except (NotFound, Forbidden):
                continue
            if any(each.get("name") == resource.plural for each in listed.get("resources", ())):
                return resource
        return None

    async def _follow(self, resource: Resource) -> None:
        """Watches until the kind is gone, or another version of it is the newest."""
        logger.info("%s (%s) is served and read", resource.full_name, resource.api_version)
        cache = Cache(
            self._client, resource, cut=self._cut, on_change=self._on_change, page_size=self._page_size
        )
        self.resource, self._cache = resource, cache
        task = asyncio.create_task(cache.run(), name=f"cache {resource.full_name}")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS * _FAILURES):
                    await cache.synced.wait()
            self.synced.set()
            while await self._stands(resource, cache):
                pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._forget(cache)

    async def _stands(self, resource: Resource, cache: Cache[T]) -> bool:
        """After a while: whether it is still what is to be read."""
        glances = max(1, round(self._look_again_seconds / _GLANCE_SECONDS))
        for _ in range(glances):
            await asyncio.sleep(self._look_again_seconds / glances)
            if isinstance(cache.failure, NotFound):
                break
        try:
            return await self._served() == resource
        except ApiError:
            return True  # a server that does not answer has not said that the kind is gone

    def _forget(self, cache: Cache[T]) -> None:
        logger.info("%s is not served any more", self.resource.full_name)
        self._cache = None
        for record in list(cache.values()):
            self._on_change(Change(("", ""), record, None))
