"""Our own two kinds, watched by kopf; the only file that knows kopf.

kopf lists, watches, logs in again and ends the process when its watcher dies. It is given low-level event
handlers only, and nothing that would make it write: no create, update, delete, timer or daemon handlers and
no index. Each event goes into a table guarded by resourceVersion.

What kopf does not tell is what went while its watch was broken: after a relist there is no DELETED, only
events of type None, or nothing at all for an empty list. So a list of metadata only, ours, says when the
first listing is complete, drops what went soon after such an event, and looks again every ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kopf

from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.records import Change, Place, Records, place_of, version_of
from gemma_operator.apiserver.resources import ACCELERATOR_POOLS, GEMMA_DEPLOYMENTS, Resource
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.errors import ApiError

logger = logging.getLogger(__name__)

#: An object of ours as the server stores it, without managedFields.
Raw = Mapping[str, Any]
OnChange = Callable[[Change[Raw]], None]

#: A relist comes as a burst of events; one list after it is enough.
_DEBOUNCE_SECONDS = 1.0
_LIST_EVERY_SECONDS = 600.0
_RETRY_SECONDS = 1.0


class Store:
    """The objects of one of our kinds, as new as kopf's watch and our own writes."""

    def __init__(self, resource: Resource, *, on_change: OnChange | None = None) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        self._records: Records[Raw] = Records(
            cut=_cut, on_change=on_change, index=lambda obj: obj["metadata"].get("namespace") or ""
        )
        self._missing: dict[Place, int] | None = None
        self._relisted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, namespace: str, name: str) -> Raw | None:
        """One object, or None."""
        return self._records.get(namespace, name)

    def values(self) -> Iterator[Raw]:
        """All objects."""
        return self._records.values()

    def in_namespace(self, namespace: str) -> tuple[Raw, ...]:
        """The objects of one namespace."""
        return self._records.by(namespace)

    def places(self) -> list[Place]:
        """Where all objects stand."""
        return self._records.places()

    def put_answer(self, obj: Raw) -> None:
        """The answer to our own write: what is read next is at least as new."""
        self._records.put(obj)

    def take(self, kind: str | None, obj: Raw) -> None:
        """One event from kopf; type None comes from a list."""
        place, version = place_of(obj), version_of(obj)
        if kind == "DELETED":
            self._records.remove(obj)
        else:
            self._records.put(obj)
        if kind is None:
            self._relisted.set()
        if self._missing is not None and self._missing.get(place, version + 1) <= version:
            del self._missing[place]
            self._sync_if_complete()

    async def follow(self, client: Client) -> None:
        """Lists metadata now, after each relist and every ten minutes; until cancelled."""
        while True:
            self._relisted.clear()  # before the list: what is relisted meanwhile is compared again
            try:
                await self._compare(client)
            except ApiError as error:
                logger.warning("%s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if not self.synced.is_set():
                # what went between kopf's list and ours never comes: ask again what there is
                await self._wait(self.synced, _RETRY_SECONDS)
                continue
            if await self._wait(self._relisted, _LIST_EVERY_SECONDS):
                await asyncio.sleep(_DEBOUNCE_SECONDS)

    async def _compare(self, client: Client) -> None:
        listed: dict[Place, int] = {}
        version = ""
        async for page in client.list(self.resource, metadata_only=True):
            listed |= {place_of(obj): version_of(obj) for obj in page.items}
            version = page.resource_version
        for namespace, name in self._records.prune(set(listed), version=int(version)):
            logger.info("%s %s/%s went while it was not watched", self.resource.full_name, namespace, name)
        if not self.synced.is_set():
            self._missing = {
                place: wanted for place, wanted in listed.items() if self._records.version(place) < wanted
            }
            self._sync_if_complete()

    def _sync_if_complete(self) -> None:
        if not self._missing:
            self._missing = None
            self.synced.set()

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True


class Watch:
    """Both stores and the kopf operator that feeds them.

    Start `run` after every other long-lived task: at its end kopf cancels each task that is younger.
    """

    def __init__(
        self,
        client: Client,
        holder: SessionHolder,
        *,
        on_deployment: OnChange | None = None,
        on_pool: OnChange | None = None,
    ) -> None:
        self.deployments = Store(GEMMA_DEPLOYMENTS, on_change=on_deployment)
        self.pools = Store(ACCELERATOR_POOLS, on_change=on_pool)
        #: kopf runs; its signal handlers are installed, so that ours may replace them.
        self.started = asyncio.Event()
        self._client = client
        self._holder = holder
        self._stop = asyncio.Event()

    @property
    def synced(self) -> bool:
        """Both kinds were listed once, and every listed object is in its store."""
        return self.deployments.synced.is_set() and self.pools.synced.is_set()

    async def wait_synced(self) -> None:
        """Waits for `synced`."""
        await self.deployments.synced.wait()
        await self.pools.synced.wait()

    async def follow(self) -> None:
        """The lists beside kopf's watch; a task of its own, started before `run`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.deployments.follow(self._client))
            group.create_task(self.pools.follow(self._client))

    async def run(self) -> None:
        """kopf, until `stop`; raises what ended it."""
        logging.getLogger("kopf").setLevel(logging.WARNING)  # else a line for each object and event
        await kopf.operator(
            registry=self._registry(),
            settings=_settings(),
            clusterwide=True,
            standalone=True,
            stop_flag=self._stop,
            ready_flag=self.started,
        )

    def stop(self) -> None:
        """Ends `run`; kopf closes the shared session on its way out."""
        self._stop.set()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()  # not the default one, which brings logins of its own

        @kopf.on.login(registry=registry)
        async def login(**_: object) -> kopf.AiohttpSession:
            session = await self._holder.for_kopf()
            return kopf.AiohttpSession(server=self._holder.server, aiohttp_session=session)

        for store in (self.deployments, self.pools):
            self._observe(store, registry)
        return registry

    @staticmethod
    def _observe(store: Store, registry: kopf.OperatorRegistry) -> None:
        resource = store.resource

        @kopf.on.event(
            resource.group, resource.version, resource.plural, id=resource.plural, registry=registry
        )
        async def seen(event: Any, **_: object) -> None:  # noqa: ANN401 - kopf's own type is private
            store.take(event["type"], event["object"])


def _cut(obj: Raw) -> Raw:
    """managedFields are about half of an object and nobody here reads them."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return {**obj, "metadata": metadata}


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # no watch of CRDs and namespaces: fewer rights, less noise
    settings.posting.enabled = False  # Events are ours, at most one a change of state
    settings.queueing.idle_timeout = 1.0  # the default of 5 s keeps a task and a body for each object
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = _Backoffs()
    settings.watching.server_timeout = 600
    settings.watching.chunk_size = 500
    settings.persistence.finalizer = "gemma-operator.io/kopf"  # never used: no handler here needs one
    settings.persistence.diffbase_storage = _NoDiff()
    settings.persistence.progress_storage = _NoProgress()
    return settings


class _Backoffs:
    """Pauses without end: an API server that is away for long must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        seconds = 0.5
        while True:
            yield seconds
            seconds = min(15.0, seconds * 2)


class _NoDiff(kopf.DiffBaseStorage):
    """kopf copies each body deeply for diffs that only high-level handlers read: half of its time."""

    def build(self, **_: object) -> Any:  # noqa: ANN401
        return {}

    def fetch(self, **_: object) -> None:
        return None

    def store(self, **_: object) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """There is no progress to keep: event handlers are not retried."""

    def fetch(self, **_: object) -> None:
        return None

    def store(self, **_: object) -> None:
        return None

    def purge(self, **_: object) -> None:
        return None

    def touch(self, **_: object) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:  # noqa: ANN401
        return essence
