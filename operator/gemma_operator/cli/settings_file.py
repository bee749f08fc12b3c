"""The operator's settings file, as every command reads it: what is wrong in it is bad input, with the key named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemma_operator.engines.registry import ENGINES
from gemma_operator.errors import InvalidSettings, UsageError
from gemma_operator.settings import OperatorSettings, from_mapping


def read(path: Path) -> OperatorSettings:
    """The settings; UsageError names the file and what is wrong in it."""
    try:
        settings = from_mapping(_mapping(path))
    except InvalidSettings as error:
        raise UsageError(f"the settings {path}: {error}") from error
    if settings.default_engine not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise UsageError(
            f"the settings {path}: defaultEngine: no engine is {settings.default_engine}; known: {known}"
        )
    return settings


def _mapping(path: Path) -> Mapping[str, Any]:
    import yaml  # noqa: PLC0415 - 40 ms that the other commands need not wait for

    try:
        raw = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the settings {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"the settings {path} are not yaml: {error}") from error
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise UsageError(f"the settings {path} must be a mapping of names to values")
    return raw
