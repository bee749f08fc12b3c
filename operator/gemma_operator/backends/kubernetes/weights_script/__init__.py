"""What runs in the engine's image before the engine does: brings weights, or looks at those that lie there.

Never run here: `python3 -c SCRIPT TASK`. `rules` decides and is tested alone, `work` does; the text that is sent is
both in one, since an image holds nothing of ours.
"""

from __future__ import annotations

import re
from importlib import resources
from typing import Final

#: Of `work`, what only a module needs: everything up to the future, which comes first in a text, and our own import.
_MODULE_ONLY: Final = re.compile(
    r"\A.*?^from __future__[^\n]*\n|^from gemma_operator[^)]*\)\n", re.DOTALL | re.MULTILINE
)


def _text(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")


SCRIPT: Final = _text("rules.py") + _MODULE_ONLY.sub("", _text("work.py"))
