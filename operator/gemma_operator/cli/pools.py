"""`gemma-operator pools`: what is read from nodes and AcceleratorPools, and what could be planned on it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import documents, fleets, tables
from gemma_operator.hardware.records import Pool, PoolShape
from gemma_operator.planner import explain, words
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.request import from_spec
from gemma_operator.planner.room import Ledger

NAME = "pools"
HELP = "show the pools that nodes and AcceleratorPools make, and whether they can be used"
EPILOG = """\
examples:
  gemma-operator pools                                     of the cluster that kubectl talks to
  kubectl get nodes -o json | gemma-operator pools --nodes -
  gemma-operator pools --nodes nodes.yaml --nodes accelerator-pools.yaml -o json

A pool is usable when a GemmaDeployment with `spec: {}` could be planned on it and a node of it takes pods or may come;
REASON says why it is not.
ACCELERATORS counts those of one node, NODES the nodes that are there now; free or taken is not looked at.
"""

COLUMNS = (
    ("NAME", "name"),
    ("SOURCE", "source"),
    ("RESOURCE", "resourceName"),
    ("ACCELERATOR", "accelerator"),
    ("MEMORY MiB", "memoryMiB"),
    ("CC", "computeCapability"),
    ("ACCELERATORS", "acceleratorsPerNode"),
    ("NODES", "nodes"),
    ("SHARING", "sharing"),
    ("SPOT", "spot"),
    ("USABLE", "usable"),
    ("REASON", "reason"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which fleet, and how it is printed."""
    fleets.add_arguments(parser)
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run(args: argparse.Namespace) -> int:
    """Always 0: an empty fleet is an answer."""
    catalog = fleets.catalog(args)
    fleet = fleets.from_arguments(args)
    rows = [row(pool, catalog) for pool in fleet.pools(catalog)]
    for line in fleets.notes(fleet):
        print(line, file=sys.stderr)
    print(_table(rows) if args.output == "table" else documents.printed({"pools": rows}, args.output))
    return 0


def row(pool: Pool, catalog: Catalog) -> dict[str, Any]:
    """One pool as `-o json` has it."""
    shape = pool.shape
    reason = _not_usable(shape, catalog) or _held(pool)
    return {
        "name": shape.id.name,
        "source": shape.id.source.value,
        "resourceName": shape.id.resource_name,
        "shape": shape.id.shape,
        "accelerator": shape.accelerator,
        "memoryMiB": shape.device_memory_mib,
        "computeCapability": _dotted(shape.compute_capability),
        "acceleratorsPerNode": shape.accelerators_per_node,
        "nodes": len(pool.nodes),
        "sharing": shape.sharing.value,
        "spot": shape.spot,
        "usable": not reason,
        "reason": reason,
    }


def _not_usable(shape: PoolShape, catalog: Catalog) -> str:
    """Why nothing could be planned there for a GemmaDeployment that asks for nothing; else empty."""
    verdicts = feasible(from_spec("default", GemmaDeploymentSpec()), [shape], catalog)
    if verdicts.fits:
        return ""
    on_shape = [rejection for rejection in verdicts.rejections if rejection.candidate.shape is not None]
    return words.rejection(explain.nearest(on_shape))


def _held(pool: Pool) -> str:
    """Why none of its nodes takes pods now, where none is yet to come; else empty."""
    if pool.growth is not None and pool.growth.more_nodes > 0:
        return ""
    if not pool.nodes:
        return "it has no node, and its limits let none come"
    held = Ledger([pool], ()).held(pool.shape.id)
    return f"every node of it {held}" if held else ""


def _dotted(capability: tuple[int, int] | None) -> str | None:
    return ".".join(map(str, capability)) if capability else None


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "no pools: no node offers accelerators, and no AcceleratorPool is declared"
    return tables.text(
        [title for title, _ in COLUMNS], [[tables.word(row[key]) for _, key in COLUMNS] for row in rows]
    )
