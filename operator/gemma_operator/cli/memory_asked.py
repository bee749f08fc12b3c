"""What `gemma-operator memory` was asked, from its flags: request, checkpoint and card.

Bad input is answered here, by the name of the flag and with what to write instead; flags that contradict each other
are bad input too. Whether it fits is not known here.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_operator.api.serving import Modality
from gemma_operator.catalog.records import Accelerator, Catalog, Checkpoint
from gemma_operator.cli import asked, fleets
from gemma_operator.errors import InvalidSpec, UsageError
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.pools import pools
from gemma_operator.hardware.records import PoolShape
from gemma_operator.planner import needs, outside
from gemma_operator.planner.memory import TOLERANCE_PERCENT
from gemma_operator.planner.values import NO_IMAGE, KvPrecision, Request
from gemma_operator.planner.words import number
from gemma_operator.settings import ENGINE_VERSION

_KV_BYTES: Final = {1: KvPrecision.FP8, 2: KvPrecision.BF16, None: None}
_UNNAMED: Final = "GPU"
#: The name of a checkpoint that the catalog has not and nobody named.
STAND_IN: Final = "stand-in"
#: Bounds and patterns of the API's fields.
_LEAST_CONTEXT: Final = 256
_MOST_CONCURRENCY: Final = 4096
_MEMORY_MIB: Final = (1024, 4_194_304)
_CAPABILITY: Final = re.compile(r"(\d{1,2})\.(\d)", re.ASCII)
#: The API's fields by the flags that set them.
_FLAGS: Final = {
    "spec.serving.modalities": "--modalities",
    "spec.model.precisions": "--precision",
}


@dataclass(frozen=True, slots=True)
class Question:
    """One variant in one precision on so many of one card."""

    variant: str
    precision: str
    gpus: int
    request: Request
    #: One that was named or that stands for it, else all of the catalog's: the plan's order decides among them.
    checkpoints: tuple[Checkpoint, ...]
    shape: PoolShape
    #: What was taken for granted.
    notes: tuple[str, ...]


def question(args: argparse.Namespace, catalog: Catalog) -> Question:
    """UsageError where the flags make none."""
    variant = _named("--variant", args.variant, catalog.variants)
    precision = _named(
        "--precision", args.precision, sorted({each.precision for each in catalog.checkpoints})
    )
    gpu = fleets.accelerator_name(args.gpu, catalog)
    _refuse_contradictions(args, catalog.accelerators.get(gpu or ""))
    checkpoints, notes = _checkpoints(args.checkpoint, variant, precision, catalog)
    request = _request(args, variant, precision, catalog)
    return Question(
        variant=variant,
        precision=precision,
        gpus=args.gpus,
        request=replace(request, tuning=checkpoints[0].tuning),
        checkpoints=checkpoints,
        shape=_shape(args, gpu, catalog),
        notes=notes,
    )


def _named(flag: str, given: str, names: Iterable[str]) -> str:
    """As the catalog spells it."""
    known = {name.lower(): name for name in names}
    if given.lower() not in known:
        raise UsageError(f"{flag}: {given} is none of {', '.join(known.values())}")
    return known[given.lower()]


def _refuse_contradictions(args: argparse.Namespace, card: Accelerator | None) -> None:
    """Flags that cannot both be meant."""
    if args.sequences is not None and 1 <= args.sequences < args.concurrency:
        raise UsageError(
            f"--sequences: {args.sequences} requests run at once, and --concurrency asks for {args.concurrency}:"
            " raise the one or lower the other"
        )
    if None not in (args.sequences, args.batched_tokens) and args.batched_tokens < args.sequences:
        raise UsageError(
            f"--batched-tokens: the engine takes no fewer tokens a step ({args.batched_tokens}) than --sequences"
            f" ({args.sequences}): raise the one or lower the other"
        )
    if card is not None:
        _refuse_another_card(args, card)


def _refuse_another_card(args: argparse.Namespace, card: Accelerator) -> None:
    """A part of a card has less memory than the card, never more, and its capability."""
    capability = _capability(args.compute_capability)
    if capability not in (None, card.compute_capability):
        has = ".".join(map(str, card.compute_capability or ("none",)))
        raise UsageError(
            f"--compute-capability: {card.name} has {has}, not {args.compute_capability}: leave one of the two out"
        )
    whole = card.memory_mib or card.visible_mib or 0
    if args.gpu_memory_mib is not None and args.gpu_memory_mib * 100 > whole * (100 + TOLERANCE_PERCENT):
        raise UsageError(
            f"--gpu-memory-mib: {card.name} has {number(whole)} MiB, not {number(args.gpu_memory_mib)}:"
            " leave one of the two out"
        )


def _shape(args: argparse.Namespace, gpu: str | None, catalog: Catalog) -> PoolShape:
    """One node with so many of the GPU, as an AcceleratorPool would declare it."""
    known = gpu in catalog.accelerators
    if not gpu and args.gpu_memory_mib is None:
        raise UsageError("give --gpu NAME, or --gpu-memory-mib N with --compute-capability X.Y")
    if gpu and not known and args.gpu_memory_mib is None:
        raise UsageError(f"--gpu: {fleets.no_accelerator(gpu, catalog)}; else give --gpu-memory-mib")
    if not known and args.compute_capability is None:
        raise UsageError(
            "--gpu-memory-mib needs --compute-capability X.Y (https://developer.nvidia.com/cuda-gpus)"
        )
    least, most = _MEMORY_MIB
    if args.gpu_memory_mib is not None and not least <= args.gpu_memory_mib <= most:
        raise UsageError(
            f"--gpu-memory-mib: a GPU has {number(least)} to {number(most)} MiB, not {number(args.gpu_memory_mib)}"
        )
    declared = DeclaredPool(
        name="memory",
        accelerator=gpu or _UNNAMED,
        accelerators_per_node=args.gpus,
        node_selector=(("calculator", "true"),),
        memory_mib=args.gpu_memory_mib,
        compute_capability=_capability(args.compute_capability),
    )
    return pools((), (declared,), catalog)[0].shape


def _capability(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _CAPABILITY.fullmatch(text)
    if found is None:
        raise UsageError(f"--compute-capability: {text!r} is not like 8.9")
    return int(found[1]), int(found[2])


def _request(args: argparse.Namespace, variant: str, precision: str, catalog: Catalog) -> Request:
    """Through the models, so that the calculator takes exactly what a GemmaDeployment may ask."""
    kv_precision = _KV_BYTES[args.kv_bytes]
    if not 1 <= args.concurrency <= _MOST_CONCURRENCY:
        raise UsageError(
            f"--concurrency: 1 to {number(_MOST_CONCURRENCY)} requests, not {number(args.concurrency)}"
        )
    serving: dict[str, Any] = {"concurrency": args.concurrency}
    if kv_precision is not None:
        serving["kvCachePrecision"] = kv_precision.value
    if args.context is not None:
        serving["contextLength"] = _context(args.context, variant, catalog)
    if args.modalities:
        serving["modalities"] = _modalities(args.modalities)
    spec = {
        "model": {"variants": [variant], "precisions": [precision]},
        "serving": serving,
        "hardware": {"maxAcceleratorsPerReplica": args.gpus},
    }
    try:
        request = asked.from_object({"metadata": {"name": "memory"}, "spec": spec}).request
    except InvalidSpec as error:
        flag = next((flag for field, flag in _FLAGS.items() if error.field.startswith(field)), error.field)
        raise UsageError(f"{flag}: {error.message}") from error
    return replace(
        request,
        engine_version=_version(args.engine, catalog.engines[request.engine].default_version),
        engine_overrides=tuple(sorted(_given(args).items())),
        # Whether a version's published image starts is not what a calculator is asked.
        features=frozenset({NO_IMAGE}),
        # who names none asks of a server as people start it, which limits nothing
        every_tower=not args.modalities,
    )


def _context(given: int, variant: str, catalog: Catalog) -> int:
    most = catalog.variants[variant].max_context_tokens
    if not _LEAST_CONTEXT <= given <= most:
        raise UsageError(
            f"--context: {variant} takes {_LEAST_CONTEXT} to {number(most)} tokens, not {number(given)}"
        )
    return given


def _modalities(words: Iterable[str]) -> list[str]:
    """In any case and either way of listing; a name that is given twice is meant once."""
    known = [each.value for each in Modality]
    given = [name.strip().lower() for word in words for name in word.split(",")]
    for name in given:
        if name not in known:
            raise UsageError(f"--modalities: {name!r} is none of {', '.join(known)}")
    return list(dict.fromkeys(given))


def _version(text: str | None, default: str) -> str:
    """A release, as a GemmaDeployment names one: what leads to one (0.32.0rc1) was not looked at."""
    if text is not None and not ENGINE_VERSION.fullmatch(text):
        raise UsageError(f"--engine: not a version: {text!r}; write it like 0.32 or 0.32.0")
    return text if text is not None else default


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
    for switched_on, name in ((args.eager, needs.EAGER), (args.sleep_mode, outside.SLEEP_MODE)):
        if switched_on:
            given[name] = "true"
    return given


def _utilization(given: float) -> str:
    """A fraction as the engine takes it; what looks like a percentage is not guessed at, since 1 may be either."""
    if 2 <= given <= 100:
        raise UsageError(f"--utilization: {given:g} is no fraction of the card: write {given / 100:g}")
    points = given * 10_000
    if not 1 <= points <= 10_000 or abs(points - round(points)) > 1e-6:
        raise UsageError(f"--utilization: {given:g} is not from 0.0001 to 1 with at most four decimals")
    return f"{given:g}"


def _checkpoints(
    repo: str | None, variant: str, precision: str, catalog: Catalog
) -> tuple[tuple[Checkpoint, ...], tuple[str, ...]]:
    """The catalog's, else what its precision says; notes for what was taken for granted."""
    if repo is not None and not repo.strip():
        raise UsageError("--checkpoint: it is empty: write owner/name, or leave it out")
    if repo:
        known = next((c for c in catalog.checkpoints if c.repo.lower() == repo.lower()), None)
        if known is not None:
            if (known.variant, known.precision) != (variant, precision):
                raise UsageError(
                    f"--checkpoint: {known.repo} is {known.variant} {known.precision}, not {variant} {precision}"
                )
            return (known,), ()
    of_precision = [c for c in catalog.checkpoints if c.precision == precision]
    own = [c for c in of_precision if c.variant == variant]
    if own and not repo:
        return tuple(c for c in own if c.tuning == own[0].tuning), ()
    alike = (own or of_precision)[0]
    named = repo or f"the {precision} checkpoint of {variant}"
    note = f"{named} is not in the catalog: reckoned by its precision, as {alike.repo}"
    name = "given" if repo else STAND_IN
    return (replace(alike, name=name, variant=variant, repo=named, revision=None),), (note,)
