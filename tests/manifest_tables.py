"""The table of manifests under tests/bad_manifests, read once for the tests with and without a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent / "bad_manifests"
SAMPLES = Path(__file__).parents[1] / "manifests" / "samples"


@dataclass(frozen=True)
class Case:
    """One manifest, and where the answer must point."""

    name: str
    manifest: dict[str, Any]
    by: str = ""
    field: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return self.name


def bad_cases() -> list[Case]:
    """Manifests that must be refused."""
    return [
        Case(
            name=f"{table['good']['kind']}-{row['name']}",
            manifest=merge_patch(table["good"], row["patch"]),
            by=row["by"],
            field=row["field"],
            remedy=row["remedy"],
        )
        for table in _tables()
        for row in table["bad"]
    ]


def accepted_cases() -> list[Case]:
    """Their neighbours, which must be accepted."""
    return [
        Case(name=f"{table['good']['kind']}-{row['name']}", manifest=merge_patch(table["good"], row["patch"]))
        for table in _tables()
        for row in table["accepted"]
    ]


def samples() -> list[Case]:
    """What is shipped under manifests/samples."""
    return [
        Case(name=path.stem, manifest=yaml.safe_load(path.read_text()))
        for path in sorted(SAMPLES.glob("*.yaml"))
    ]


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _tables() -> list[dict[str, Any]]:
    return [yaml.safe_load(path.read_text()) for path in sorted(_FOLDER.glob("*.yaml"))]
