"""A real vLLM with the tiny Gemma 4, started with exactly what the operator would put into a container.

No cluster: what is shown here is that the engine takes every flag, that the start-up probe gets its token, and that
tools, structured output, system prompts and thinking work as they are set up. One engine serves all of these tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.model import environment, models, parse_outputs
from engine.model.process import CATALOG, Engine, planned
from gemma_operator.catalog import loader
from gemma_operator.engines.registry import engine_named
from gemma_operator.planner.values import Plan
from gemma_operator.planner.vllm import kv_cache
from gemma_operator.probing import exposition

_HERE = Path(__file__).parent
_RECORDED = yaml.safe_load((_HERE.parent / "data/engine/gemma4-outputs.yaml").read_text(encoding="utf-8"))
_CHAT = "/v1/chat/completions"
_IN_FLIGHT = 8
_CALL = r'<\|tool_call>call:get_weather\{city:<\|"\|>[a-z]{3,12}<\|"\|>\}<tool_call\|>'
_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())


@pytest.fixture(scope="module")
def made() -> tuple[Plan, dict[str, Any]]:
    return planned(_HERE / "manifests/tiny-from-claim.yaml")


@pytest.fixture(scope="module")
def engine(made: tuple[Plan, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(made[1], folder=tmp_path_factory.mktemp("engine")) as running:
        yield running


def _asked(**changes: Any) -> dict[str, Any]:
    question = [{"role": "user", "content": "How is the weather?"}]
    return {"model": "tiny", "messages": question, "max_tokens": 120, "temperature": 0, **changes}


def _message(engine: Engine, **changes: Any) -> dict[str, Any]:
    status, answer = engine.post(_CHAT, _asked(**changes))
    assert status == 200, answer
    message: dict[str, Any] = answer["choices"][0]["message"]
    return message


def test_the_startup_probe_gets_its_token(engine: Engine) -> None:
    done = engine.probe()
    assert done.returncode == 0, done.stderr


def test_it_serves_the_name_that_clients_send(engine: Engine, made: tuple[Plan, dict[str, Any]]) -> None:
    (served,) = json.loads(engine.get("/v1/models")[1])["data"]
    assert (served["id"], served["max_model_len"]) == ("tiny", made[0].settings.context_length)


def test_the_engine_read_each_setting_as_the_plan_has_it(
    engine: Engine, made: tuple[Plan, dict[str, Any]]
) -> None:
    settings = made[0].settings
    status, metrics = engine.get("/metrics")
    assert status == 200
    (information,) = [
        line for line in metrics.decode().splitlines() if line.startswith("vllm:cache_config_info{")
    ]
    assert f'gpu_memory_utilization="{settings.utilization_percent / 100}"' in information
    (arguments,) = [line for line in engine.log.splitlines() if "non-default args: " in line]
    for said in (
        f"'max_model_len': {settings.context_length}",
        f"'max_num_batched_tokens': {settings.max_batched_tokens}",
        f"'max_num_seqs': {settings.max_sequences}",
        "'tool_call_parser': 'gemma4'",
        "'reasoning_parser': 'gemma4'",
        "'language_model_only': True",
    ):
        assert said in arguments


def test_structured_output_follows_its_schema(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "degrees": {"type": "integer", "maximum": 99},
        },
        "required": ["city", "degrees"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}}
    answer = json.loads(_message(engine, response_format=form)["content"])
    assert set(answer) == {"city", "degrees"}
    assert isinstance(answer["degrees"], int)


def test_a_native_tool_call_comes_back_as_one(engine: Engine) -> None:
    message = _message(engine, tools=[_WEATHER], tool_choice="auto", structured_outputs={"regex": _CALL})
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"].islower()
    assert not message["content"]


def test_a_native_tool_call_is_streamed_as_one(engine: Engine) -> None:
    body = _asked(tools=[_WEATHER], tool_choice="auto", structured_outputs={"regex": _CALL})
    deltas = [event["choices"][0] for event in engine.stream(_CHAT, body) if event["choices"]]
    functions = [call["function"] for each in deltas for call in each["delta"].get("tool_calls") or ()]
    assert "".join(each.get("name") or "" for each in functions) == "get_weather"
    assert json.loads("".join(each.get("arguments") or "" for each in functions))["city"].islower()
    assert not "".join(each["delta"].get("content") or "" for each in deltas)
    assert deltas[-1]["finish_reason"] == "tool_calls"


def test_thoughts_are_told_from_the_answer(engine: Engine) -> None:
    form = r"<\|channel>thought\n[a-z]{5,9}<channel\|>[A-Z]{4,9}"
    message = _message(engine, structured_outputs={"regex": form})
    assert message["reasoning"].islower()
    assert message["content"].isupper()


def test_a_client_that_asks_for_thinking_gets_the_prompt_for_it(engine: Engine) -> None:
    asking = {"chat_template_kwargs": {"enable_thinking": True}}
    assert "<|think|>" in _prompt(engine, **asking)
    assert "<|think|>" not in _prompt(engine)


def test_the_system_text_and_the_tools_stand_in_the_prompt(engine: Engine) -> None:
    system = {"role": "system", "content": "Speak like a sailor."}
    prompt = _prompt(engine, messages=[system, *_asked()["messages"]], tools=[_WEATHER])
    assert prompt.startswith("<bos><|turn>system\nSpeak like a sailor.")
    assert "<|tool>declaration:get_weather{" in prompt
    assert prompt.endswith("<|turn>user\nHow is the weather?<turn|>\n<|turn>model\n")


def _prompt(engine: Engine, **changes: Any) -> str:
    body = {"model": "tiny", "messages": _asked()["messages"], "return_token_strs": True, **changes}
    status, answer = engine.post("/tokenize", body)
    assert status == 200, answer
    return "".join(answer["token_strs"]).replace("Ġ", " ").replace("Ċ", "\n")


def test_the_metrics_are_those_that_we_read(engine: Engine) -> None:
    names = engine_named("VLLM").metrics
    before = exposition.sample(engine.get("/metrics")[1], names)
    _message(engine, max_tokens=7)
    after = exposition.sample(engine.get("/metrics")[1], names)
    assert after.generation_tokens - before.generation_tokens == 7
    assert after.prompt_tokens > before.prompt_tokens
    assert after.running == after.waiting == 0


def test_the_planner_reckons_the_cache_that_the_engine_made(
    engine: Engine, made: tuple[Plan, dict[str, Any]]
) -> None:
    """With the two things in which a CPU differs: blocks of 128 tokens, and one batch in flight."""
    reckoned = kv_cache.capacity(
        loader.load(CATALOG).variants["E2B"],
        max_model_len=made[0].settings.context_length,
        max_num_batched_tokens=made[0].settings.max_batched_tokens,
        tensor_parallel_size=1,
        kv_cache_element_bytes=2,
        available_bytes=1024**3,
        async_scheduling=False,
        block_size=128,
    )
    metrics = engine.get("/metrics")[1]
    assert exposition.sample(metrics, engine_named("VLLM").metrics).kv_tokens == reckoned.tokens
    assert f'num_gpu_blocks="{reckoned.num_blocks}"' in metrics.decode()


def test_recorded_outputs_are_read_by_the_engines_own_parser(tmp_path: Path) -> None:
    tokenizer, outputs = models.folder(say=print) / models.TINY, tmp_path / "outputs.json"
    outputs.write_text(json.dumps(_RECORDED))
    done = subprocess.run(
        [environment.interpreter(), parse_outputs.__file__, str(tokenizer), str(outputs)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": str(environment.site_packages(say=print)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for recorded, answer in zip(_RECORDED, json.loads(done.stdout.splitlines()[-1]), strict=True):
        wanted = {
            "reasoning": "",
            "content": "",
            **{k: recorded[k] for k in answer["whole"] if k in recorded},
        }
        assert answer == {"whole": wanted, "streamed": wanted}, recorded["what"]


def test_requests_in_flight_are_finished_when_the_engine_is_told_to_go(engine: Engine) -> None:
    """Last in this file: the engine ends with it."""
    begun, made = threading.Barrier(_IN_FLIGHT + 1), []

    def ask() -> None:
        counted = {**_long(), "stream_options": {"include_usage": True}}
        for number, event in enumerate(engine.stream("/v1/completions", counted)):
            if not number:
                begun.wait(30)
            if usage := event.get("usage"):
                made.append(usage["completion_tokens"])

    clients = [threading.Thread(target=ask) for _ in range(_IN_FLIGHT)]
    for client in clients:
        client.start()
    begun.wait(30)
    engine.terminate()
    told = time.monotonic()
    for client in clients:
        client.join(60)
    assert made == [_long()["max_tokens"]] * _IN_FLIGHT
    assert engine.ended(within_seconds=60 - (time.monotonic() - told)) == 0
    assert engine.last_words == ""
    assert engine.processes == []


def _long() -> dict[str, Any]:
    return {"model": "tiny", "prompt": "x", "max_tokens": 600, "ignore_eos": True, "temperature": 0}
