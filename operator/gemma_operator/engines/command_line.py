"""How a command line of long flags is read: spellings made one, words made pairs. Knows no engine.

vLLM's parser takes `--max_num_seqs`, `--max-num-seqs=4`, `--no-enforce-eager`, `--json-arg.key value` and any
unambiguous beginning of a flag; so does this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag as it is spelled in full, and as it was written. `name` has no dashes in front."""

    name: str
    #: Up to its value, for whoever is to find it again in what they wrote.
    written: str
    negated: bool
    #: None: a switch, or the value is the default.
    value: str | None
    known: bool
    #: Of a flag that holds JSON: the member that is given, as in `--json-arg.key value`.
    key: str = ""

    @property
    def switched_on(self) -> bool:
        """Of a switch: whether it says yes."""
        return not self.negated


def read(words: Sequence[str], *, known: frozenset[str]) -> Iterator[Flag]:
    """The flags of a command line in their order. Words that are nobody's value are passed over."""
    for position, word in enumerate(words):
        if not word.startswith("--") or word == "--":
            continue
        head, has_value, value = word.partition("=")
        following = words[position + 1 : position + 2]
        if not has_value and following and not following[0].startswith("--"):
            value, has_value = following[0], "="
        yield _flag(head, value if has_value else None, known)


def _flag(head: str, value: str | None, known: frozenset[str]) -> Flag:
    spelled, _, key = head.partition(".")
    spelled = spelled.replace("_", "-")
    full = spelled if spelled in known else _only_completion(spelled, known)
    name = (full or spelled).removeprefix("--")
    return Flag(
        name=name.removeprefix("no-"),
        written=head,
        negated=name.startswith("no-"),
        value=value,
        known=full is not None,
        key=key,
    )


def _only_completion(beginning: str, known: Iterable[str]) -> str | None:
    """argparse takes a beginning that fits one flag; one that fits two is an error there."""
    matches = [flag for flag in known if flag.startswith(beginning)]
    return matches[0] if len(matches) == 1 else None
