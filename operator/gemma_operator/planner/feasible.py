"""Which candidates can serve a request at all, and why the others cannot.

In: a request, pool shapes, the catalog. Out: a verdict on every candidate, as codes and numbers. Room is
not looked at here: shapes change a few times a day, room every second, and keeping them apart lets the
verdicts be cached.

A candidate is a checkpoint on 1, 2, 4 or 8 devices of one node. What is wrong with a pool or with a variant
as such is said once, not once a candidate. The same input gives the same answer, whatever the order of the
shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from gemma_operator.catalog.records import Catalog, Checkpoint, Variant
from gemma_operator.hardware.records import PoolShape, Sharing
from gemma_operator.planner import own_weights
from gemma_operator.planner import shapes as shape_rules
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.values import Candidate, Code, Feasible, Fit, Rejection, Request
from gemma_operator.planner.vllm import versions

TENSOR_PARALLEL: Final = (1, 2, 4, 8)
KUBERNETES: Final = "Kubernetes"
#: So many names are told for one that is not known.
NEAREST: Final = 3


@dataclass(frozen=True, slots=True)
class _Option:
    """What could be served, before any pool is looked at."""

    variant: Variant
    precision: str
    checkpoint: Checkpoint


def feasible(request: Request, shapes: Sequence[PoolShape], catalog: Catalog) -> Feasible:
    """The verdict on every candidate."""
    fits: list[Fit] = []
    rejections = list(_other_backends(request, catalog))
    if KUBERNETES in request.backends:
        options, without = _options(request, catalog)
        rejections += without
        fitting = Fitting(request, catalog)
        for shape in sorted(shapes, key=lambda shape: shape.id.sort_key):
            refused = shape_rules.refusal(request, shape, catalog)
            if refused is not None:
                rejections += _once(options[:1], shape, *refused)
                continue
            for candidate in _candidates(options, request, shape):
                verdict = _verdict(candidate, request, shape, fitting)
                if isinstance(verdict, Fit):
                    fits.append(verdict)
                else:
                    rejections.append(verdict)
    return Feasible(fits=tuple(fits), rejections=tuple(rejections))


def unknown_accelerators(request: Request, catalog: Catalog) -> Mapping[str, tuple[str, ...]]:
    """Names of `hardware.accelerators` that no card has, each with the nearest that one has."""
    return {
        name: nearest_accelerators(name, catalog)
        for name in request.accelerators or ()
        if name not in catalog.accelerators
    }


def nearest_accelerators(name: str, catalog: Catalog) -> tuple[str, ...]:
    """Names that begin with what was written (`nvidia-h100`) or hold it (`h100`), else those that look alike."""
    usable = [card.name for card in catalog.accelerators.values() if not card.refused]
    written = name.lower()
    beginning = [each for each in usable if each.startswith(written)]
    holding = [each for each in usable if written in each]
    alike = get_close_matches(written, usable, n=NEAREST, cutoff=0.6)
    return tuple(dict.fromkeys(beginning or holding or alike))[:NEAREST]


def _other_backends(request: Request, catalog: Catalog) -> Iterator[Rejection]:
    """Backends that this planner has no candidates for: named, never passed over."""
    variant = next((catalog.variants[name] for name in request.variants if name in catalog.variants), None)
    for backend in request.backends:
        if backend != KUBERNETES and variant is not None:
            candidate = Candidate(
                variant=variant,
                checkpoint=None,
                precision=request.precisions[0],
                shape=None,
                tensor_parallel=1,
                backend=backend,
            )
            yield Rejection(candidate, Code.BACKEND_NOT_AVAILABLE, {"backend": backend})


def _options(request: Request, catalog: Catalog) -> tuple[list[_Option], list[Rejection]]:
    """Checkpoints in the user's order, and the variants and precisions that have none."""
    options: list[_Option] = []
    rejections: list[Rejection] = []
    for name in request.variants:
        variant = catalog.variants.get(name)
        if variant is None:
            continue
        refused = _variant_refusal(request, variant)
        if refused is not None:
            rejections.append(_without_pool(variant, request.precisions[0], None, *refused))
            continue
        for precision in request.precisions:
            found = _checkpoints(request, catalog, variant=name, precision=precision)
            if not found:
                details: dict[str, int | str] = {"tuning": request.tuning}
                rejections.append(_without_pool(variant, precision, None, Code.NO_CHECKPOINT, details))
            for checkpoint in found:
                missing = sorted(request.modalities - checkpoint.modalities)
                if missing:
                    details = {"modalities": ", ".join(missing), "checkpoint": checkpoint.repo}
                    rejections.append(
                        _without_pool(variant, precision, checkpoint, Code.MODALITY_MISSING, details)
                    )
                else:
                    options.append(_Option(variant, precision, checkpoint))
    return options, rejections


def _checkpoints(request: Request, catalog: Catalog, *, variant: str, precision: str) -> list[Checkpoint]:
    published = [
        each for each in catalog.checkpoints if (each.variant, each.precision) == (variant, precision)
    ]
    if request.own_weights is not None:
        return own_weights.stand_in(request.own_weights, published, tuning=request.tuning)
    return [checkpoint for checkpoint in published if checkpoint.tuning == request.tuning]


def _variant_refusal(request: Request, variant: Variant) -> tuple[Code, Mapping[str, int | str]] | None:
    missing = sorted(request.modalities - variant.modalities)
    if missing:
        return Code.MODALITY_MISSING, {"modalities": ", ".join(missing)}
    if request.context_length is not None and request.context_length > variant.max_context_tokens:
        return Code.CONTEXT_TOO_LONG, {
            "context_length": request.context_length,
            "max_context_length": variant.max_context_tokens,
        }
    return None


def _candidates(options: Iterable[_Option], request: Request, shape: PoolShape) -> Iterator[Candidate]:
    """Devices of one node only; slices and shared cards have no link between them."""
    most = min(request.max_accelerators, shape.accelerators_per_node)
    if shape.sharing is not Sharing.NONE:
        most = min(most, 1)
    for option in options:
        for gpus in TENSOR_PARALLEL:
            if gpus <= most:
                yield Candidate(
                    variant=option.variant,
                    checkpoint=option.checkpoint,
                    precision=option.precision,
                    shape=shape,
                    tensor_parallel=gpus,
                )


def _verdict(candidate: Candidate, request: Request, shape: PoolShape, fitting: Fitting) -> Fit | Rejection:
    message = fitting.incompatible(candidate, shape) or _checkpoint_refused(candidate, request, shape)
    if message is not None:
        return Rejection(candidate, Code.INCOMPATIBLE, {"message": message})
    verdict = fitting.fit(candidate)
    if request.own_weights is not None and isinstance(verdict, Fit):
        return replace(verdict, unverified=(*verdict.unverified, own_weights.UNVERIFIED))
    return verdict


def _checkpoint_refused(candidate: Candidate, request: Request, shape: PoolShape) -> str | None:
    """What the checkpoint itself asks for."""
    checkpoint, gpus = candidate.checkpoint, candidate.tensor_parallel
    assert checkpoint is not None
    heads = candidate.variant.query_heads
    if gpus not in checkpoint.tensor_parallel or heads % gpus:
        able = [str(each) for each in checkpoint.tensor_parallel if heads % each == 0]
        return f"{checkpoint.repo} does not divide by {gpus} GPUs, only by {', '.join(able)}"
    least = checkpoint.minimum_engine_versions.get(request.engine)
    if least is not None and versions.parse(request.engine_version) < versions.parse(least):
        return f"{checkpoint.repo} needs {request.engine} {least}, and {request.engine_version} is asked for"
    capability = shape.compute_capability
    if capability is not None and capability < checkpoint.minimum_compute_capability:
        needed, has = (
            ".".join(map(str, each)) for each in (checkpoint.minimum_compute_capability, capability)
        )
        return f"{checkpoint.repo} needs compute capability {needed}, {shape.accelerator} has {has}"
    return None


def _once(
    options: Sequence[_Option], shape: PoolShape, code: Code, details: Mapping[str, int | str]
) -> Iterator[Rejection]:
    """What is wrong with a pool, said of the first option."""
    for option in options:
        candidate = Candidate(option.variant, option.checkpoint, option.precision, shape, 1)
        yield Rejection(candidate, code, details)


def _without_pool(
    variant: Variant,
    precision: str,
    checkpoint: Checkpoint | None,
    code: Code,
    details: Mapping[str, int | str],
) -> Rejection:
    return Rejection(Candidate(variant, checkpoint, precision, None, 1), code, details)
