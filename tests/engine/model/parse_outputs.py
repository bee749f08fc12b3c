"""Puts recorded outputs through the parser of `--tool-call-parser gemma4`, whole and in pieces.

Run in a process of its own, by the environment that has vLLM: `python parse_outputs.py TOKENIZER OUTPUTS.json`. Prints
one JSON list: for each output what was made of it at once, and what came out of its tokens one by one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

_SCHEMAS = {
    "place": {"left": {"type": "number"}, "count": {"type": "integer"}, "active": {"type": "boolean"}},
}


def main(tokenizer_folder: str, outputs: str) -> None:
    """The answers to all of them."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - of the environment, not of this project

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    with open(outputs, encoding="utf-8") as file:  # noqa: PTH123
        answers = [_answers(tokenizer, each) for each in json.load(file)]
    sys.stdout.write(json.dumps(answers) + "\n")


def _answers(tokenizer: Any, recorded: dict[str, Any]) -> dict[str, Any]:
    request = _request([call["name"] for call in recorded["calls"]])
    return {
        "whole": _whole(_parser(tokenizer, request), recorded["output"], request, tokenizer),
        "streamed": _streamed(_parser(tokenizer, request), recorded["output"], request, tokenizer),
    }


def _parser(tokenizer: Any, request: Any) -> Any:
    from vllm.parser import ParserManager  # noqa: PLC0415

    of_both = ParserManager.get_parser(
        tool_parser_name="gemma4", reasoning_parser_name="gemma4", enable_auto_tools=True
    )
    return of_both(tokenizer, request.tools)


def _request(names: list[str]) -> Any:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest  # noqa: PLC0415

    tools = [
        {"type": "function", "function": {"name": name, "parameters": _parameters(name)}}
        for name in names or ["any"]
    ]
    return ChatCompletionRequest(messages=[{"role": "user", "content": "?"}], model="m", tools=tools)


def _parameters(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": _SCHEMAS.get(name, {})}


def _whole(parser: Any, output: str, request: Any, tokenizer: Any) -> dict[str, Any]:
    ids = tokenizer.encode(output, add_special_tokens=False)
    reasoning, content, calls = parser.parse(
        output, request, enable_auto_tools=True, model_output_token_ids=ids
    )
    return _answer(reasoning, content, [(call.name, call.arguments) for call in calls or []])


def _streamed(parser: Any, output: str, request: Any, tokenizer: Any) -> dict[str, Any]:
    reasoning, content, calls = "", "", []
    ids = tokenizer.encode(output, add_special_tokens=False)
    for index, number in enumerate(ids):
        delta = parser.parse_delta(
            tokenizer.decode([number]),
            [number],
            request,
            prompt_token_ids=[],
            finished=index + 1 == len(ids),
        )
        if delta is None:
            continue
        reasoning += delta.reasoning or ""
        content += delta.content or ""
        for call in delta.tool_calls or []:
            if call.function.name:
                calls.append([call.function.name, ""])
            calls[-1][1] += call.function.arguments or ""
    return _answer(reasoning, content, calls)


def _answer(reasoning: str | None, content: str | None, calls: list[Any]) -> dict[str, Any]:
    made = [{"name": name, "arguments": json.loads(arguments)} for name, arguments in calls]
    return {"reasoning": (reasoning or "").strip(), "content": (content or "").strip(), "calls": made}


if __name__ == "__main__":
    main(*sys.argv[1:])
