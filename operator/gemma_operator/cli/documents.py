"""Files of Kubernetes objects as people have them: yaml or json, one object, several, or kubectl's List. And answers
for machines, as `-o` asks for them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from gemma_operator.errors import UsageError

STDIN: Final = "-"

#: Kubectl's output of a large cluster is tens of MB: libyaml where the wheel has it.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def objects(path: str) -> list[dict[str, Any]]:
    """Every object of a file (`-`: standard input), Lists taken apart; UsageError says file and line."""
    text = _text(path)
    return [item for document in _parsed(path, text) for item in _items(path, document)]


def printed(document: Mapping[str, Any], output: str) -> str:
    """As json or yaml; keys keep their order."""
    if output == "json":
        return json.dumps(document, indent=2, ensure_ascii=False)
    return str(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)).rstrip()


def _text(path: str) -> str:
    try:
        return sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 text") from error


def _parsed(path: str, text: str) -> list[Any]:
    if text.lstrip().startswith("{"):
        try:
            return [orjson.loads(text)]
        except orjson.JSONDecodeError:
            pass  # yaml in flow style, or several json documents: yaml says what is wrong
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}, line {line}: {error.problem or 'is not yaml'}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: is not yaml") from error


def _items(path: str, document: object) -> Iterator[dict[str, Any]]:
    """A document's objects; items of a NodeList say no kind of their own."""
    if document is None:
        return
    if not isinstance(document, dict):
        raise UsageError(f"{path}: a document is no Kubernetes object but {type(document).__name__}")
    kind = str(document.get("kind", ""))
    if not kind.endswith("List") or not isinstance(document.get("items"), list):
        if not kind:
            raise UsageError(f"{path}: an object has no kind")
        yield document
        return
    for item in document["items"]:
        if isinstance(item, dict):
            item.setdefault("kind", kind.removesuffix("List"))
        yield from _items(path, item)
