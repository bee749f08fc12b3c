"""`gemma-operator memory`: the calculator for one variant on one kind of GPU, with no fleet at all."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import asked, fleets, tables
from gemma_operator.errors import InvalidSpec, UsageError
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner import explain, words
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.plan import planned_memory
from gemma_operator.planner.values import Fit, Rejection, Request

NAME = "memory"
HELP = "reckon whether a variant fits on a GPU, and what is left for its KV cache"
EPILOG = """\
examples:
  gemma-operator memory --variant 31B --precision bf16 --accelerator nvidia-h100-80gb
  gemma-operator memory --variant 31B --precision fp8 --accelerator nvidia-l40s --gpus 2 --context 131072
  gemma-operator memory --variant E4B --precision bf16 --accelerator nvidia-l4 --concurrency 8 -o json
  gemma-operator memory --variant 12B --precision w4a16 --accelerator my-gpu --memory-mib 16311

Sizes are MiB on each GPU. BAND is how far the estimate may be off: what fits only inside it is `tight` and
may refuse to start. Exit codes: 0 fits, 1 does not, 2 bad input.
"""

DOES_NOT_FIT = 1
_GPUS: Final = (1, 2, 4, 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is served, on what, and how it is printed."""
    parser.add_argument("--variant", required=True, metavar="NAME", help="31B, 26B-A4B, 12B, E4B or E2B")
    parser.add_argument("--precision", required=True, metavar="NAME", help="bf16, fp8, nvfp4 or w4a16")
    parser.add_argument("--accelerator", required=True, metavar="NAME", help="catalog name, as nvidia-l4")
    parser.add_argument("--memory-mib", type=int, metavar="N", help="its memory as the driver reports it")
    parser.add_argument("--gpus", type=int, choices=_GPUS, default=1, help="GPUs of a replica (default: 1)")
    parser.add_argument(
        "--context", type=int, metavar="TOKENS", help="default: the first of 32768, 16384, 8192"
    )
    parser.add_argument(
        "--concurrency", type=int, default=1, metavar="N", help="contexts held at once (default: 1)"
    )
    parser.add_argument("--modalities", nargs="+", metavar="NAME", help="text, image, video, audio")
    parser.add_argument(
        "--kv-cache", choices=("Auto", "BF16", "FP8"), default="Auto", help="KV cache precision"
    )
    parser.add_argument("--engine-version", metavar="VERSION", help="default: the operator's")
    fleets.add_catalog(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """0 where it fits, else 1."""
    catalog = fleets.catalog(args)
    shape = _shape(args, catalog)
    verdict = feasible(_request(args), [shape], catalog)
    fits = [fit for fit in verdict.fits if fit.candidate.tensor_parallel == args.gpus]
    if not fits:
        print(_no(verdict.rejections, args))
        return DOES_NOT_FIT
    document = _document(fits[0])
    print(json.dumps(document, indent=2) if args.output == "json" else _table(document))
    return 0


def _shape(args: argparse.Namespace, catalog: Catalog) -> PoolShape:
    """One node with so many of the GPU, as an AcceleratorPool would declare it."""
    if args.accelerator not in catalog.accelerators and args.memory_mib is None:
        near = get_close_matches(args.accelerator, catalog.accelerators, n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UsageError(
            f"--accelerator: the catalog has no {args.accelerator}{hint}; else give --memory-mib"
        )
    declared = DeclaredPool(
        name="memory",
        accelerator=args.accelerator,
        accelerators_per_node=args.gpus,
        node_selector=(("calculator", "true"),),
        memory_mib=args.memory_mib,
    )
    return pools((), (declared,), catalog)[0].shape


def _request(args: argparse.Namespace) -> Request:
    """Through the models, so that the calculator takes exactly what a GemmaDeployment may ask."""
    serving: dict[str, Any] = {"concurrency": args.concurrency, "kvCachePrecision": args.kv_cache}
    if args.context is not None:
        serving["contextLength"] = args.context
    if args.modalities:
        serving["modalities"] = args.modalities
    if args.engine_version:
        serving["engine"] = {"version": args.engine_version}
    spec = {
        "model": {"variants": [args.variant], "precisions": [args.precision]},
        "serving": serving,
        "hardware": {"maxAcceleratorsPerReplica": args.gpus},
    }
    try:
        return asked.from_object({"metadata": {"name": "memory"}, "spec": spec}).request
    except InvalidSpec as error:
        raise UsageError(str(error)) from error


def _document(fit: Fit) -> dict[str, Any]:
    memory, settings, checkpoint = planned_memory(fit.memory), fit.settings, fit.candidate.checkpoint
    return {
        "fits": True,
        "tight": fit.tight,
        "checkpoint": checkpoint.repo if checkpoint else None,
        "acceleratorsPerReplica": fit.candidate.tensor_parallel,
        "contextLength": settings.context_length,
        "maxSequences": settings.max_sequences,
        "maxBatchedTokens": settings.max_batched_tokens,
        "kvCachePrecision": settings.kv_cache_precision.value,
        "gpuMemoryUtilization": settings.utilization_percent,
        "kvCacheTokens": fit.kv_tokens,
        "memoryMiB": {
            "usable": fit.memory.usable_bytes // 1024**2,
            "weights": memory.weights,
            "kvCache": memory.kv_cache,
            "overhead": memory.overhead,
            "band": memory.band,
            "total": memory.total,
        },
        "unverified": list(fit.unverified),
    }


def _no(rejections: Sequence[Rejection], args: argparse.Namespace) -> str:
    """Why not: on the GPUs that were asked for, where the verdict depends on them."""
    asked_for = [each for each in rejections if each.candidate.tensor_parallel == args.gpus] or rejections
    said = (
        words.rejection(explain.nearest(asked_for)) if asked_for else "no replica of so many GPUs is possible"
    )
    return (
        json.dumps({"fits": False, "reason": said}, indent=2)
        if args.output == "json"
        else f"does not fit: {said}"
    )


def _table(document: dict[str, Any]) -> str:
    flat = {key: value for key, value in document.items() if key not in {"fits", "memoryMiB", "unverified"}}
    rows = [[key, tables.word(value)] for key, value in flat.items()]
    rows += [[f"MiB a GPU, {key}", str(value)] for key, value in document["memoryMiB"].items()]
    rows += [["unverified", note] for note in document["unverified"]]
    return tables.text(("fits", "yes"), rows)
