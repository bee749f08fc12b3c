"""How we talk to the API server, against the real one: what the fake cannot vouch for."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from contextlib import asynccontextmanager

import pytest

from gemma_operator.api import crd
from gemma_operator.apiserver.apply import Writer
from gemma_operator.apiserver.cache import Cache
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.credentials import Connection
from gemma_operator.apiserver.lease import Elector, LeaseSettings
from gemma_operator.apiserver.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    GEMMA_DEPLOYMENTS,
    LEASES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.apiserver.transport import Request
from gemma_operator.controller import startup
from gemma_operator.controller.startup import CannotStart
from gemma_operator.controller.watch import Watch
from gemma_operator.errors import Conflict, Gone, NotFound, Rejected

pytestmark = pytest.mark.cluster

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
LABEL = "app.kubernetes.io/managed-by"


def connection(api_server, token):
    async def authorization():
        return f"Bearer {token}"

    context = ssl.create_default_context(cafile=str(api_server.ca_file))
    return Connection(api_server.url, authorization, context)


@pytest.fixture
async def holder(api_server):
    holder = SessionHolder(lambda: connection(api_server, api_server.token))
    yield holder
    await holder.close()


@pytest.fixture
def client(holder):
    return Client(holder)


@pytest.fixture
async def namespace(client):
    name = f"api-{uuid.uuid4().hex[:8]}"
    await client.create(NAMESPACES, {"metadata": {"name": name}})
    yield name
    await client.delete(NAMESPACES, name=name)


def an_account(namespace, name, **metadata):
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"namespace": namespace, "name": name, "labels": {LABEL: namespace}, **metadata},
        "automountServiceAccountToken": False,
    }


def a_cache(client, namespace, **options):
    return Cache(
        client,
        SERVICE_ACCOUNTS,
        cut=lambda obj: obj["metadata"]["name"],
        label_selector=f"{LABEL}={namespace}",
        **options,
    )


@asynccontextmanager
async def running(cache):
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(30):
            await cache.synced.wait()
        yield cache
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


async def test_pages_of_a_list_add_up_and_carry_their_kind(client, namespace):
    for number in range(7):
        await client.apply(SERVICE_ACCOUNTS, an_account(namespace, f"a{number}"), field_manager="t")
    pages = [
        page
        async for page in client.list(
            SERVICE_ACCOUNTS, namespace=namespace, label_selector=f"{LABEL}={namespace}", page_size=3
        )
    ]
    assert [len(page.items) for page in pages] == [3, 3, 1]
    assert len({page.resource_version for page in pages}) == 1
    assert {item["kind"] for page in pages for item in page.items} == {"ServiceAccount"}


async def test_an_apply_that_changes_nothing_leaves_the_version(client, namespace):
    made = await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "a"), field_manager="t")
    again = await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "a"), field_manager="t")
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_field_of_somebody_else_is_a_conflict_that_names_him(client, namespace):
    await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "a"), field_manager="theirs")
    ours = {**an_account(namespace, "a"), "automountServiceAccountToken": True}
    writer = Writer(client, answers={})
    with pytest.raises(Conflict, match="theirs"):
        await writer.apply(ours)


async def test_an_apply_by_uid_never_reaches_a_namesake(client, namespace):
    await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "a"), field_manager="t")
    writer = Writer(client, answers={})
    with pytest.raises((Conflict, Rejected)):
        await writer.apply(an_account(namespace, "a", annotations={"x": "y"}), uid=str(uuid.uuid4()))
    assert (
        "annotations" not in (await client.get(SERVICE_ACCOUNTS, namespace=namespace, name="a"))["metadata"]
    )


async def test_a_delete_by_uid_spares_a_namesake(client, namespace):
    made = await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "a"), field_manager="t")
    with pytest.raises(Conflict):
        await client.delete(SERVICE_ACCOUNTS, namespace=namespace, name="a", uid=str(uuid.uuid4()))
    await client.delete(SERVICE_ACCOUNTS, namespace=namespace, name="a", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await client.get(SERVICE_ACCOUNTS, namespace=namespace, name="a")


async def test_what_the_server_refuses_names_the_field(client, namespace):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": namespace, "name": "s"}}
    with pytest.raises(Rejected, match=r"spec\.ports"):
        await client.create(SERVICES, {**service, "spec": {"ports": [{"port": 99999}]}})


async def test_a_cache_follows_the_real_server(client, namespace):
    changes = []
    await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "before"), field_manager="t")
    async with running(a_cache(client, namespace, on_change=changes.append)) as cache:
        assert cache.get(namespace, "before")
        answer = await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "during"), field_manager="t")
        cache.put_answer(answer)
        assert cache.get(namespace, "during")
        await client.delete(SERVICE_ACCOUNTS, namespace=namespace, name="before")
        await until(lambda: cache.get(namespace, "before") is None)
    assert [(change.place[1], change.new is None) for change in changes] == [
        ("before", False),
        ("during", False),
        ("before", True),
    ]


@pytest.fixture
async def crds(client):
    for manifest in crd.all_crds():
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, manifest, field_manager="gemma-operator-crds")

    async def served():
        while True:
            try:
                await startup.check(client)
            except CannotStart:
                await asyncio.sleep(0.05)
            else:
                return

    async with asyncio.timeout(30):
        await served()


def a_deployment(namespace, name):
    return {
        "apiVersion": GEMMA_DEPLOYMENTS.api_version,
        "kind": "GemmaDeployment",
        "metadata": {"namespace": namespace, "name": name, "labels": {LABEL: namespace}},
        "spec": {"suspend": True},
    }


async def test_a_version_that_the_server_does_not_remember_is_gone(client, crds):
    # it knows nothing from before the CRD was installed
    stream = client.watch(GEMMA_DEPLOYMENTS, resource_version="1")
    async with asyncio.timeout(30):
        with pytest.raises(Gone):
            await anext(stream)


async def test_no_ghost_stays_after_a_gap_longer_than_the_servers_memory(client, namespace, crds):
    for name in ("stays", "goes"):
        await client.apply(GEMMA_DEPLOYMENTS, a_deployment(namespace, name), field_manager="t")
    cache = Cache(
        client,
        GEMMA_DEPLOYMENTS,
        cut=lambda obj: obj["metadata"]["name"],
        label_selector=f"{LABEL}={namespace}",
    )
    async with running(cache):
        assert len(cache) == 2
    await client.delete(GEMMA_DEPLOYMENTS, namespace=namespace, name="goes")
    cache._version = "1"  # as after hours without a connection
    async with running(cache):
        await until(lambda: cache.get(namespace, "goes") is None)
        assert cache.get(namespace, "stays")


async def test_kopf_feeds_the_store_from_the_real_server_and_writes_nothing(client, holder, namespace, crds):
    made = await client.apply(GEMMA_DEPLOYMENTS, a_deployment(namespace, "chat"), field_manager="t")
    watch = Watch(client, holder)
    follow = asyncio.create_task(watch.follow())
    run = asyncio.create_task(watch.run())
    async with asyncio.timeout(30):
        await watch.wait_synced()
    stored = watch.deployments.get(namespace, "chat")
    assert stored["metadata"]["uid"] == made["metadata"]["uid"]
    assert stored["spec"] == made["spec"]
    # an operator of other tests may be alive and write status; everything else has one author, and kopf is not he
    now = await client.get(GEMMA_DEPLOYMENTS, namespace=namespace, name="chat")
    authors = {field["manager"] for field in now["metadata"]["managedFields"] if "subresource" not in field}
    assert authors == {"t"}
    assert "finalizers" not in now["metadata"]
    await client.delete(GEMMA_DEPLOYMENTS, namespace=namespace, name="chat")
    await until(lambda: watch.deployments.get(namespace, "chat") is None)
    follow.cancel()
    watch.stop()
    await asyncio.gather(follow, run, return_exceptions=True)


async def test_the_lease_passes_from_one_to_the_other_on_the_real_server(client, namespace):
    events = []

    def elector(identity):
        return Elector(
            client,
            LeaseSettings(
                namespace=namespace,
                name="gemma-operator",
                identity=identity,
                duration_seconds=30.0,  # it is given back, so nobody waits for its end
                renew_deadline_seconds=20.0,
                retry_seconds=0.1,
            ),
            on_started=lambda: events.append((identity, "started")),
            on_stopped=lambda: events.append((identity, "stopped")),
        )

    one, two = elector("one"), elector("two")
    first = asyncio.create_task(one.run())
    await until(lambda: one.leading)
    second = asyncio.create_task(two.run())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await one.release()
    await until(lambda: two.leading)
    lease = await client.get(LEASES, namespace=namespace, name="gemma-operator")
    assert lease["spec"]["holderIdentity"] == "two"
    assert lease["spec"]["leaseTransitions"] == 1
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert events == [("one", "started"), ("one", "stopped"), ("two", "started"), ("two", "stopped")]


async def test_a_user_without_rights_is_told_all_that_are_missing(client, api_server, namespace, crds):
    await client.apply(SERVICE_ACCOUNTS, an_account(namespace, "nobody"), field_manager="t")
    answer = await client._transport.call(_token_request(namespace))
    holder = SessionHolder(lambda: connection(api_server, answer["status"]["token"]))
    with pytest.raises(CannotStart, match=r"(?s)list nodes.*list pods.*list deployments\.apps"):
        await startup.check(Client(holder))
    await holder.close()


def _token_request(namespace):
    path = SERVICE_ACCOUNTS.path(namespace=namespace, name="nobody", subresource="token")
    return Request("POST", path, "make a token", {}, {"Content-Type": "application/json"}, b"{}")
