"""`gemma-operator memory`: the calculator for one variant on one kind of GPU, with no fleet at all.

It asks the planner as a GemmaDeployment would. What is given is taken as it is; the other settings are found
in the planner's order.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any, Final

from gemma_operator.catalog.records import Catalog, Checkpoint
from gemma_operator.cli import asked, fleets, sum_text, tables
from gemma_operator.errors import InvalidSpec, UsageError
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner import explain, needs, sums, words
from gemma_operator.planner.feasible import feasible, nearest_accelerators
from gemma_operator.planner.sums import Sum
from gemma_operator.planner.values import NO_IMAGE, Candidate, Fit, KvPrecision, Rejection, Request
from gemma_operator.planner.vllm import versions

NAME = "memory"
HELP = "reckon whether a variant fits on a GPU, and what is left for its KV cache"
EPILOG = """\
examples:
  gemma-operator memory --variant 31B --precision bf16 --gpu nvidia-h100-80gb
  gemma-operator memory --variant 31B --precision fp8 --gpu nvidia-l40s --gpus 2 --context 131072
  gemma-operator memory --variant E4B --precision bf16 --gpu nvidia-l4 --concurrency 8 -o json
  gemma-operator memory --variant 12B --precision w4a16 --gpu-memory-mib 16311 --compute-capability 12.0
  gemma-operator memory --variant 31B --precision nvfp4 --checkpoint me/mine --gpu nvidia-rtx-5090 --explain

Sizes are MiB on each GPU. The band is how far the estimate may be off: what fits only inside it is `tight` and
may refuse to start. Settings that are not given are found as the operator finds them. Exit codes: 0 fits (yes or
tight), 1 does not, 2 bad input.
"""

DOES_NOT_FIT: Final = 1
MIB: Final = 1024**2
_GPUS: Final = (1, 2, 4, 8)
_KV_BYTES: Final = {1: KvPrecision.FP8, 2: KvPrecision.BF16, None: None}
_UNNAMED: Final = "GPU"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is served, on what, with which settings, and how it is printed."""
    parser.add_argument("--variant", required=True, metavar="NAME", help="31B, 26B-A4B, 12B, E4B or E2B")
    parser.add_argument("--precision", required=True, metavar="NAME", help="bf16, fp8, nvfp4 or w4a16")
    parser.add_argument("--checkpoint", metavar="REPO", help="default: the catalog's best of that precision")
    parser.add_argument("--gpu", "--accelerator", metavar="NAME", help="catalog name, as nvidia-l4")
    parser.add_argument("--gpu-memory-mib", type=int, metavar="N", help="MiB as the driver reports them")
    parser.add_argument("--compute-capability", metavar="X.Y", help="of a GPU that the catalog does not have")
    parser.add_argument("--gpus", type=int, choices=_GPUS, default=1, help="tensor parallelism (default: 1)")
    parser.add_argument("--context", type=int, metavar="L", help="default: the first of 32768, 16384, 8192")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="contexts held at once (1)")
    parser.add_argument("--batched-tokens", type=int, metavar="N", help="--max-num-batched-tokens")
    parser.add_argument("--sequences", type=int, metavar="N", help="--max-num-seqs")
    parser.add_argument(
        "--modalities", nargs="+", metavar="LIST", help="text,image,video,audio (default: text,image)"
    )
    parser.add_argument("--utilization", type=float, metavar="F", help="--gpu-memory-utilization, as 0.92")
    parser.add_argument("--kv-bytes", type=int, choices=(1, 2), help="bytes of a KV element: 1 FP8, 2 BF16")
    parser.add_argument("--engine", metavar="VERSION", help="version of the engine (default: the operator's)")
    parser.add_argument("--eager", action="store_true", help="--enforce-eager: no CUDA graphs")
    fleets.add_catalog(parser)
    parser.add_argument("--explain", action="store_true", help="print the sum step by step")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """0 where it fits, else 1."""
    catalog = fleets.catalog(args)
    request = _request(args, catalog)
    checkpoint, notes = _checkpoint(args, catalog)
    only = replace(catalog, checkpoints=(checkpoint,))
    shape = _shape(args, catalog)
    request = replace(request, tuning=checkpoint.tuning)
    verdict = _verdict(request, shape, only, gpus=args.gpus)
    fit = verdict if isinstance(verdict, Fit) else None
    variant = catalog.variants[args.variant]
    candidate = Candidate(variant, checkpoint, args.precision, shape, args.gpus)
    found = sums.sum_of(candidate, fit, request=request, catalog=only)
    reason = "" if fit else words.rejection(verdict) if isinstance(verdict, Rejection) else _NO_REPLICA
    if found is None:
        raise UsageError(f"nothing tells the memory of {shape.product}: give --gpu-memory-mib")
    document = _document(found, fit, reason, notes)
    if args.output == "json":
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(_table(document))
        if args.explain:
            print("", *sum_text.lines(found), sep="\n")
    return 0 if fit else DOES_NOT_FIT


_NO_REPLICA: Final = "no replica of so many GPUs is possible"


def _verdict(request: Request, shape: PoolShape, catalog: Catalog, *, gpus: int) -> Fit | Rejection | None:
    found = feasible(request, [shape], catalog)
    fits = [fit for fit in found.fits if fit.candidate.tensor_parallel == gpus]
    if fits:
        return fits[0]
    rejections = [each for each in found.rejections if each.candidate.tensor_parallel == gpus]
    return explain.nearest(rejections or found.rejections) if found.rejections else None


def _shape(args: argparse.Namespace, catalog: Catalog) -> PoolShape:
    """One node with so many of the GPU, as an AcceleratorPool would declare it."""
    known = args.gpu in catalog.accelerators
    if args.gpu is None and args.gpu_memory_mib is None:
        raise UsageError("give --gpu NAME, or --gpu-memory-mib N with --compute-capability X.Y")
    if not known and args.gpu_memory_mib is None:
        near = nearest_accelerators(args.gpu, catalog)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UsageError(f"--gpu: the catalog has no {args.gpu}{hint}; else give --gpu-memory-mib")
    if not known and args.compute_capability is None:
        raise UsageError(
            "--gpu-memory-mib needs --compute-capability X.Y (https://developer.nvidia.com/cuda-gpus)"
        )
    if args.gpu_memory_mib is not None and args.gpu_memory_mib < 1:
        raise UsageError(f"--gpu-memory-mib: {args.gpu_memory_mib} is no size")
    declared = DeclaredPool(
        name="memory",
        accelerator=args.gpu or _UNNAMED,
        accelerators_per_node=args.gpus,
        node_selector=(("calculator", "true"),),
        memory_mib=args.gpu_memory_mib,
        compute_capability=_capability(args.compute_capability),
    )
    return pools((), (declared,), catalog)[0].shape


def _capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise UsageError(f"--compute-capability: {text} is not like 8.9")
    return int(major), int(minor)


def _request(args: argparse.Namespace, catalog: Catalog) -> Request:
    """Through the models, so that the calculator takes exactly what a GemmaDeployment may ask."""
    kv_precision = _KV_BYTES[args.kv_bytes]
    serving: dict[str, Any] = {"concurrency": args.concurrency}
    if kv_precision is not None:
        serving["kvCachePrecision"] = kv_precision.value
    if args.context is not None:
        serving["contextLength"] = args.context
    if args.modalities:
        serving["modalities"] = [name for word in args.modalities for name in word.split(",") if name]
    spec = {
        "model": {"variants": [args.variant], "precisions": [args.precision]},
        "serving": serving,
        "hardware": {"maxAcceleratorsPerReplica": args.gpus},
    }
    try:
        request = asked.from_object({"metadata": {"name": "memory"}, "spec": spec}).request
    except InvalidSpec as error:
        raise UsageError(str(error)) from error
    return replace(
        request,
        engine_version=_version(args.engine, catalog.engines[request.engine].default_version),
        engine_overrides=tuple(sorted(_given(args).items())),
        # Whether a version's published image starts is not what a calculator is asked.
        features=frozenset({NO_IMAGE}),
    )


def _version(text: str | None, default: str) -> str:
    try:
        versions.parse(text or default)
    except ValueError as error:
        raise UsageError(f"--engine: {error}") from error
    return text or default


def _given(args: argparse.Namespace) -> dict[str, str]:
    """Settings that are taken as they are, as the engine's flags."""
    given: dict[str, str] = {}
    for flag, name, value in (
        ("--batched-tokens", needs.BATCHED_TOKENS, args.batched_tokens),
        ("--sequences", needs.SEQUENCES, args.sequences),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{flag}: {value} is less than 1")
        if value is not None:
            given[name] = str(value)
    if args.utilization is not None:
        given[needs.UTILIZATION] = _utilization(args.utilization)
    if args.eager:
        given[needs.EAGER] = "true"
    return given


def _utilization(given: float) -> str:
    """A fraction as the engine takes it; what looks like a percentage is not guessed at, since 1 may be either."""
    if 1 < given <= 100:
        raise UsageError(f"--utilization: {given:g} is no fraction of the card: write {given / 100:g}")
    points = given * 10_000
    if not 1 <= points <= 10_000 or abs(points - round(points)) > 1e-6:
        raise UsageError(f"--utilization: {given:g} is not from 0.0001 to 1 with at most four decimals")
    return f"{given:g}"


def _checkpoint(args: argparse.Namespace, catalog: Catalog) -> tuple[Checkpoint, tuple[str, ...]]:
    """The catalog's, else what its precision says; notes for what was taken for granted."""
    wanted = (args.variant, args.precision)
    if args.checkpoint:
        known = next((c for c in catalog.checkpoints if c.repo.lower() == args.checkpoint.lower()), None)
        if known is not None:
            if (known.variant, known.precision) != wanted:
                raise UsageError(f"--checkpoint: {known.repo} is {known.variant} {known.precision}")
            return known, ()
    of_precision = [c for c in catalog.checkpoints if c.precision == args.precision]
    alike = [c for c in of_precision if c.variant == args.variant] or of_precision
    if not alike:
        raise UsageError(f"--precision: the catalog has no {args.precision} checkpoint to reckon by")
    if alike[0].variant == args.variant and not args.checkpoint:
        return alike[0], ()
    repo = args.checkpoint or f"a {args.precision} checkpoint of {args.variant}"
    note = f"{repo} is not in the catalog: reckoned by its precision, as {alike[0].repo}"
    return replace(alike[0], name="given", variant=args.variant, repo=repo, revision=None), (note,)


def _document(found: Sum, fit: Fit | None, reason: str, notes: tuple[str, ...]) -> dict[str, Any]:
    row, candidate = found.row, found.candidate
    document: dict[str, Any] = {
        "fits": found.fits if fit else sums.NO,
        "weightsMiB": found.weights_bytes // MIB,
        "kvCacheMiB": found.available_bytes // MIB,
        "overheadMiB": found.overhead_bytes // MIB,
        "bandMiB": found.band_bytes // MIB,
        "totalMiB": sum(
            size // MIB for size in (found.weights_bytes, found.available_bytes, found.overhead_bytes)
        ),
        "usableMiB": found.usable_bytes // MIB,
        "kvCacheNeededMiB": -(-row.kv_bytes // MIB),
        "numBlocks": found.blocks,
        "maxConcurrency": round(found.concurrency_held, 2),
        "maxContextLength": found.longest_context,
        "contextLength": row.context_length,
        "concurrency": found.concurrency,
        "maxSequences": found.sequences,
        "maxBatchedTokens": row.batched_tokens,
        "kvCachePrecision": row.kv_precision.value,
        "gpuMemoryUtilization": _percent(found.utilization_basis_points),
        "kvCacheTokens": fit.kv_tokens if fit else 0,
        "checkpoint": candidate.checkpoint.repo if candidate.checkpoint else None,
        "acceleratorsPerReplica": candidate.tensor_parallel,
        "unverified": [*notes, *(fit.unverified if fit else ())],
    }
    return document | ({"reason": reason} if reason else {})


def _percent(basis_points: int) -> int | float:
    """As a plan has it, where it is whole."""
    return basis_points // 100 if basis_points % 100 == 0 else basis_points / 100


def _table(document: dict[str, Any]) -> str:
    flat = {key: value for key, value in document.items() if key not in {"fits", "unverified", "reason"}}
    rows = [[key, tables.word(value)] for key, value in flat.items()]
    rows += [["unverified", note] for note in document["unverified"]]
    rows += [["reason", document["reason"]]] if "reason" in document else []
    return tables.text(("fits", document["fits"]), rows)
