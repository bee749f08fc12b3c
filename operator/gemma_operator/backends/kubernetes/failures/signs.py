"""Words by which a failure is known, in one table a speaker."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gemma_operator.api.conditions import Reason


@dataclass(frozen=True, slots=True)
class Sign:
    """Words, what they mean, and what is said of who spoke them."""

    reason: Reason
    pattern: re.Pattern[str]
    did: str
    #: Where the reason's own remedy would be the wrong one.
    remedy: str = ""


def sign(reason: Reason, did: str, *patterns: str, remedy: str = "") -> Sign:
    """Any of the patterns."""
    return Sign(reason, re.compile("|".join(patterns)), did, remedy)


def first_sign(text: str, signs: Sequence[Sign]) -> tuple[Sign, str] | None:
    """The first of the table that is found, and the text from there on: what stands before is a traceback."""
    for each in signs:
        if found := each.pattern.search(text):
            return each, text[found.start() :]
    return None
