"""A guarded simulated server: the product's guard, with keys as a kubelet brings them."""

import asyncio
import base64
import hashlib

import aiohttp
import pytest

from gemma_operator.backends.kubernetes.render_access import access_of
from gemma_operator.backends.kubernetes.render_pod import pod_template
from gemma_operator.engines.access_middleware import USER_KEYS_HEADER
from gemma_operator.sandbox import block, guarded
from gemma_operator.sandbox.guarded import Files
from gemma_operator.sandbox.kubelet import Kubelet
from gemma_operator.settings import OperatorSettings
from plans import a_plan
from snapshots import ENGINE, a_spec

ACCESS = {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
COMPLETION = {"model": "chat", "prompt": "hi", "max_tokens": 1}


def a_guarded_pod(host, *, annotations=None):
    """As the operator renders it, with an address."""
    deployment = a_spec(access=ACCESS)
    template = pod_template(
        deployment,
        a_plan(),
        settings=OperatorSettings(),
        engine=ENGINE,
        budget_seconds=600,
        access=access_of(deployment, engine=ENGINE, probe_key="of-the-operator"),
    )
    orders = {"sandbox.gemma-operator.io/startup-seconds": "0"}
    told = {**template["metadata"]["annotations"], **orders, **(annotations or {})}
    metadata = {"name": "chat-1", "namespace": "team-a", "uid": "u", "annotations": told}
    status = {"phase": "Running", "podIP": host}
    return {"metadata": metadata, "spec": {**template["spec"], "nodeName": "node"}, "status": status}


class Node:
    """A kubelet with Secrets to read, and the statuses that it wrote."""

    def __init__(self, host, http, folder):
        self.host, self.http, self.folder = host, http, folder
        self.secrets = {}
        files = Files(folder, self._read)
        self.kubelet = Kubelet(http=http, write_status=self._write, files=files)
        self._written = asyncio.Queue()

    def put_secret(self, **data):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.secrets["team-a", "keys"] = {"data": encoded}

    async def _read(self, namespace, name):
        return self.secrets.get((namespace, name))

    async def _write(self, _, patch):
        await self._written.put(patch["status"]["containerStatuses"][0])

    async def says(self):
        return await asyncio.wait_for(self._written.get(), 10)

    async def answers(self, key=None, *, path="/v1/completions"):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        url = f"http://{self.host}:8000{path}"
        asked = (
            self.http.get(url) if path == "/health" else self.http.post(url, json=COMPLETION, headers=headers)
        )
        async with asked as response:
            return response.status

    async def told(self, key, **more):
        """What the answer says of the users' keys."""
        headers = {"Authorization": f"Bearer {key}"}
        url = f"http://{self.host}:8000/v1/completions"
        async with self.http.post(url, json={**COMPLETION, **more}, headers=headers) as response:
            return response.headers.get(USER_KEYS_HEADER)


@pytest.fixture
async def node(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "_SYNC_SECONDS", 0.0)
    claim = block.claim(first=251, last=254)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        made = Node(claim.block.host, http, tmp_path / "volumes")
        yield made
        await made.kubelet.stop()
    claim.release()


async def test_the_key_and_the_operators_key_are_let_in_and_nobody_else(node):
    node.put_secret(chat="sk-1\n")
    node.kubelet.changed(a_guarded_pod(node.host))
    assert (await node.says())["ready"] is True
    answers = [await node.answers(key) for key in ("sk-1", "of-the-operator", "sk-2", None)]
    assert answers == [200, 200, 401, 401]
    assert await node.answers(path="/invocations") == 401
    assert await node.answers(path="/health") == 200


async def test_whoever_asks_while_the_files_are_brought_waits_for_them(node, monkeypatch):
    monkeypatch.setattr(guarded, "_SYNC_SECONDS", 60.0)
    asked, may = asyncio.Event(), asyncio.Event()

    async def slowly(namespace, name):
        asked.set()
        await may.wait()
        return node.secrets[namespace, name]

    node.put_secret(chat="sk-1")
    pod = a_guarded_pod(node.host)
    (container,) = pod["spec"]["containers"]
    guard = guarded.guard_of(pod, container, Files(node.folder, slowly))
    first = asyncio.create_task(guard.headers())
    await asyncio.wait_for(asked.wait(), 10)
    second = asyncio.create_task(guard.trouble())
    await asyncio.sleep(0)
    may.set()
    assert await asyncio.gather(first, second) == [{"Authorization": "Bearer sk-1"}, ""]


async def test_a_key_that_is_rotated_counts_while_the_server_runs(node):
    node.put_secret(chat="sk-1")
    node.kubelet.changed(a_guarded_pod(node.host))
    await node.says()
    node.put_secret(chat="sk-2")
    assert [await node.answers(key) for key in ("sk-1", "sk-2", "of-the-operator")] == [401, 200, 200]
    node.secrets.clear()
    assert [await node.answers(key) for key in ("sk-2", "of-the-operator")] == [401, 200]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_operator_alone_is_told_how_many_keys_there_are(node, stream):
    node.put_secret(chat="sk-1\nsk-2\n")
    node.kubelet.changed(a_guarded_pod(node.host))
    await node.says()
    told = [await node.told(key, stream=stream) for key in ("of-the-operator", "sk-1", "sk-3")]
    assert told == ["2", None, None]
    node.put_secret(chat="")
    assert await node.told("of-the-operator", stream=stream) == "0"
    node.secrets.clear()
    assert await node.told("of-the-operator", stream=stream) == "0"
    node.put_secret(chat="sk-3")
    assert await node.told("of-the-operator", stream=stream) == "1"


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, 'secret "keys" not found'), ({"other": "x"}, "couldn't find key chat in Secret team-a/keys")],
)
async def test_a_secret_that_is_missing_is_said_as_a_kubelet_says_it_until_it_is_there(
    node, monkeypatch, data, message
):
    monkeypatch.setattr("gemma_operator.sandbox.guarded._LOOK_FOR_SECRETS_SECONDS", 0.01)
    if data:
        node.put_secret(**data)
    node.kubelet.changed(a_guarded_pod(node.host))
    waiting = (await node.says())["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": message}
    node.put_secret(chat="sk-1")
    assert (await node.says())["ready"] is True


async def test_a_guard_that_is_not_the_operators_is_not_run(node):
    node.put_secret(chat="sk-1")
    node.kubelet.changed(
        a_guarded_pod(node.host, annotations={"gemma-operator.io/access-guard": "raise SystemExit"})
    )
    ended = (await node.says())["state"]["terminated"]
    assert "loads no other guard" in ended["message"]


async def test_the_files_of_a_pod_go_with_it(node):
    node.put_secret(chat="sk-1")
    pod = a_guarded_pod(node.host)
    node.kubelet.changed(pod)
    await node.says()
    assert sorted(path.name for path in (node.folder / "u").iterdir()) == [
        "gemma_access.py",
        "probe.sha256",
        "user.key",
    ]
    digest = hashlib.sha256(b"of-the-operator").hexdigest()
    assert (node.folder / "u" / "probe.sha256").read_text() == digest
    await node.kubelet.stop()
    assert not (node.folder / "u").exists()
