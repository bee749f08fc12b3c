"""The engine that lies best: healthy, 200, tokens counted, and each of them is nothing. Who believes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.model import environment, models
from engine.model.process import Engine, changed, planned
from gemma_operator.engines.registry import engine_named
from gemma_operator.probing import exposition
from gemma_operator.probing.facts import FailureKind
from gemma_operator.probing.wire import Wire
from gemma_operator.settings import OperatorSettings

_MANIFEST = Path(__file__).parent / "manifests/tiny-from-claim.yaml"
_VLLM = engine_named("VLLM")

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """All of its logits are NaN."""
    with Engine(
        changed(planned(_MANIFEST)[1], model=models.MUTE), folder=tmp_path_factory.mktemp("mute")
    ) as running:
        yield running


def test_a_mute_engine_is_healthy_answers_200_and_counts_tokens(mute: Engine) -> None:
    """The lie itself: nothing but the empty text tells it. 0 is the token of the largest NaN, and a padding one."""
    before = exposition.sample(mute.get("/metrics")[1], _VLLM.metrics)
    status, answer = mute.post(
        "/v1/completions",
        {
            "model": "tiny",
            "prompt": "x",
            "max_tokens": 3,
            "temperature": 0,
            "return_token_ids": True,
            "skip_special_tokens": False,
        },
    )
    after = exposition.sample(mute.get("/metrics")[1], _VLLM.metrics)
    (choice,) = answer["choices"]
    assert (mute.get("/health")[0], status, answer["usage"]["completion_tokens"]) == (200, 200, 3)
    assert (choice["token_ids"], choice["text"]) == ([0, 0, 0], "<pad>" * 3)
    assert after.generation_tokens - before.generation_tokens == 3


def test_a_mute_engine_never_passes_its_start_up_probe(mute: Engine) -> None:
    done = mute.probe()
    assert (done.returncode, done.stderr) == (1, "answered 200 without a token\n")


async def test_a_mute_engine_is_no_proof_for_the_operator(mute: Engine) -> None:
    asked = _VLLM.token_request(model_name="tiny")
    async with Wire(settings=OperatorSettings()).visit() as visit:
        result = await visit.ask(
            f"http://127.0.0.1:{_VLLM.port}{asked.path}",
            body=asked.body,
            headers=(),
            model_name="tiny",
            generated_tokens=_VLLM.generated_tokens,
        )
    assert (result.kind, result.tokens) == (FailureKind.NO_TOKEN, 0)
