"""What `act` writes with: server-side apply under fixed field managers, the answer put back into its cache.

The whole intent is sent each time; a field that is left out is given up. Children and status have managers of
their own, else one apply would revert the other. An answer goes into the table that it belongs to before
anybody reads again, so a reconcile that follows at once sees what was just written and writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gemma_operator.api.names import FIELD_MANAGER
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import BY_KIND, EVENTS, Resource

STATUS_MANAGER = f"{FIELD_MANAGER}-status"

#: Takes the server's answer to a write.
PutAnswer = Callable[[Mapping[str, Any]], None]


class Writer:
    """Sends manifests by their kind. `answers` says which table takes the answer for a kind."""

    def __init__(self, client: Client, *, answers: Mapping[str, PutAnswer]) -> None:
        self._client = client
        self._answers = answers

    async def apply(self, manifest: Mapping[str, Any], *, uid: str = "") -> dict[str, Any]:
        """Applies one object. With `uid` by force, and only to that very one; without, Conflict where
        somebody else holds a field that it sets.
        """
        if uid:
            manifest = {**manifest, "metadata": {**manifest["metadata"], "uid": uid}}
        answer = await self._client.apply(
            _resource(manifest["kind"]), manifest, field_manager=FIELD_MANAGER, force=bool(uid)
        )
        return self._keep(answer)

    async def put_back(self, manifest: Mapping[str, Any], *, uid: str) -> dict[str, Any]:
        """For a known child that an apply cannot mend, because an item that somebody put into a list of ours
        excludes our own: the lists are replaced, then the apply makes us their owner again.
        """
        await self.merge({**manifest, "metadata": {**manifest["metadata"], "uid": uid}})
        return await self.apply(manifest, uid=uid)

    async def merge(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Changes some fields of the very object whose uid it carries, and leaves the rest to who applied it: an
        apply would give up what it leaves out. The next apply by force takes them back.
        """
        answer = await self._client.merge(_resource(manifest["kind"]), manifest, field_manager=FIELD_MANAGER)
        return self._keep(answer)

    async def apply_status(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Applies the status subresource: `manifest` has apiVersion, kind, metadata and the whole status."""
        answer = await self._client.apply_status(
            _resource(manifest["kind"]), manifest, field_manager=STATUS_MANAGER
        )
        return self._keep(answer)

    async def delete(self, kind: str, *, namespace: str, name: str, uid: str) -> None:
        """Deletes this very object; its watch event takes it out of the cache."""
        await self._client.delete(_resource(kind), namespace=namespace, name=name, uid=uid)

    async def read(self, kind: str, *, namespace: str, name: str) -> dict[str, Any]:
        """Reads one object past the cache: a stranger of our name has no label and is in no cache."""
        return await self._client.get(_resource(kind), namespace=namespace, name=name)

    async def events_about(self, uid: str, *, namespace: str, reason: str) -> list[dict[str, Any]]:
        """Events of others about one object, past every cache: they are many, and few are asked for."""
        wanted = f"regarding.uid={uid},reason={reason}"
        pages = self._client.list(EVENTS, namespace=namespace, field_selector=wanted)
        return [event async for page in pages for event in page.items]

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Creates one Event."""
        await self._client.post_event(event)

    def _keep(self, answer: dict[str, Any]) -> dict[str, Any]:
        put = self._answers.get(answer.get("kind", ""))
        if put is not None:
            put(answer)
        return answer


def _resource(kind: str) -> Resource:
    try:
        return BY_KIND[kind]
    except KeyError:
        raise KeyError(f"{kind} has no entry in apiserver.resources.BY_KIND") from None
