"""What must be so before the operator starts; what is wrong is one clear line, never a traceback.

Only reads: a restart writes nothing. Rights to write are not asked for here: the first write that lacks one
says so in the object's own conditions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.records import Place
from gemma_operator.apiserver.resources import (
    CHILDREN,
    CUSTOM_RESOURCE_DEFINITIONS,
    ENDPOINT_SLICES,
    GEMMA_DEPLOYMENTS,
    LEASES,
    LIMIT_RANGES,
    NODES,
    OURS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    RESOURCE_QUOTAS,
    Resource,
)
from gemma_operator.errors import ApiError, Forbidden, GemmaOperatorError, NotFound, Unauthorized

logger = logging.getLogger(__name__)

READ: tuple[Resource, ...] = (
    *OURS,
    NODES,
    PODS,
    *CHILDREN,
    ENDPOINT_SLICES,
    RESOURCE_QUOTAS,
    LIMIT_RANGES,
    PERSISTENT_VOLUME_CLAIMS,
)


class CannotStart(GemmaOperatorError):
    """The cluster is not ready for this operator; the message says what to do."""


async def check(client: Client, *, lease: Place | None = None) -> None:
    """Raises CannotStart where our kinds are not served, or a right to read is missing.

    `lease` is where the Lease stands; None where there is no election.
    """
    try:
        served = await client.get_path(f"/apis/{GEMMA_DEPLOYMENTS.api_version}")
    except NotFound:
        served = {}
    except Unauthorized as error:
        raise CannotStart(f"the API server does not accept our credentials: {error}") from error
    names = {resource["name"] for resource in served.get("resources", ())}
    missing = [resource.full_name for resource in OURS if resource.plural not in names]
    if missing:
        raise CannotStart(
            f"the cluster does not serve {' and '.join(missing)}: install the CustomResourceDefinitions, "
            "`gemma-operator crd | kubectl apply --server-side -f -`"
        )
    await _check_rights(client, READ, lease)


async def _check_rights(client: Client, resources: Iterable[Resource], lease: Place | None) -> None:
    asked = [_refusal(client, resource) for resource in resources]
    if lease is not None:
        asked.append(_lease_refusal(client, lease))
    answers = await asyncio.gather(*asked)
    refused = [answer for answer in answers if answer is not None]
    if refused:
        raise CannotStart(
            f"missing rights: {'; '.join(str(error) for error in refused)}. "
            "Bind the operator's ClusterRole to the user it runs as"
        )


async def _refusal(client: Client, resource: Resource) -> Forbidden | None:
    try:
        async for _page in client.list(resource, page_size=1):
            break
    except Forbidden as error:
        return error
    return None


async def _lease_refusal(client: Client, lease: Place) -> Forbidden | None:
    try:
        await client.get(LEASES, namespace=lease[0], name=lease[1])
    except Forbidden as error:
        return error
    except NotFound:
        pass
    return None


async def served_crd(client: Client) -> Mapping[str, Any] | None:
    """The GemmaDeployment CRD as it is served; None where it may not be read."""
    name = GEMMA_DEPLOYMENTS.full_name
    try:
        return await client.get(CUSTOM_RESOURCE_DEFINITIONS, name=name)
    except ApiError as error:
        logger.warning("cannot compare the served schema with ours: %s", error)
        return None
