"""How the operator logs: one line an event, as text for people or as JSON for collectors."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TextIO

from gemma_operator.scrub import scrub

_TEXT = "%(asctime)s %(levelname)-7s %(message)s"


class JsonLines(logging.Formatter):
    """One object a line, with the names that collectors of Kubernetes logs know."""

    def format(self, record: logging.LogRecord) -> str:
        """Scrubbed: a message may quote an answer of somebody else's API."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = scrub(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Time, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Scrubbed, as above."""
        return scrub(super().format(record))


def set_up(log_format: str, *, stream: TextIO) -> None:
    """Everything from INFO on goes to `stream`; libraries speak only from WARNING on."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines(_TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("gemma_operator").setLevel(logging.INFO)
