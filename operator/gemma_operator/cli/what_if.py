"""`--what-if`: hardware that is not there, as nodes beside those that are.

`gpu=nvidia-l4:4,nodes=2` is two nodes with four L4 each. Nothing is said of their CPU, memory and disk, so these
limit nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gemma_operator.api.names import PREFIX
from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import fleets
from gemma_operator.cli.fleets import Fleet
from gemma_operator.errors import UsageError
from gemma_operator.hardware.declared import DEFAULT_RESOURCE, DeclaredPool
from gemma_operator.hardware.records import NodeRecord

LABEL: Final = f"{PREFIX}what-if"
_FORM: Final = "gpu=NAME[:GPUS][,nodes=N], as gpu=nvidia-l4:4"
_MOST_GPUS: Final = 16
_MOST_NODES: Final = 1000


def with_nodes(fleet: Fleet, texts: list[str], catalog: Catalog) -> Fleet:
    """The fleet and what each text adds; UsageError says which is wrong."""
    for place, text in enumerate(texts, start=1):
        accelerator, gpus, nodes = _read(text, catalog)
        name = (
            f"what-if-{accelerator}-x{gpus}" if len(texts) == 1 else f"what-if-{place}-{accelerator}-x{gpus}"
        )
        selector = ((LABEL, name),)
        declared = DeclaredPool(name, accelerator, gpus, selector)
        added = (
            NodeRecord(f"{name}-{number}", dict(selector), (), {DEFAULT_RESOURCE: gpus}, schedulable=True)
            for number in range(nodes)
        )
        fleet = replace(fleet, nodes=(*fleet.nodes, *added), declared=(*fleet.declared, declared))
    return fleet


def _read(text: str, catalog: Catalog) -> tuple[str, int, int]:
    pairs = dict(pair.partition("=")[::2] for pair in text.split(","))
    unknown = sorted(set(pairs) - {"gpu", "nodes"})
    if unknown or not pairs.get("gpu"):
        raise UsageError(f"--what-if: {text!r} is not {_FORM}")
    written, _, gpus = pairs["gpu"].partition(":")
    accelerator = fleets.accelerator_name(written, catalog) or written
    if accelerator not in catalog.accelerators:
        raise UsageError(f"--what-if: {fleets.no_accelerator(written, catalog)}")
    return (
        accelerator,
        _number(text, gpus or "1", most=_MOST_GPUS),
        _number(text, pairs.get("nodes", "1"), most=_MOST_NODES),
    )


def _number(text: str, digits: str, *, most: int) -> int:
    if not digits.isdecimal() or not 1 <= int(digits) <= most:
        raise UsageError(f"--what-if: {text!r}: {digits!r} is not a number from 1 to {most}")
    return int(digits)
