"""One call to the API server: dicts in, dicts out, errors as a tree, and every call has an end.

No models, no discovery, no waiting: what to do about an error is the caller's to say, because a reconcile
waits differently from a cache. A write asks the fence each time that it is sent, so that a leader that was
paused past its Lease and woke up writes nothing, in the middle of a login neither.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from gemma_operator.apiserver import answers
from gemma_operator.apiserver.resources import EVENTS, Resource
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.apiserver.transport import OnRequest, Request, Transport, decoded, lines
from gemma_operator.errors import NotLeader

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"  # JSON is yaml: the server takes it, and orjson writes it
_MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
#: The server sends a bookmark about once a minute; a stream that is silent for longer is dead.
_INACTIVITY_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `resource_version` is that of the whole list."""

    items: list[dict[str, Any]]
    resource_version: str
    #: Nothing follows.
    last: bool


class Client:
    """Talks to one API server as one user."""

    def __init__(
        self,
        holder: SessionHolder,
        *,
        on_request: OnRequest | None = None,
        fence: Callable[[], bool] | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        self._transport = Transport(holder, on_request=on_request)
        self._fence = fence or (lambda: True)
        self._timeout_seconds = timeout_seconds

    async def get(self, resource: Resource, *, name: str, namespace: str = "") -> dict[str, Any]:
        """One object; NotFound where there is none."""
        path = resource.path(namespace=namespace, name=name)
        return await self._read(path, doing=_doing("get", resource, namespace, name))

    async def get_path(self, path: str) -> dict[str, Any]:
        """What a path answers that is no object: `/version`, `/apis/GROUP/VERSION`."""
        return await self._read(path, doing=f"get {path}")

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        page_size: int = 500,
        metadata_only: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """The pages of a list. Gone in the middle means: the list took too long, start over."""
        params = _selectors(label_selector, field_selector) | {"limit": str(page_size)}
        headers = {"Accept": _METADATA_ONLY} if metadata_only else {}
        path, doing = resource.path(namespace=namespace), _doing("list", resource, namespace)
        while True:
            answer = await self._read(path, doing=doing, params=params, headers=headers)
            metadata = answer.get("metadata") or {}
            token = metadata.get("continue") or ""
            items = answer.get("items") or []
            for item in items:  # the server leaves both out of the items of its own kinds
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            page = Page(items, metadata.get("resourceVersion", ""), last=not token)
            del answer, items
            yield page
            del page  # else it lives until the next one is decoded, and memory holds two
            if not token:
                return
            params["continue"] = token

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """(type, object) from `resource_version` on, bookmarks too, until the server ends the stream.

        Gone: list again. An ERROR in the stream is raised as the error it carries.
        """
        doing = _doing("watch", resource, namespace)
        request = Request(
            method="GET",
            path=resource.path(namespace=namespace),
            doing=doing,
            params=_selectors(label_selector, field_selector)
            | {
                "watch": "true",
                "allowWatchBookmarks": "true",
                "resourceVersion": resource_version,
                "timeoutSeconds": str(timeout_seconds),
            },
            timeout_seconds=None,
            inactivity_seconds=_INACTIVITY_SECONDS,
        )
        async with self._transport.open(request) as response:
            async for line in lines(response, doing):
                event = decoded(line, doing)
                if event.get("type") == "ERROR":
                    status = event.get("object") or {}
                    raise answers.error_from_status(int(status.get("code") or 500), status, doing=doing)
                yield event.get("type", ""), event.get("object") or {}

    async def apply(
        self, resource: Resource, manifest: Mapping[str, Any], *, field_manager: str, force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply of the whole intent; answers the object as it stands now."""
        return await self._apply(resource, manifest, field_manager=field_manager, force=force)

    async def apply_status(
        self, resource: Resource, manifest: Mapping[str, Any], *, field_manager: str, force: bool = True
    ) -> dict[str, Any]:
        """Server-side apply to the status subresource."""
        return await self._apply(
            resource, manifest, field_manager=field_manager, force=force, subresource="status"
        )

    async def merge(
        self, resource: Resource, manifest: Mapping[str, Any], *, field_manager: str
    ) -> dict[str, Any]:
        """A JSON merge patch with a whole manifest: maps are merged, lists are replaced."""
        namespace, name = _place(manifest)
        return await self._write(
            "PATCH",
            resource.path(namespace=namespace, name=name),
            manifest,
            doing=_doing("merge", resource, namespace, name),
            params={"fieldManager": field_manager},
            content_type=_MERGE,
        )

    async def create(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """POST; Conflict where the name is taken."""
        namespace, name = _place(manifest)
        path = resource.path(namespace=namespace)
        return await self._write("POST", path, manifest, doing=_doing("create", resource, namespace, name))

    async def update(self, resource: Resource, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """PUT; Conflict unless the manifest's resourceVersion is the newest."""
        namespace, name = _place(manifest)
        path = resource.path(namespace=namespace, name=name)
        return await self._write("PUT", path, manifest, doing=_doing("update", resource, namespace, name))

    async def delete(
        self,
        resource: Resource,
        *,
        name: str,
        namespace: str = "",
        uid: str = "",
        propagation: str = "Background",
    ) -> None:
        """DELETE; with `uid` a namesake that came later is left alone (Conflict)."""
        options: dict[str, Any] = {"propagationPolicy": propagation}
        if uid:
            options["preconditions"] = {"uid": uid}
        path = resource.path(namespace=namespace, name=name)
        await self._write("DELETE", path, options, doing=_doing("delete", resource, namespace, name))

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """Creates one Event (events.k8s.io/v1)."""
        await self.create(EVENTS, event)

    async def _apply(
        self,
        resource: Resource,
        manifest: Mapping[str, Any],
        *,
        field_manager: str,
        force: bool,
        subresource: str = "",
    ) -> dict[str, Any]:
        namespace, name = _place(manifest)
        return await self._write(
            "PATCH",
            resource.path(namespace=namespace, name=name, subresource=subresource),
            manifest,
            doing=_doing(f"apply {subresource}".rstrip(), resource, namespace, name),
            params={"fieldManager": field_manager, "force": "true" if force else "false"},
            content_type=_APPLY,
        )

    async def _read(
        self,
        path: str,
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        return await self._transport.call(
            Request("GET", path, doing, params or {}, headers or {}, timeout_seconds=self._timeout_seconds)
        )

    async def _write(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any],
        *,
        doing: str,
        params: Mapping[str, str] | None = None,
        content_type: str = _JSON,
    ) -> dict[str, Any]:
        def before_sending() -> None:
            if not self._fence():
                raise NotLeader(f"{doing}: not sent, this process does not hold the Lease any more")

        return await self._transport.call(
            Request(
                method,
                path,
                doing,
                params or {},
                {"Content-Type": content_type},
                orjson.dumps(body),
                timeout_seconds=self._timeout_seconds,
                before_sending=before_sending,
            )
        )


def _doing(verb: str, resource: Resource, namespace: str = "", name: str = "") -> str:
    what = "/".join(part for part in (namespace, name) if part)
    return f"{verb} {resource.full_name} {what}".rstrip()


def _place(manifest: Mapping[str, Any]) -> tuple[str, str]:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    named = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in named.items() if value}
