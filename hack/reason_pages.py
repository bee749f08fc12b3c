"""Writes docs/conditions.md and docs/operations.md from the closed list of reasons and their remedies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from gemma_operator.api import conditions, operations

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"


def main() -> int:
    """Writes both."""
    (DOCS / "conditions.md").write_text(conditions.page(), encoding="utf-8")
    (DOCS / "operations.md").write_text(operations.page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
