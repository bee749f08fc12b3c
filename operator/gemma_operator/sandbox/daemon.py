"""The one process of our own in a sandbox: `python -m gemma_operator.sandbox.daemon FOLDER`.

It stands in for every kubelet of the fleet and for the EndpointSlice controller.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gemma_operator.sandbox import identities, plane
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.endpoints import EndpointWriter
from gemma_operator.sandbox.guarded import Files
from gemma_operator.sandbox.kubelet import Kubelet
from gemma_operator.sandbox.paths import StateFolder
from gemma_operator.sandbox.watching import READ_BUFFER_BYTES, Watch

_log = logging.getLogger("gemma_operator.sandbox.daemon")
_ATTEMPTS = 5
_FIRST_PAUSE_SECONDS = 0.1


class Server:
    """The API server, as the daemon speaks to it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def write_status(self, pod: dict[str, Any], patch: dict[str, Any]) -> None:
        """Patch the status of exactly this pod: one of the same name that came later is not meant."""
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        body = {**patch, "metadata": {"uid": metadata["uid"]}}
        await self._patch(path, body, content_type="application/strategic-merge-patch+json")

    async def read_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Secret; None where there is none. One that cannot be had at once is not taken for missing."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self._session.get(f"/api/v1/namespaces/{namespace}/secrets/{name}") as response:
                    if response.status == 200:
                        found: dict[str, Any] = orjson.loads(await response.read())
                        return found
                    if response.status == 404:
                        return None
                    _log.warning("Secret %s/%s: %d", namespace, name, response.status)
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("Secret %s/%s: %s", namespace, name, error or type(error).__name__)
            await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        return None

    async def apply(self, path: str, body: dict[str, Any]) -> None:
        """Server-side apply; raises OSError where the server took none of several."""
        path = f"{path}?fieldManager=sandbox&force=true"
        if not await self._patch(path, body, content_type="application/apply-patch+yaml"):
            raise ConnectionError(f"{path} was not taken")

    async def _patch(self, path: str, body: dict[str, Any], *, content_type: str) -> bool:
        """Whether it was answered for good: taken, or refused as it would be the next time."""
        data = orjson.dumps(body)
        for attempt in range(_ATTEMPTS):
            try:
                async with self._session.patch(
                    path, data=data, headers={"Content-Type": content_type}
                ) as response:
                    # 409: others wrote that often meanwhile; another pod of this name is 422
                    if response.status < 500 and response.status not in {409, 429}:
                        if response.status >= 300 and response.status != 404:
                            _log.error("%s: %d %s", path, response.status, (await response.text())[:300])
                        return True
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("%s: %s", path, error or type(error).__name__)
            await asyncio.sleep(_FIRST_PAUSE_SECONDS * 2**attempt)
        _log.error("%s: given up after %d attempts", path, _ATTEMPTS)
        return False


async def run(folder: StateFolder) -> None:
    """Work until the process is ended."""
    state = folder.read_state()
    url = plane.url(Block(int(state["block"])))
    trust = ssl.create_default_context(cafile=str(folder.ca_file))
    headers = {"Authorization": f"Bearer {state['tokens'][identities.DAEMON.key]}"}
    connector = aiohttp.TCPConnector(ssl=trust, limit=50)
    async with (
        aiohttp.ClientSession(
            url, connector=connector, headers=headers, read_bufsize=READ_BUFFER_BYTES
        ) as session,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as probing,
        asyncio.TaskGroup() as group,
    ):
        server = Server(session)
        files = Files(folder.path / "volumes", server.read_secret)
        kubelet = Kubelet(http=probing, write_status=server.write_status, files=files)
        writer = EndpointWriter(server.apply)

        def pod_changed(pod: dict[str, Any]) -> None:
            kubelet.changed(pod)
            writer.pod_changed(pod)

        def pod_gone(pod: dict[str, Any]) -> None:
            kubelet.gone(pod)
            writer.pod_gone(pod)

        pods = Watch(session, "/api/v1/pods", changed=pod_changed, gone=pod_gone)
        services = Watch(
            session, "/api/v1/services", changed=writer.service_changed, gone=writer.service_gone
        )
        nodes = Watch(session, "/api/v1/nodes", changed=kubelet.node_changed, gone=kubelet.node_gone)
        for work in (nodes.run(), pods.run(), services.run(), writer.run()):
            group.create_task(work)
        (folder.path / "daemon.ready").touch()


def main() -> None:
    """The process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _log.info("open files: %d (was %d)", hard, soft)
    path = Path(sys.argv[1])
    asyncio.run(run(StateFolder(name=path.name, path=path)))


if __name__ == "__main__":
    main()
