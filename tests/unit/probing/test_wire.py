"""A way that is closed is not taken for an engine that does not answer, whose pod would be deleted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from gemma_operator.engines.registry import engine_named
from gemma_operator.probing.facts import FailureKind
from gemma_operator.probing.wire import Wire
from gemma_operator.settings import OperatorSettings

ENGINE = engine_named("VLLM")
QUESTION = ENGINE.token_request(model_name="chat")


@contextlib.contextmanager
def listening(*, full: bool) -> Iterator[int]:
    """Somebody who never accepts. With a full queue the kernel drops what asks for a connection, as a firewall does."""
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.socket())
        door.bind(("127.0.0.1", 0))
        door.listen(0 if full else 16)
        for _ in range(2 if full else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(door.getsockname())
        yield door.getsockname()[1]


@pytest.mark.parametrize(
    ("full", "kind"),
    [(True, FailureKind.UNREACHABLE), (False, FailureKind.TIMEOUT)],
    ids=["dropped", "silent"],
)
async def test_a_connection_that_is_not_made_is_told_from_an_answer_that_does_not_come(full, kind):
    wire = Wire(settings=OperatorSettings(probe_timeout_seconds=0.5))
    with listening(full=full) as port:
        async with wire.visit() as visit:
            result = await visit.ask(
                f"http://127.0.0.1:{port}{QUESTION.path}",
                body=QUESTION.body,
                headers=(),
                model_name="chat",
                generated_tokens=ENGINE.generated_tokens,
            )
    assert result.kind is kind
