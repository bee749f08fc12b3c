"""The kubelet stand-in with a real listener and no API server: what it writes is what is looked at."""

import asyncio
import json

import aiohttp
import pytest

from gemma_operator.sandbox import block, probes
from gemma_operator.sandbox.kubelet import Kubelet

BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1})
PREFIX = "sandbox.gemma-operator.io/"


class Watched:
    """A kubelet, and the statuses that it wrote."""

    def __init__(self, host: str, http: aiohttp.ClientSession) -> None:
        self.host, self.http = host, http
        self.kubelet = Kubelet(http=http, write_status=self._write)
        self._written: asyncio.Queue[dict] = asyncio.Queue()
        #: What happens once while a status is on its way.
        self.meanwhile = lambda: None

    def a_pod(self, *, args=("--served-model-name=chat",), probes=None, **orders: object) -> dict:
        started = {"periodSeconds": 0.01, "timeoutSeconds": 5, "failureThreshold": 3}
        asks = {"exec": {"command": ["python3", "-c", "SCRIPT", "/v1/chat/completions", BODY]}, **started}
        container = {"name": "engine", "args": list(args), "startupProbe": asks, **(probes or {})}
        told = {"startup-seconds": 0, **{key.replace("_", "-"): value for key, value in orders.items()}}
        annotations = {PREFIX + key: str(value) for key, value in told.items()}
        metadata = {"name": "chat-1", "namespace": "team", "uid": "u", "annotations": annotations}
        return {
            "metadata": metadata,
            "spec": {"nodeName": "node", "containers": [container]},
            "status": {"phase": "Running", "podIP": self.host},
        }

    async def _write(self, _: dict, patch: dict) -> None:
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        await self._written.put(patch["status"])

    async def next(self) -> tuple[bool, dict]:
        """Whether the pod is Ready by the next status, and that status's first container."""
        status = await asyncio.wait_for(self._written.get(), 10)
        ready = next(entry["status"] for entry in status["conditions"] if entry["type"] == "Ready")
        return ready == "True", status["containerStatuses"][0]

    async def says_nothing(self, *, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._written.get(), seconds)
        except TimeoutError:
            return True
        return False

    async def refused(self) -> bool:
        try:
            async with self.http.get(f"http://{self.host}:8000/health"):
                return False
        except aiohttp.ClientConnectorError:
            return True
        except aiohttp.ClientError:
            return False  # it was let in just as the door closed


@pytest.fixture
async def watched():
    claim = block.claim(first=251, last=254)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        made = Watched(claim.block.host, http)
        yield made
        await made.kubelet.stop()
    claim.release()


async def test_ready_comes_after_the_probe_got_its_token(watched):
    watched.kubelet.changed(watched.a_pod())
    ready, container = await watched.next()
    assert ready
    assert (container["started"], container["restartCount"]) == (True, 0)
    assert not await watched.refused()


async def test_a_start_up_probe_that_fails_too_often_restarts_the_container(watched):
    watched.kubelet.changed(watched.a_pod(fault="no-token"))
    ready, container = await watched.next()
    assert not ready
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert "start-up probe" in container["lastState"]["terminated"]["message"]
    _, container = await watched.next()
    assert container["restartCount"] == 1
    assert container["state"]["running"]


async def test_a_liveness_probe_that_fails_too_often_restarts_the_container(watched):
    liveness = {"livenessProbe": {"periodSeconds": 0.01, "failureThreshold": 2}}
    watched.kubelet.changed(watched.a_pod(probes=liveness))
    assert (await watched.next())[0]
    watched.kubelet.changed(watched.a_pod(probes=liveness, fault="unhealthy"))
    assert not (await watched.next())[0]
    _, container = await watched.next()
    assert "liveness probe" in container["lastState"]["terminated"]["message"]


async def test_ready_follows_the_orders(watched):
    watched.kubelet.changed(watched.a_pod())
    assert (await watched.next())[0]
    watched.kubelet.changed(watched.a_pod(fault="refused"))
    assert not (await watched.next())[0]
    assert await watched.refused()
    watched.kubelet.changed(watched.a_pod())
    assert (await watched.next())[0]
    assert not await watched.refused()


async def test_an_order_that_comes_while_a_wait_is_being_said_is_not_missed(watched):
    """The next look by itself is a minute later."""
    watched.meanwhile = lambda: watched.kubelet.changed(watched.a_pod())
    watched.kubelet.changed(watched.a_pod(waits_with=json.dumps({"reason": "ErrImagePull"})))
    ready, container = await watched.next()
    assert (ready, container["state"]["waiting"]["reason"]) == (False, "ErrImagePull")
    assert (await watched.next())[0]


async def test_an_order_that_comes_while_the_start_up_probe_is_answered_is_not_missed(watched, monkeypatch):
    """The next probe by itself is a minute later."""
    asks = {"exec": {"command": ["python3", "-c", "SCRIPT", "/v1/chat/completions", BODY]}}
    seldom = {"startupProbe": {**asks, "periodSeconds": 60, "timeoutSeconds": 5}}
    played = probes.succeeds

    async def and_told(*asked, **how):
        succeeded = await played(*asked, **how)
        watched.kubelet.changed(watched.a_pod(probes=seldom))
        return succeeded

    monkeypatch.setattr(probes, "succeeds", and_told)
    watched.kubelet.changed(watched.a_pod(probes=seldom, fault="no-token"))
    assert (await watched.next())[0]


async def test_a_change_of_something_else_writes_nothing(watched):
    watched.kubelet.changed(watched.a_pod())
    await watched.next()
    labelled = watched.a_pod()
    labelled["metadata"]["labels"] = {"new": "label"}
    watched.kubelet.changed(labelled)
    watched.kubelet.changed(watched.a_pod(token_seconds=0.001))
    assert await watched.says_nothing(seconds=0.2)


async def test_a_pod_without_a_model_server_is_ready_at_once(watched):
    watched.kubelet.changed(watched.a_pod(args=("sleep",)))
    assert (await watched.next())[0]
    assert await watched.refused()


async def test_a_deleted_pod_is_refused(watched):
    pod = watched.a_pod()
    watched.kubelet.changed(pod)
    await watched.next()
    watched.kubelet.gone(pod)
    async with asyncio.timeout(10):
        while not await watched.refused():
            pass


async def test_a_pod_whose_life_ended_by_a_fault_of_ours_is_refused_when_it_goes(watched):
    def fails():
        raise RuntimeError("a fault of ours")

    watched.meanwhile = fails
    pod = watched.a_pod()
    watched.kubelet.changed(pod)
    async with asyncio.timeout(10):
        while await watched.refused():
            pass
    assert await watched.says_nothing(seconds=0.1)
    watched.kubelet.gone(pod)
    async with asyncio.timeout(10):
        while not await watched.refused():
            pass


async def test_what_ran_on_a_lost_node_is_silent_until_the_node_is_back(watched):
    pod = watched.a_pod()
    watched.kubelet.changed(pod)
    await watched.next()
    watched.kubelet.node_gone({"metadata": {"name": "node"}})
    async with asyncio.timeout(10):
        while not await watched.refused():
            pass
    watched.kubelet.changed(pod)
    assert await watched.says_nothing(seconds=0.2)
    assert await watched.refused()
    watched.kubelet.node_changed({"metadata": {"name": "node"}})
    watched.kubelet.changed(pod)
    assert (await watched.next())[0]


async def test_an_order_that_cannot_be_read_is_logged_with_its_pod(watched, caplog):
    watched.kubelet.changed(watched.a_pod(fault="brokn"))
    assert (await watched.next())[0]
    assert "pod team/chat-1" in caplog.text
    assert "fault=brokn" in caplog.text
