"""A simulated server over HTTP, on an address of its own."""

import asyncio
import contextlib
import dataclasses
import json
import socket

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gemma_operator.sandbox import block
from gemma_operator.sandbox.simulator.instructions import Fault, Orders, ServerArguments
from gemma_operator.sandbox.simulator.listener import Listener
from gemma_operator.sandbox.simulator.server import ModelServer

ARGUMENTS = ServerArguments(
    container="engine", names=("chat", "alias"), port=8000, max_model_len=64, max_num_seqs=2
)
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "two words"}]}


class Simulated:
    """A running server and a client for it."""

    def __init__(
        self, server: ModelServer, listener: Listener, base: str, http: aiohttp.ClientSession
    ) -> None:
        self.server, self.listener, self.base, self.http = server, listener, base, http
        self.host = base.removeprefix("http://").partition(":")[0]

    async def get(self, path: str) -> tuple[int, str]:
        async with self.http.get(self.base + path) as response:
            return response.status, await response.text()

    async def post(self, path: str, body: object) -> tuple[int, dict]:
        async with self.http.post(self.base + path, json=body) as response:
            return response.status, json.loads(await response.text())

    async def metric(self, name: str, **labels: str) -> float:
        _, text = await self.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def sees(self, name: str, value: float) -> None:
        async with asyncio.timeout(10):
            while await self.metric(name) != value:  # noqa: ASYNC110
                await asyncio.sleep(0)

    def tell(self, fault: Fault | None, **orders: float) -> None:
        self.server.tell(dataclasses.replace(self.server.orders, fault=fault, **orders))


@pytest.fixture
async def simulated():
    claim = block.claim(first=251, last=254)
    server = ModelServer(ARGUMENTS, Orders())
    server.started = True
    listener = Listener(server, host=claim.block.host, port=ARGUMENTS.port)
    await listener.open()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        yield Simulated(server, listener, f"http://{claim.block.host}:{ARGUMENTS.port}", http)
    await listener.close()
    claim.release()


async def test_every_answer_says_simulated(simulated):
    for path in ("/health", "/v1/models", "/version", "/metrics", "/load", "/nowhere"):
        async with simulated.http.get(simulated.base + path) as response:
            assert response.headers["X-Simulated"] == "true", path
    status, answer = await simulated.post("/v1/chat/completions", CHAT)
    assert status == 200
    assert answer["system_fingerprint"] == "simulated"
    assert "simulated" in answer["choices"][0]["message"]["content"]


async def test_models_have_the_served_names_and_length(simulated):
    _, text = await simulated.get("/v1/models")
    assert [(m["id"], m["max_model_len"]) for m in json.loads(text)["data"]] == [("chat", 64), ("alias", 64)]


async def test_a_chat_answer_counts_its_tokens(simulated):
    status, answer = await simulated.post("/v1/chat/completions", {**CHAT, "max_tokens": 3})
    assert status == 200
    assert answer["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 3,
        "total_tokens": 9,
        "prompt_tokens_details": None,
    }
    assert answer["choices"][0]["finish_reason"] == "length"
    assert await simulated.metric("vllm:generation_tokens_total") == 3
    assert await simulated.metric("vllm:prompt_tokens_total") == 6
    assert await simulated.metric("vllm:request_success_total", finished_reason="length") == 1
    assert await simulated.metric("vllm:num_requests_running") == 0
    assert await simulated.metric("vllm:kv_cache_usage_perc") == 0


async def test_a_text_completion_answers_too(simulated):
    status, answer = await simulated.post(
        "/v1/completions", {"model": "alias", "prompt": "a b", "max_tokens": 1}
    )
    assert (status, answer["object"], answer["choices"][0]["text"]) == (200, "text_completion", "simulated")


async def test_a_stream_is_server_sent_events_with_usage(simulated):
    body = {**CHAT, "stream": True, "max_tokens": 2, "stream_options": {"include_usage": True}}
    async with simulated.http.post(simulated.base + "/v1/chat/completions", json=body) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in (await response.text()).splitlines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event) for event in events[:-1]]
    text = "".join(p["choices"][0]["delta"].get("content", "") for p in pieces if p["choices"])
    assert text == "simulated answer "
    assert pieces[-1]["usage"]["completion_tokens"] == 2
    assert pieces[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({**CHAT, "model": "other"}, 404, "The model `other` does not exist."),
        ({"model": "chat"}, 400, "messages"),
        ({**CHAT, "max_tokens": 0}, 400, "max_tokens must be at least 1"),
        ({**CHAT, "max_tokens": 100}, 400, "maximum context length is 64 tokens"),
        ([], 400, "JSON object"),
    ],
)
async def test_what_vllm_refuses_is_refused(simulated, body, status, text):
    answered, answer = await simulated.post("/v1/chat/completions", body)
    assert answered == status
    assert text in answer["error"]["message"]


async def test_routes_that_are_not_played_say_so(simulated):
    status, answer = await simulated.post("/tokenize", {})
    assert status == 501
    assert "simulated" in answer["error"]["message"]
    assert (await simulated.get("/nowhere"))[0] == 404
    assert (await simulated.get("/v1/completions"))[0] == 405


async def test_health_waits_for_the_start(simulated):
    simulated.server.started = False
    assert (await simulated.get("/health"))[0] == 503
    assert (await simulated.post("/v1/chat/completions", CHAT))[0] == 503
    simulated.server.started = True
    assert (await simulated.get("/health"))[0] == 200


async def test_200_without_a_token(simulated):
    simulated.tell(Fault.NO_TOKEN)
    status, answer = await simulated.post("/v1/chat/completions", CHAT)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 0
    assert answer["choices"][0]["message"]["content"] is None
    assert await simulated.metric("vllm:generation_tokens_total") == 0


async def test_a_wrong_model(simulated):
    simulated.tell(Fault.WRONG_MODEL)
    assert (await simulated.post("/v1/chat/completions", CHAT))[0] == 404
    assert json.loads((await simulated.get("/v1/models"))[1])["data"][0]["id"] == "not-chat"


async def test_500(simulated):
    simulated.tell(Fault.ERROR_500)
    assert (await simulated.post("/v1/chat/completions", CHAT))[0] == 500
    assert (await simulated.get("/health"))[0] == 200


async def test_unhealthy(simulated):
    simulated.tell(Fault.UNHEALTHY)
    assert (await simulated.get("/health"))[0] == 503


async def test_a_wedged_engine_is_healthy_holds_its_requests_and_goes_on_when_told(simulated):
    simulated.tell(Fault.WEDGED)
    asked = [asyncio.create_task(simulated.post("/v1/chat/completions", CHAT)) for _ in range(3)]
    await simulated.sees("vllm:num_requests_running", 2)
    await simulated.sees("vllm:num_requests_waiting", 1)
    assert await simulated.metric("vllm:generation_tokens_total") == 0
    assert await simulated.metric("vllm:kv_cache_usage_perc") == pytest.approx(12 / 256)
    assert (await simulated.get("/health"))[0] == 200
    simulated.tell(None)
    assert [status for status, _ in await asyncio.gather(*asked)] == [200, 200, 200]


async def test_a_hanging_server_answers_nothing(simulated):
    simulated.tell(Fault.HANGING)
    asked = asyncio.create_task(simulated.get("/health"))
    done, _ = await asyncio.wait([asked], timeout=0.1)
    assert not done
    simulated.tell(None)
    assert (await asked)[0] == 200


async def test_a_client_that_leaves_is_an_abort(simulated):
    simulated.tell(Fault.WEDGED)
    asked = asyncio.create_task(simulated.post("/v1/chat/completions", CHAT))
    await simulated.sees("vllm:num_requests_running", 1)
    asked.cancel()
    await simulated.sees("vllm:num_requests_running", 0)
    assert await simulated.metric("vllm:request_success_total", finished_reason="abort") == 1


async def test_closed_means_refused_and_open_means_open_again(simulated):
    await simulated.listener.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await simulated.get("/health")
    await simulated.listener.open()
    assert (await simulated.get("/health"))[0] == 200


async def test_closing_lets_a_running_request_end(simulated):
    simulated.tell(None, token_seconds=0.02)
    asked = asyncio.create_task(simulated.post("/v1/chat/completions", {**CHAT, "max_tokens": 5}))
    await simulated.sees("vllm:num_requests_running", 1)
    await simulated.listener.close(drain_seconds=10)
    status, answer = await asked
    assert (status, answer["usage"]["completion_tokens"]) == (200, 5)


async def test_closing_does_not_wait_for_what_hangs(simulated):
    simulated.tell(Fault.HANGING)
    asked = asyncio.create_task(simulated.get("/health"))
    done, _ = await asyncio.wait([asked], timeout=0.1)
    assert not done
    async with asyncio.timeout(5):
        await simulated.listener.close()
        with pytest.raises(aiohttp.ClientError):
            await asked


async def test_a_pooled_connection_does_not_outlive_the_server(simulated):
    async with aiohttp.ClientSession() as pooling:
        async with pooling.get(simulated.base + "/health") as response:
            assert response.status == 200
        async with asyncio.timeout(5):
            await simulated.listener.close(drain_seconds=60)
        with pytest.raises(aiohttp.ClientConnectorError):
            await pooling.get(simulated.base + "/health")


@pytest.mark.parametrize("turns", range(8))
async def test_who_connects_just_as_it_closes_is_not_left_waiting(simulated, turns):
    """By how many turns of the event loop it was earlier."""
    with socket.create_connection((simulated.host, ARGUMENTS.port)) as client:
        client.setblocking(False)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await simulated.listener.close(drain_seconds=60)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
