"""What one scrape of an engine says, read from the bytes that came over the wire.

An engine exposes six hundred lines, a dozen of which are wanted: parsing all of them costs more than the
rest of a probe, thirty times a second on a large fleet. So the body is searched for the wanted families
and only their lines are decoded. Counting over time is kept out (see `deltas`).

The engine is whatever image a team runs, so nothing that it says may cost the others: a figure that nobody counts
to is no figure, and of names that it makes up a few are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gemma_operator.engines.base import MetricNames
from gemma_operator.errors import EngineError

#: Whose tokens a series counts. Engines that do not say it prove nothing by traffic.
MODEL_LABEL = "model_name"
#: Ways to end beyond the first few are counted as one, each known by its first characters.
OTHER_REASON: Final = "other"
MOST_NAMES: Final = 16
_LONGEST_NAME: Final = 64
#: A float counts in ones up to here.
_LARGEST_COUNT: Final = 2.0**53
_TOKENS: Final = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class EngineSample:
    """One scrape; the data-parallel engines of one server are summed, its KV usage is the fullest one's."""

    running: int = 0
    waiting: int = 0
    kv_usage: float | None = None
    #: Tokens that the KV cache holds by the engine's own word; None where it does not say.
    kv_tokens: int | None = None
    prompt_tokens: int = 0
    generation_tokens: int = 0
    #: Requests ended so far, by how they ended.
    requests: Mapping[str, int] = field(default_factory=dict)
    #: The models whose generated tokens are counted, as clients name them.
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Series:
    labels: Mapping[str, str]
    value: float


def sample(body: bytes, names: MetricNames) -> EngineSample:
    """The wanted figures of one scrape; raises EngineError where none of them is there.

    A family that is absent counts as 0: client libraries show a labelled counter after its first count.
    """
    usage = [series.value for series in _family(body, names.kv_usage)]
    generated = list(_family(body, names.generation_tokens))
    running = list(_family(body, names.running))
    if not (usage or generated or running):
        raise EngineError(f"the scrape holds neither {names.generation_tokens} nor {names.running}")
    return EngineSample(
        running=_total(running),
        waiting=_total(_family(body, names.waiting)),
        kv_usage=max(usage, default=None),
        kv_tokens=_kv_tokens(body, names),
        prompt_tokens=_total(_family(body, names.prompt_tokens)),
        generation_tokens=_total(generated),
        requests=_by_reason(body, names),
        models=frozenset(islice(_models(generated), MOST_NAMES)),
    )


def _total(family: Iterator[_Series] | list[_Series]) -> int:
    return int(sum(series.value for series in family))


def _models(generated: list[_Series]) -> Iterator[str]:
    yield from (model for series in generated if (model := series.labels.get(MODEL_LABEL)))


def _by_reason(body: bytes, names: MetricNames) -> dict[str, int]:
    ended: dict[str, int] = {}
    for series in _family(body, names.requests):
        said = series.labels.get(names.requests_reason_label, "")[:_LONGEST_NAME]
        reason = told_apart(said, ended)
        ended[reason] = ended.get(reason, 0) + int(series.value)
    return ended


def told_apart(reason: str, known: Mapping[str, int]) -> str:
    """The name under which a way to end is counted beside those that are known."""
    return reason if reason in known or len(known) < MOST_NAMES else OTHER_REASON


def _kv_tokens(body: bytes, names: MetricNames) -> int | None:
    """Some engines write the word None where they do not know."""
    words = [
        series.labels.get(names.cache_info_tokens_label, "") for series in _family(body, names.cache_info)
    ]
    known = [int(word) for word in words if _TOKENS.fullmatch(word)]
    return sum(known) if known else None


# The labels of one line as one block: a quoted value may hold `}`, and quotes behind a backslash.
_REST = re.compile(rb'[ \t]*(?:\{((?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*)\})?[ \t]*([^ \t\n\r]+)')
# Every pair is read in order: searching for one name alone would be fooled by a value that ends like it.
_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", '"': '"', "\\": "\\"}


def _family(body: bytes, name: str) -> Iterator[_Series]:
    """The series of one name, by finding the starts of its lines; `name_created` is another name."""
    wanted = name.encode()
    start = 0 if body.startswith(wanted) else _next_line(body, wanted, 0)
    while start >= 0:
        end = start + len(wanted)
        if body[end : end + 1] in (b"{", b" ", b"\t"):
            series = _series(body, end)
            if series is not None:
                yield series
        start = _next_line(body, wanted, end)


def _next_line(body: bytes, wanted: bytes, position: int) -> int:
    found = body.find(b"\n" + wanted, position)
    return found + 1 if found >= 0 else -1


def _series(body: bytes, position: int) -> _Series | None:
    match = _REST.match(body, position)
    if match is None:
        return None
    try:
        value = float(match[2])
    except ValueError:
        return None
    if not 0 <= value <= _LARGEST_COUNT:  # nor is NaN a figure
        return None
    pairs = _LABEL.findall(match[1]) if match[1] else ()
    return _Series(labels={key.decode(): _text(quoted) for key, quoted in pairs}, value=value)


def _text(quoted: bytes) -> str:
    text = quoted.decode("utf-8", "replace")
    if "\\" not in text:
        return text
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[0]), text)
