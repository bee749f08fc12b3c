"""The operator's own HTTP answers, read as a plain text file: no client of ours stands between."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from typing import Any

from cluster.operating import Operator

_SERIES = re.compile(r"(?P<family>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def lines(operator: Operator) -> list[str]:
    """Every line of /metrics."""
    return _get(operator, "/metrics")[1].splitlines()


def value(operator: Operator, family: str, **labels: str) -> float | None:
    """The one series with these labels (and perhaps others); None where there is none."""
    found = []
    for line in lines(operator):
        series = _SERIES.fullmatch(line)
        if series is None or series["family"] != family:
            continue
        if labels.items() <= dict(_LABEL.findall(series["labels"] or "")).items():
            found.append(float(series["value"]))
    assert len(found) <= 1, f"{family}{labels} are {len(found)} series"
    return found[0] if found else None


def answer(operator: Operator, path: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of /healthz or /readyz."""
    status, body = _get(operator, path)
    return status, json.loads(body)


def _get(operator: Operator, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{operator.metrics_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
