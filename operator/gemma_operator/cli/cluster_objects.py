"""The fleet as the API server has it: Nodes, AcceleratorPools, Pods and what is placed, of a kubeconfig's context.

For commands that look at a cluster once and end; the operator itself watches (`apiserver.cache`). A cluster
without our CRD is no error: it has no AcceleratorPools.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from gemma_operator.api.names import MANAGED_BY, MANAGED_BY_LABEL
from gemma_operator.apiserver import credentials
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import (
    ACCELERATOR_POOLS,
    COMPUTE_CLASSES,
    DEPLOYMENTS,
    LIMIT_RANGES,
    NODE_POOLS,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    RESOURCE_SLICES,
    Resource,
)
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.errors import ApiError, Forbidden, NotFound, UsageError

BESIDE: tuple[Sequence[Resource], ...] = (
    RESOURCE_SLICES,
    NODE_POOLS,
    COMPUTE_CLASSES,
    (RESOURCE_QUOTAS,),
    (LIMIT_RANGES,),
)
_OURS = f"{MANAGED_BY_LABEL}={MANAGED_BY}"
#: Pods that are over hold nothing, and a busy namespace keeps thousands of them.
_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"


def read(context: str | None, *, kubeconfig: str = "") -> list[dict[str, Any]]:
    """All objects that planning needs; UsageError where there is no kubeconfig or no right to read."""
    return asyncio.run(_read(context or "", kubeconfig))


async def _read(context: str, kubeconfig: str) -> list[dict[str, Any]]:
    async with _client(context, kubeconfig) as client:
        try:
            return [
                *await _list(client, NODES),
                *await _list(client, ACCELERATOR_POOLS),
                *await _list(client, PODS, field_selector=_RUNNING),
                *await _list(client, DEPLOYMENTS, label_selector=_OURS),
                *[obj for versions in BESIDE for obj in await _beside(client, versions)],
            ]
        except ApiError as error:
            where = f"context {context}" if context else "the current context"
            raise UsageError(f"cannot read the fleet of {where}: {error}") from error


async def _list(
    client: Client, resource: Resource, *, label_selector: str = "", field_selector: str = ""
) -> list[dict[str, Any]]:
    try:
        return [
            item
            async for page in client.list(
                resource, label_selector=label_selector, field_selector=field_selector
            )
            for item in page.items
        ]
    except NotFound:
        return []  # the CRD is not installed


async def _beside(client: Client, versions: Sequence[Resource]) -> list[dict[str, Any]]:
    """A kind that may be lacking, or that we may not read: then the plan reckons without it."""
    for resource in versions:
        try:
            found = await _list(client, resource)
        except Forbidden:
            return []
        if found:
            return found
    return []


@asynccontextmanager
async def _client(context: str, kubeconfig: str) -> AsyncIterator[Client]:
    holder = SessionHolder(credentials.source(kubeconfig=kubeconfig, context=context))
    try:
        yield Client(holder)
    finally:
        await holder.close()
