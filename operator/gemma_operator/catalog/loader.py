"""Reads the catalog's yaml files into one `Catalog`, the packaged files first and the user's over them.

A file holds named entries. An entry of a later directory replaces the whole entry of that name and keeps its
place; a new name comes before the packaged ones, because order is part of the choice and what a user adds is
what they want. Files are read once, at start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gemma_operator.catalog import entries, incompatibilities
from gemma_operator.catalog import prices as price_files
from gemma_operator.catalog.reading import Entry
from gemma_operator.catalog.records import Catalog
from gemma_operator.errors import InvalidCatalog

FILES = ("variants", "checkpoints", "accelerators", "machine_types", "engines", "compatibility")

#: libyaml's where the wheel has it: eight times as fast, and each command on the command line waits for it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

T = TypeVar("T")
#: Entries as yaml gives them, each with the file that it stands in.
Raw = dict[str, tuple[str, Any]]


@cache
def packaged() -> Catalog:
    """The catalog as it ships."""
    return load()


def load(*directories: Path, prices: Path | None = None) -> Catalog:
    """The packaged catalog with the files of `directories` laid over it, entry by entry, and a price file.

    Raises InvalidCatalog, naming file and entry.
    """
    raw: dict[str, Raw] = {name: {} for name in FILES}
    digest = hashlib.sha256()
    for directory in (resources.files("gemma_operator.catalog"), *map(_existing, directories)):
        for name in FILES:
            content, entries_above = _file(directory, f"{name}.yaml")
            digest.update(content)
            raw[name] = _laid_over(raw[name], entries_above)
    content, known = price_files.read(prices) if prices is not None else (b"", price_files.NO_PRICES)
    digest.update(content)
    catalog = Catalog(
        variants=_entries(raw["variants"], entries.variant),
        checkpoints=tuple(_entries(raw["checkpoints"], entries.checkpoint).values()),
        accelerators=_entries(raw["accelerators"], entries.accelerator),
        machine_types=_entries(raw["machine_types"], entries.machine_type),
        engines=_entries(raw["engines"], entries.engine),
        incompatibilities=tuple(_entries(raw["compatibility"], incompatibilities.incompatibility).values()),
        digest=digest.hexdigest()[:16],
        prices=known,
    )
    _check_references(catalog, raw)
    return catalog


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        raise InvalidCatalog(f"{directory}: no such directory")
    unknown = sorted(p.name for p in directory.glob("*.y*ml") if p.name not in {f"{f}.yaml" for f in FILES})
    if unknown:
        raise InvalidCatalog(
            f"{directory / unknown[0]}: not a catalog file; they are {', '.join(FILES)} (.yaml)"
        )
    return directory


def _file(directory: Traversable, name: str) -> tuple[bytes, Raw]:
    path = directory.joinpath(name)
    if not path.is_file():
        return b"", {}
    where = str(path) if isinstance(directory, Path) else name
    try:
        content = path.read_bytes()
        document = yaml.load(content, Loader=LOADER) or {}  # noqa: S506 - both are safe loaders
    except (OSError, yaml.YAMLError) as error:
        raise InvalidCatalog(f"{where}: cannot be read: {error}") from error
    return content, {name: (where, document[name]) for name in Entry(where, document).names()}


def _laid_over(below: Raw, above: Raw) -> Raw:
    new = {name: entry for name, entry in above.items() if name not in below}
    return new | {name: above.get(name, entry) for name, entry in below.items()}


def _entries(raw: Raw, build: Callable[[str, Entry], T]) -> dict[str, T]:
    built: dict[str, T] = {}
    for name, (where, value) in raw.items():
        entry = Entry(f"{where}, {name}", value)
        built[name] = build(name, entry)
        entry.done()
    return built


def _check_references(catalog: Catalog, raw: Mapping[str, Raw]) -> None:
    for checkpoint in catalog.checkpoints:
        if checkpoint.variant not in catalog.variants:
            where = raw["checkpoints"][checkpoint.name][0]
            raise InvalidCatalog(
                f"{where}, {checkpoint.name}: variant {checkpoint.variant!r} is not in variants.yaml"
            )
        unknown = sorted(
            set(checkpoint.bytes_per_parameter) - set(catalog.variants[checkpoint.variant].parameters)
        )
        if unknown:
            where = raw["checkpoints"][checkpoint.name][0]
            raise InvalidCatalog(
                f"{where}, {checkpoint.name}: {checkpoint.variant} has no module class {unknown[0]!r}"
            )
    for machine in catalog.machine_types.values():
        if machine.accelerator not in catalog.accelerators:
            where = raw["machine_types"][machine.name][0]
            raise InvalidCatalog(
                f"{where}, {machine.name}: accelerator {machine.accelerator!r} is not in accelerators.yaml"
            )
