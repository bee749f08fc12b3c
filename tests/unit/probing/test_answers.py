"""Which answers are a token of the planned model."""

from __future__ import annotations

import json

import pytest

from gemma_operator.engines.registry import engine_named
from gemma_operator.probing.answers import hear, judge
from gemma_operator.probing.facts import FailureKind, Heard

ENGINE = engine_named("VLLM")


def an_answer(model: str = "chat", *, text: str = "4", tokens: int = 1) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens},
    }


def judged(answer, status: int = 200):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return judge(
        status=status,
        body=body,
        model_name="chat",
        generated_tokens=ENGINE.generated_tokens,
        seconds=0.25,
    )


def test_a_token_of_the_planned_model():
    result = judged(an_answer())
    assert (result.kind, result.model, result.tokens, result.seconds) == (None, "chat", 1, 0.25)


def test_200_without_a_token():
    assert judged(an_answer(text="", tokens=0)).kind is FailureKind.NO_TOKEN


def test_another_model_is_named():
    result = judged(an_answer("other"))
    assert result.kind is FailureKind.WRONG_MODEL
    assert result.detail == "asked for chat, answered by other"


@pytest.mark.parametrize("form", ['{"object": "error", %s}', '{"error": {%s}}'])
def test_a_server_that_does_not_know_the_model_serves_another(form):
    inner = '"message": "The model `chat` does not exist.", "type": "NotFoundError", "code": 404'
    assert judged((form % inner).encode(), 404).kind is FailureKind.WRONG_MODEL


def test_a_path_that_is_missing_is_no_other_model():
    assert judged({"detail": "Not Found"}, 404).kind is FailureKind.REJECTED


@pytest.mark.parametrize("body", [b"", b"ok", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_answer(body):
    assert judged(body).kind is FailureKind.BROKEN


@pytest.mark.parametrize("choices", [None, 7, [7], [{"message": 7}], {"0": 1}])
def test_an_answer_of_odd_parts_is_never_a_proof(choices):
    answer = {"model": "chat", "choices": choices}
    assert judged(answer).kind in (FailureKind.BROKEN, FailureKind.NO_TOKEN)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, FailureKind.STATUS),
        (503, FailureKind.STATUS),
        (429, FailureKind.STATUS),
        (404, FailureKind.REJECTED),
        (401, FailureKind.REJECTED),
        (307, FailureKind.REJECTED),
    ],
)
def test_a_status_says_whose_fault_it_is(status, kind):
    result = judged(b"no", status)
    assert (result.kind, result.detail) == (kind, f"HTTP {status}: no")


def test_what_an_answer_says_is_scrubbed_and_short():
    result = judged(b"Authorization: Bearer abcdefgh12345678 " + b"x" * 5000, 500)
    assert "abcdefgh12345678" not in result.detail
    assert len(result.detail) <= 220


@pytest.mark.parametrize(
    ("said", "user_keys"),
    [
        ("0", 0),
        ("12", 12),
        ("", None),
        ("-1", None),
        ("1, 0", None),
        ("none", None),
        ("٣", None),
        ("9" * 9, None),
    ],
)
def test_a_guard_says_a_number_or_nothing(said, user_keys):
    assert hear({"x-gemma-operator-user-keys": said}) == Heard(user_keys)


def test_an_older_guard_and_no_guard_say_nothing():
    assert hear({"content-type": "application/json"}) == Heard(None)
