"""One call: what is sent, what comes back, and which error an answer becomes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fakes.kubeapi import Fault, KubeApi
from gemma_operator.apiserver.answers import error_from
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import DEPLOYMENTS, NODES, PODS, SERVICES
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    NotLeader,
    Rejected,
    TooManyRequests,
    Unauthorized,
    Unreachable,
)


def a_service(name="chat", **metadata):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "team", "name": name, **metadata},
        "spec": {"ports": [{"port": 8000}]},
    }


def test_a_path_names_group_version_namespace_and_subresource():
    assert PODS.path() == "/api/v1/pods"
    assert NODES.path(namespace="ignored", name="n1") == "/api/v1/nodes/n1"
    assert (
        DEPLOYMENTS.path(namespace="team", name="chat", subresource="status")
        == "/apis/apps/v1/namespaces/team/deployments/chat/status"
    )


async def test_an_apply_creates_and_then_changes(api, client):
    made = await client.apply(SERVICES, a_service(), field_manager="gemma-operator")
    again = await client.apply(SERVICES, a_service(labels={"a": "b"}), field_manager="gemma-operator")
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
    assert (await client.get(SERVICES, namespace="team", name="chat"))["metadata"]["labels"] == {"a": "b"}


async def test_an_apply_says_who_and_with_which_format(api, client):
    headers = []
    api.on_request = lambda request: headers.append(request.headers.get("Content-Type"))
    await client.apply(SERVICES, a_service(), field_manager="gemma-operator")
    method, path, query = api.requests[-1]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/team/services/chat")
    assert query == "fieldManager=gemma-operator&force=true"
    assert headers == ["application/apply-patch+yaml"]


async def test_a_status_apply_goes_to_the_subresource(api, client):
    api.put(SERVICES, "chat", namespace="team", spec={})
    await client.apply_status(SERVICES, {**a_service(), "status": {"ok": True}}, field_manager="s")
    assert api.requests[-1][1].endswith("/services/chat/status")
    assert api.objects["services"]["team", "chat"]["spec"] == {}
    assert api.objects["services"]["team", "chat"]["status"] == {"ok": True}


async def test_a_list_comes_in_pages_of_one_version(api, client):
    for number in range(7):
        api.put(PODS, f"p{number}", namespace="team")
    pages = [page async for page in client.list(PODS, page_size=3)]
    assert [[item["metadata"]["name"] for item in page.items] for page in pages] == [
        ["p0", "p1", "p2"],
        ["p3", "p4", "p5"],
        ["p6"],
    ]
    assert {(item["apiVersion"], item["kind"]) for page in pages for item in page.items} == {("v1", "Pod")}
    assert {page.resource_version for page in pages} == {str(api.version)}
    assert [page.last for page in pages] == [False, False, True]


async def test_a_metadata_list_carries_no_spec(api, client):
    api.put(PODS, "p", namespace="team", spec={"big": "x" * 1000})
    (page,) = [page async for page in client.list(PODS, metadata_only=True)]
    assert "spec" not in page.items[0]


async def test_a_watch_yields_events_and_bookmarks_and_ends_with_the_stream(api, client, until):
    stream = client.watch(PODS, resource_version=str(api.version))
    api.put(PODS, "p", namespace="team")
    first = await anext(stream)
    assert first[0] == "ADDED"
    assert first[1]["metadata"]["name"] == "p"
    api.bookmark()
    assert (await anext(stream))[0] == "BOOKMARK"
    api.drop_streams()
    assert [event async for event in stream] == []


async def test_an_object_longer_than_aiohttps_line_limit_is_one_event(api, client):
    stream = client.watch(PODS, resource_version=str(api.version))
    api.put(PODS, "p", namespace="team", spec={"big": "x" * 600_000})
    _kind, obj = await anext(stream)
    assert len(obj["spec"]["big"]) == 600_000
    await stream.aclose()


@pytest.mark.parametrize(("code", "error"), [(410, Gone), (500, ApiError), (429, TooManyRequests)])
async def test_an_error_in_the_stream_is_raised(api, client, until, code, error):
    stream = client.watch(PODS, resource_version=str(api.version))
    api.put(PODS, "p", namespace="team")
    await anext(stream)
    api.send({"type": "ERROR", "object": {"kind": "Status", "code": code, "message": "too old"}})
    with pytest.raises(error, match=r"watch pods: .*too old") as caught:
        await anext(stream)
    assert caught.value.status == code


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (400, Rejected),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (422, Rejected),
        (429, TooManyRequests),
        (503, TooManyRequests),
        (500, ApiError),
    ],
)
async def test_a_status_code_becomes_an_error_with_the_servers_words(api, client, code, error):
    api.faults.append(Fault(code, message="these very words"))
    with pytest.raises(error, match="these very words") as caught:
        await client.get(PODS, namespace="team", name="p")
    assert type(caught.value) is error
    assert caught.value.status == code


async def test_a_forbidden_call_names_verb_and_resource(api, client):
    api.faults.append(Fault(403, message="no"))
    with pytest.raises(Forbidden, match=r"not allowed to list deployments\.apps"):
        [page async for page in client.list(DEPLOYMENTS)]


async def test_the_server_says_how_long_to_wait(api, client):
    api.faults.append(Fault(429, headers={"Retry-After": "7"}))
    with pytest.raises(TooManyRequests) as caught:
        await client.get(PODS, namespace="team", name="p")
    assert caught.value.retry_after_seconds == 7.0


async def test_an_answer_that_is_not_json_keeps_its_first_words(client):
    error = error_from(502, b"<html>Bad Gateway</html>", doing="get pods")
    assert "Bad Gateway" in str(error)


async def test_nobody_listening_is_unreachable(api):
    holder = SessionHolder(lambda: _elsewhere(api))
    with pytest.raises(Unreachable, match=r"get nodes n1: no answer from http://127\.0\.0\.1:1"):
        await Client(holder).get(NODES, name="n1")
    await holder.close()


def _elsewhere(api: KubeApi):
    return replace(api.connection(), server="http://127.0.0.1:1")


async def test_a_server_that_never_answers_is_given_up(api, holder):
    never = asyncio.Event()
    original = api._answer

    async def hang(request):
        await never.wait()
        return await original(request)

    api._answer = hang
    with pytest.raises(Unreachable):
        await Client(holder, timeout_seconds=0.05).get(NODES, name="n1")
    never.set()


async def test_a_delete_spares_a_namesake_with_another_uid(api, client):
    api.put(PODS, "p", namespace="team")
    with pytest.raises(Conflict):
        await client.delete(PODS, namespace="team", name="p", uid="another")
    assert ("team", "p") in api.objects["pods"]
    await client.delete(
        PODS, namespace="team", name="p", uid=api.objects["pods"]["team", "p"]["metadata"]["uid"]
    )
    assert ("team", "p") not in api.objects["pods"]


async def test_a_fence_that_closes_during_a_login_stops_the_write_that_is_sent_again(api):
    """The server refused the token; reading another one took longer than the Lease lasted."""
    leading = True

    def log_in():
        nonlocal leading
        leading = not api.requests
        return api.connection("stale" if leading else "secret")

    holder = SessionHolder(log_in)
    with pytest.raises(NotLeader):
        await Client(holder, fence=lambda: leading).create(SERVICES, a_service())
    assert api.count("POST") == 1
    assert not api.objects.get("services")
    await holder.close()


async def test_a_closed_fence_stops_every_write_and_no_read(api, holder):
    api.put(SERVICES, "chat", namespace="team")
    client = Client(holder, fence=lambda: False)
    manifest = a_service()
    for write in (
        client.apply(SERVICES, manifest, field_manager="m"),
        client.apply_status(SERVICES, manifest, field_manager="m"),
        client.create(SERVICES, manifest),
        client.update(SERVICES, manifest),
        client.delete(SERVICES, namespace="team", name="chat"),
        client.post_event({**manifest, "kind": "Event"}),
    ):
        with pytest.raises(NotLeader):
            await write
    assert api.requests == []
    await client.get(SERVICES, namespace="team", name="chat")


async def test_each_answer_is_counted_by_method_and_code(api, holder):
    seen = []
    client = Client(holder, on_request=lambda method, code: seen.append((method, code)))
    with pytest.raises(NotFound):
        await client.get(PODS, namespace="team", name="p")
    await client.create(PODS, {"metadata": {"namespace": "team", "name": "p"}})
    assert seen == [("GET", 404), ("POST", 201)]


async def test_a_stale_token_is_renewed_once_and_the_call_succeeds(api):
    tokens = ["old", "new", "newer"]
    logins = []

    def source():
        logins.append(tokens[len(logins)])
        return api.connection(logins[-1])

    api.token = "new"
    api.put(NODES, "n1")
    holder = SessionHolder(source)
    assert (await Client(holder).get(NODES, name="n1"))["metadata"]["name"] == "n1"
    assert logins == ["old", "new"]
    await holder.close()


async def test_credentials_that_are_refused_for_good_are_not_tried_forever(api):
    logins = []

    def source():
        logins.append(1)
        return api.connection("wrong")

    holder = SessionHolder(source)
    client = Client(holder)
    for _ in range(3):
        with pytest.raises(Unauthorized):
            await client.get(NODES, name="n1")
    assert len(logins) == 2
    await holder.close()


async def test_a_session_that_was_closed_under_us_is_replaced(api, holder, client):
    api.put(NODES, "n1")
    await (await holder.current()).close()
    assert await client.get(NODES, name="n1")
