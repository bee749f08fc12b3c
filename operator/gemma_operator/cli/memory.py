"""`gemma-operator memory`: the calculator for one variant on one kind of GPU, with no fleet at all.

It asks the planner as a GemmaDeployment would. What is given is taken as it is; the other settings are found
in the planner's order.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any, Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.cli import documents, fleets, memory_asked, sum_text, tables
from gemma_operator.cli.memory_asked import Question
from gemma_operator.errors import UsageError
from gemma_operator.planner import explain, sums, words
from gemma_operator.planner.choice import choose, rank
from gemma_operator.planner.feasible import feasible
from gemma_operator.planner.room import Room
from gemma_operator.planner.sums import Sum
from gemma_operator.planner.values import Candidate, Fit, Rejection

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
#: A calculator's card is free.
_ROOM: Final = Room(1, 1)
MIB: Final = 1024**2
_GPUS: Final = (1, 2, 4, 8)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is served, on what, with which settings, and how it is printed."""
    parser.add_argument("--variant", required=True, metavar="NAME", help="31B, 26B-A4B, 12B, E4B or E2B")
    parser.add_argument("--precision", required=True, metavar="NAME", help="bf16, fp8, nvfp4 or w4a16")
    parser.add_argument("--checkpoint", metavar="REPO", help="default: the one that a plan would take")
    parser.add_argument("--gpu", "--accelerator", metavar="NAME", help="catalog name, as nvidia-l4")
    parser.add_argument("--gpu-memory-mib", type=int, metavar="N", help="MiB as the driver reports them")
    parser.add_argument("--compute-capability", metavar="X.Y", help="of a GPU that the catalog does not have")
    parser.add_argument("--gpus", type=int, choices=_GPUS, default=1, help="tensor parallelism (default: 1)")
    parser.add_argument("--context", type=int, metavar="L", help="default: the first of 32768, 16384, 8192")
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="contexts held at once (1)")
    parser.add_argument("--batched-tokens", type=int, metavar="N", help="--max-num-batched-tokens")
    parser.add_argument("--sequences", type=int, metavar="N", help="--max-num-seqs")
    parser.add_argument(
        "--modalities",
        nargs="+",
        metavar="LIST",
        help="text,image,video,audio; the others are limited to 0, which leaves their towers out"
        " (default: text,image with every tower, as a server that limits nothing)",
    )
    parser.add_argument("--utilization", type=float, metavar="F", help="--gpu-memory-utilization, as 0.92")
    parser.add_argument("--kv-bytes", type=int, choices=(1, 2), help="bytes of a KV element: 1 FP8, 2 BF16")
    parser.add_argument("--engine", metavar="VERSION", help="version of the engine (default: the operator's)")
    parser.add_argument("--eager", action="store_true", help="--enforce-eager: no CUDA graphs")
    parser.add_argument(
        "--sleep-mode",
        action="store_true",
        help="--enable-sleep-mode: before 0.27 it hides memory from the engine",
    )
    fleets.add_catalog(parser)
    parser.add_argument("--explain", action="store_true", help="print the sum step by step")
    parser.add_argument("-o", "--output", choices=("table", "json", "yaml"), default="table")


def run(args: argparse.Namespace) -> int:
    """0 where it fits, else 1."""
    catalog = fleets.catalog(args)
    asked = memory_asked.question(args, catalog)
    only = replace(catalog, checkpoints=asked.checkpoints)
    verdict = _verdict(asked, only)
    fit = verdict if isinstance(verdict, Fit) else None
    named = verdict.candidate.checkpoint if verdict is not None else None
    checkpoint = named or asked.checkpoints[0]
    candidate = Candidate(
        catalog.variants[asked.variant], checkpoint, asked.precision, asked.shape, asked.gpus
    )
    found = sums.sum_of(candidate, fit, request=asked.request, catalog=only)
    reason = "" if fit else words.rejection(verdict) if isinstance(verdict, Rejection) else _NO_REPLICA
    if found is None:
        raise UsageError(f"nothing tells the memory of {asked.shape.product}: give --gpu-memory-mib")
    document = _document(asked, found, fit, reason)
    if args.explain and args.output != "table":
        document["steps"] = sum_text.document(found)
    if args.output == "table":
        print(_table(document))
        if args.explain:
            print("", *sum_text.lines(found), sep="\n")
    else:
        print(documents.printed(document, args.output))
    return 0 if fit else DOES_NOT_FIT


_NO_REPLICA: Final = "no replica of so many GPUs is possible"


def _verdict(asked: Question, catalog: Catalog) -> Fit | Rejection | None:
    """Of several checkpoints the one that a plan would take, else the one that misses by least."""
    found = feasible(asked.request, [asked.shape], catalog)
    fits = tuple(fit for fit in found.fits if fit.candidate.tensor_parallel == asked.gpus)
    if fits:
        ranking = rank(replace(found, fits=fits), request=asked.request, catalog=catalog)
        return choose(ranking, replicas=1, room=lambda _: _ROOM).fit
    rejections = [each for each in found.rejections if each.candidate.tensor_parallel == asked.gpus]
    return explain.nearest(rejections or found.rejections) if found.rejections else None


def _document(asked: Question, found: Sum, fit: Fit | None, reason: str) -> dict[str, Any]:
    row = found.row
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
        # of a plan that starts; blocks of one that does not are no tokens
        "kvCacheTokens": fit.kv_tokens if fit else None,
        "checkpoint": _repo(found.candidate),
        "acceleratorsPerReplica": asked.gpus,
        "unverified": [*asked.notes, *(fit.unverified if fit else ())],
        "limits": list(fit.limits) if fit else [],
    }
    return document | ({"reason": reason} if reason else {})


def _repo(candidate: Candidate) -> str | None:
    """None where nobody named one and the catalog has none."""
    checkpoint = candidate.checkpoint
    assert checkpoint is not None
    return None if checkpoint.name == memory_asked.STAND_IN else checkpoint.repo


def _percent(basis_points: int) -> int | float:
    """As a plan has it, where it is whole."""
    return basis_points // 100 if basis_points % 100 == 0 else basis_points / 100


def _table(document: dict[str, Any]) -> str:
    lists = ("unverified", "limits")
    flat = {key: value for key, value in document.items() if key not in {"fits", "reason", *lists}}
    rows = [[key, tables.word(value)] for key, value in flat.items()]
    rows += [[key, note] for key in lists for note in document[key]]
    rows += [["reason", document["reason"]]] if "reason" in document else []
    return tables.text(("fits", document["fits"]), rows)
