"""The fleet that a command plans for: from files, or from the cluster.

What has a plan already claims its GPUs until its pods are bound: the plan stands on its Deployment. What is no
Node, AcceleratorPool, Pod or placed Deployment is counted and named, so that a file that was given by mistake does
not look like an empty fleet.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.api.names import POOL_KIND
from gemma_operator.api.parse import parse_pool
from gemma_operator.catalog import loader
from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import documents, fields
from gemma_operator.errors import InvalidCatalog, InvalidSpec, UsageError
from gemma_operator.hardware import computeclasses, nodepools
from gemma_operator.hardware.access import with_access
from gemma_operator.hardware.computeclasses import ComputeClassRecord
from gemma_operator.hardware.declared import DeclaredPool, declared_pool
from gemma_operator.hardware.dra import SliceRecord, slice_record
from gemma_operator.hardware.namespaces import NO_RULES, NamespaceRules, limit_record, quota_record
from gemma_operator.hardware.nodepools import NodePoolRecord
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pods import pod_record
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import NodeRecord, PodRecord, Pool
from gemma_operator.planner.annotation import from_annotation
from gemma_operator.planner.feasible import nearest_accelerators
from gemma_operator.planner.placement import PlacedClaim
from gemma_operator.settings import OperatorSettings, PoolAccess

_DEFAULTS: Final = OperatorSettings()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes, AcceleratorPools, bound Pods, placed plans, and how many other objects were passed over."""

    nodes: tuple[NodeRecord, ...]
    declared: tuple[DeclaredPool, ...]
    pods: tuple[PodRecord, ...]
    placed: tuple[PlacedClaim, ...]
    passed_over: Mapping[str, int]
    #: What a cluster may have beside them.
    slices: tuple[SliceRecord, ...] = ()
    nodepools: tuple[NodePoolRecord, ...] = ()
    computeclasses: tuple[ComputeClassRecord, ...] = ()
    rules: NamespaceRules = NO_RULES
    #: Of the operator's settings: which namespaces may use which pools.
    access: tuple[PoolAccess, ...] = ()

    def pools(self, catalog: Catalog) -> tuple[Pool, ...]:
        """What can be planned for."""
        found = pools(
            self.nodes,
            self.declared,
            catalog,
            slices=self.slices,
            prospects=[
                *(each for pool in self.nodepools for each in nodepools.prospects(pool, catalog)),
                *(each for named in self.computeclasses for each in computeclasses.prospects(named, catalog)),
            ],
        )
        return with_access(found, self.access)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--nodes`, `--context`, `--kubeconfig` and `--catalog`, alike in every command."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--nodes",
        action="append",
        metavar="FILE",
        help="Nodes, AcceleratorPools, Pods, ResourceSlices, Karpenter's NodePools, ComputeClasses, ResourceQuotas "
        "and LimitRanges as kubectl prints them, yaml or json (- is standard input); may be given several times; "
        "without it the cluster of the kubeconfig is read",
    )
    where.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", default="", help="default: KUBECONFIG, the pod's own, ~/.kube"
    )
    add_catalog(parser)


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """`--catalog`."""
    parser.add_argument(
        "--catalog",
        action="append",
        type=Path,
        metavar="DIR",
        help="catalog files laid over the packaged ones: own checkpoints, GPUs, machine types",
    )


def add_prices(parser: argparse.ArgumentParser) -> None:
    """`--prices`."""
    parser.add_argument("--prices", type=Path, metavar="FILE", help="price file (docs/cost.md)")


def from_arguments(args: argparse.Namespace) -> Fleet:
    """The fleet that the arguments name."""
    if args.nodes and args.kubeconfig:
        raise UsageError(
            "--nodes: the fleet is in those files, and --kubeconfig names a cluster: leave one out"
        )
    if not args.nodes:
        # aiohttp takes a tenth of a second to import: who plans from files need not wait for it
        from gemma_operator.cli import cluster_objects  # noqa: PLC0415

        return of_objects(cluster_objects.read(args.context, kubeconfig=args.kubeconfig))
    found = [obj for path in args.nodes for obj in documents.objects(path)]
    for obj in found:
        if obj.get("kind") == POOL_KIND:
            _refuse_unknown_fields(obj)
    try:
        return of_objects(found)
    except _MANGLED as error:
        wrong = next((each for each in found if _mangled(each)), None)
        if wrong is None:
            raise  # each is readable alone: a mistake of ours
        metadata = wrong.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, Mapping) else ""
        raise UsageError(
            f"--nodes: {wrong['kind']} {name} is not as an API server has it: compare it with `kubectl get -o yaml`"
        ) from error


def catalog(args: argparse.Namespace, settings: OperatorSettings = _DEFAULTS) -> Catalog:
    """The packaged catalog with the user's files over it; flags go before the operator's settings."""
    folders = args.catalog or ([Path(settings.catalog_dir)] if settings.catalog_dir else [])
    prices = getattr(args, "prices", None) or (Path(settings.price_file) if settings.price_file else None)
    try:
        return loader.load(*folders, prices=prices) if folders or prices else loader.packaged()
    except InvalidCatalog as error:
        raise UsageError(str(error)) from error


#: What reading raises where a list stands for a mapping, or a number for a word.
_MANGLED: Final = (AttributeError, TypeError, KeyError, ValueError)


def _mangled(obj: Mapping[str, Any]) -> bool:
    try:
        of_objects((obj,))
    except _MANGLED:
        return True
    return False


def accelerator_name(given: str | None, catalog: Catalog) -> str | None:
    """As the catalog spells it, in whatever case it was written; what the catalog has not is left as it is."""
    lowered = (given or "").lower()
    return lowered if lowered in catalog.accelerators else given


def no_accelerator(name: str, catalog: Catalog) -> str:
    """The catalog has no such card: which are near, or where all of them stand."""
    near = nearest_accelerators(name, catalog)
    hint = f"nearest: {', '.join(near)}" if near else "docs/planner.md lists its names"
    return f"the catalog has no {name}; {hint}"


def of_objects(objects: Iterable[Mapping[str, Any]]) -> Fleet:
    """The fleet in a list of objects; UsageError names an AcceleratorPool that is wrong, and the field."""
    nodes: dict[str, NodeRecord] = {}
    declared: dict[str, DeclaredPool] = {}
    pods: dict[str, PodRecord] = {}
    placed: dict[tuple[str, str], PlacedClaim] = {}
    passed_over: Counter[str] = Counter()
    beside: dict[str, dict[tuple[str, str], Any]] = {kind: {} for _, kind in _BESIDE}
    for obj in objects:
        kind = obj.get("kind")
        if kind == "Node" and (node := node_record(obj)):
            nodes[node.name] = node
        elif kind == "AcceleratorPool":
            pool = _declared(obj)
            declared[pool.name] = pool
        elif kind == "Pod":
            if pod := pod_record(obj):
                pods[pod.uid] = pod
        elif kind == "Deployment" and (claim := _claim(obj)):
            placed[claim.key] = claim
        elif cut := _BESIDE.get((_group(obj), str(kind))):
            if (record := cut(obj)) is not None:
                beside[str(kind)][_place(obj)] = record
        else:
            passed_over[str(kind)] += 1
    slices: dict[tuple[str, str], SliceRecord] = beside["ResourceSlice"]
    return Fleet(
        nodes=(*nodes.values(), *_named_by_slices(slices.values(), nodes)),
        declared=tuple(declared.values()),
        pods=tuple(pods.values()),
        placed=tuple(placed.values()),
        passed_over=passed_over,
        slices=tuple(slices.values()),
        nodepools=tuple(beside["NodePool"].values()),
        computeclasses=tuple(beside["ComputeClass"].values()),
        rules=NamespaceRules(tuple(beside["ResourceQuota"].values()), tuple(beside["LimitRange"].values())),
    )


def _named_by_slices(slices: Iterable[SliceRecord], nodes: Collection[str]) -> Iterator[NodeRecord]:
    """Nodes that only ResourceSlices name: `kubectl get resourceslices` alone tells what is there too."""
    for name in sorted({each.node for each in slices} - set(nodes)):
        yield NodeRecord(name=name, labels={}, taints=(), allocatable={}, schedulable=True)


#: By group and kind: other groups have NodePools too.
_BESIDE: Final[Mapping[tuple[str, str], Callable[[Mapping[str, Any]], object | None]]] = {
    ("resource.k8s.io", "ResourceSlice"): slice_record,
    ("karpenter.sh", "NodePool"): nodepools.nodepool_record,
    ("cloud.google.com", "ComputeClass"): computeclasses.computeclass_record,
    ("", "ResourceQuota"): quota_record,
    ("", "LimitRange"): limit_record,
}


def _group(obj: Mapping[str, Any]) -> str:
    return str(obj.get("apiVersion") or "").rpartition("/")[0]


def _place(obj: Mapping[str, Any]) -> tuple[str, str]:
    metadata = obj.get("metadata") or {}
    return metadata.get("namespace", ""), metadata.get("name", "")


def notes(fleet: Fleet) -> Sequence[str]:
    """One line a kind that was passed over, for standard error."""
    return [f"note: {count} of kind {kind} passed over" for kind, count in sorted(fleet.passed_over.items())]


def _refuse_unknown_fields(obj: Mapping[str, Any]) -> None:
    """Of a pool in a file; one that a server stored has none, or is of a newer version."""
    try:
        fields.refuse_unknown(obj)
    except InvalidSpec as error:
        name = (obj.get("metadata") or {}).get("name", "")
        raise UsageError(f"AcceleratorPool {name}: {error}") from error


def _declared(obj: Mapping[str, Any]) -> DeclaredPool:
    try:
        parse_pool(obj)
        return declared_pool(obj)
    except InvalidSpec as error:
        name = (obj.get("metadata") or {}).get("name", "")
        raise UsageError(f"AcceleratorPool {name}: {error}") from error


def _claim(obj: Mapping[str, Any]) -> PlacedClaim | None:
    """What the child Deployment of a GemmaDeployment holds or still has to get."""
    metadata, spec = obj.get("metadata") or {}, obj.get("spec") or {}
    plan = from_annotation(str((metadata.get("annotations") or {}).get(names.PLAN, "")))
    if plan is None:
        return None
    pod = (spec.get("template") or {}).get("spec") or {}
    return PlacedClaim(
        key=(metadata.get("namespace") or "default", metadata.get("name", "")),
        pool=plan.pool,
        demand=plan.demand,
        replicas=int(spec.get("replicas", 1)),
        node_selector=tuple(sorted((pod.get("nodeSelector") or {}).items())),
    )
