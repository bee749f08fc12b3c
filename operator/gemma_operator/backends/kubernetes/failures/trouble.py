"""What is wrong, in one value, and how it is put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.scrub import excerpt

#: Below the 512 of a condition: other words may come before and after.
MOST_CHARACTERS: Final = 400
_LEAST_EXCERPT: Final = 60


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a replica. `final`: nothing changes until the user does something."""

    reason: Reason
    message: str
    final: bool


def told(
    reason: Reason,
    what: str,
    words: str = "",
    *,
    pod: str = "POD",
    node: str = "NODE",
    remedy: str = "",
    final: bool | None = None,
) -> Trouble:
    """`what`, the words of who said so, and the remedy, which is never cut off; `pod` and `node` for its commands."""
    end = (remedy or reason.remedy).replace("POD", pod).replace("NODE", node or "NODE")
    room = max(_LEAST_EXCERPT, MOST_CHARACTERS - len(what) - len(end))
    said = excerpt(words, limit=room) if words else ""
    middle = f": {said}" if said else ""
    return Trouble(reason, f"{what}{middle}; {end}", reason.final if final is None else final)
