"""What a log line looks like, and what never stands in one."""

from __future__ import annotations

import io
import json
import logging

import pytest

from gemma_operator.controller.logs import set_up

TOKEN = "hf_abcdefghijklmnop"


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()

    def of(log_format):
        set_up(log_format, stream=stream)
        return lambda: stream.getvalue().splitlines()

    yield of
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("gemma_operator").setLevel(logging.NOTSET)


def test_json_lines_carry_time_level_logger_and_message(lines):
    read = lines("json")
    logging.getLogger("gemma_operator.controller").info("%s: placed", "team/chat")
    (line,) = map(json.loads, read())
    assert (line["level"], line["logger"], line["message"]) == (
        "info",
        "gemma_operator.controller",
        "team/chat: placed",
    )
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_secret_is_logged_not_even_in_a_traceback(lines, log_format):
    read = lines(log_format)
    logger = logging.getLogger("gemma_operator")
    try:
        raise ValueError(f"answer: {TOKEN}")
    except ValueError:
        logger.exception("the hub said %s", TOKEN)
    text = "\n".join(read())
    assert "the hub said [removed]" in text
    assert "ValueError" in text
    assert TOKEN not in text


def test_libraries_speak_only_from_warning_on(lines):
    read = lines("text")
    logging.getLogger("kopf").info("Handler succeeded.")
    logging.getLogger("aiohttp").warning("odd")
    assert [line.split()[-1] for line in read()] == ["odd"]
