"""Single verdicts in words: why a candidate cannot serve, and why one that can was not taken.

A message says what stands in the way in numbers. Nothing here holds a figure that moves by itself (free
GPUs, ages): these texts stand in the status, and the status is not written at rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from gemma_operator.hardware.records import PoolShape, Sharing
from gemma_operator.planner.choice import Choice, Ranked
from gemma_operator.planner.steps import contexts
from gemma_operator.planner.values import Candidate, Code, Fit, Rejection
from gemma_operator.planner.worth import MIB, node_price_share

MAX_MESSAGE: Final = 256
_SMALLEST_MONEY: Final = Decimal("0.000001")
TIMES: Final = "\u00d7"
_Details = Mapping[str, int | str]


def rejection(rejected: Rejection) -> str:
    """Why a candidate cannot serve."""
    return shortened(_SAID[rejected.code](rejected.candidate, rejected.details), MAX_MESSAGE)


def not_taken(other: Ranked, choice: Choice) -> tuple[Code, str]:
    """Why a candidate that fits is not the plan, by what it lost; while waiting, why it waits too."""
    if other.lost_by == "room":
        several = f"{choice.replicas} replicas" if choice.replicas > 1 else "a replica"
        message = f"fits, but its pool has no room for {several} of {_devices(other.fit.candidate)}"
        return Code.NO_ROOM, shortened(message, MAX_MESSAGE)
    return Code.LATER_IN_ORDER, shortened(f"fits; {_order_words(other, choice)}", MAX_MESSAGE)


def shortened(text: str, most: int) -> str:
    """Cut at a word, visibly."""
    if len(text) <= most:
        return text
    return text[: most - 1].rsplit(" ", 1)[0].rstrip(" ,;:") + "\u2026"


def _order_words(other: Ranked, choice: Choice) -> str:
    taken = choice.fit
    assert taken is not None
    candidate, best = other.fit.candidate, taken.candidate
    left, best_left = gib(other.headroom_mib), gib(choice.headroom_mib)
    words: dict[str, str] = {
        "backend": f"{best.backend} comes before {candidate.backend} in placement.backends",
        "variant": f"{best.variant.name} comes before {candidate.variant.name} in model.variants",
        "precision": f"{best.precision} comes before {candidate.precision} in model.precisions",
        "context": f"with {number(other.fit.settings.context_length)} tokens of context, "
        f"the plan has {number(taken.settings.context_length)}",
        "tight": f"it leaves {left} of each GPU, less than the {_band(other.fit)} band, the plan {best_left}"
        if other.headroom_mib < other.fit.memory.band_bytes // MIB
        else "what lies outside --gpu-memory-utilization may not fit, and the engine may refuse to start",
        "price": _costlier(other.fit, taken),
        "spot": "its nodes are spot and those of the plan are not known to be",
        "headroom": f"it leaves {left} of each GPU, the plan {best_left}",
        "checkpoint": f"{_repo(best)} comes before {_repo(candidate)} in the catalog",
        "tensorParallel": f"it takes {candidate.tensor_parallel} GPUs, the plan {best.tensor_parallel}",
    }
    return words.get(other.lost_by, f"{_pool(best)} comes before {_pool(candidate)} by name")


def _band(fit: Fit) -> str:
    return gib(fit.memory.band_bytes // MIB)


def _repo(candidate: Candidate) -> str:
    return candidate.checkpoint.repo if candidate.checkpoint else candidate.precision


def _pool(candidate: Candidate) -> str:
    """With its shape, since one node group may have several."""
    pool = candidate.shape.id if candidate.shape else None
    return f"{pool.source.value}/{pool.name}@{pool.shape}" if pool else candidate.backend


def _costlier(other: Fit, taken: Fit) -> str:
    """In money where both have a price that says so; else number and size of the GPUs stand for it."""
    here, best = node_price_share(other), node_price_share(taken)
    devices, others = _devices(other.candidate), _devices(taken.candidate)
    if here and best and here.currency == best.currency and here.amount > best.amount:
        return f"{devices} cost {money(here.amount)} {here.currency} an hour, the plan {money(best.amount)}"
    if other.candidate.tensor_parallel == taken.candidate.tensor_parallel:
        devices, others = (f"{said} ({_memory(fit)})" for said, fit in ((devices, other), (others, taken)))
    return f"{devices} is more GPU than {others}"


def _memory(fit: Fit) -> str:
    shape = fit.candidate.shape
    return gib(shape.memory_mib) if shape and shape.memory_mib else "of unknown memory"


def _weights_too_large(candidate: Candidate, details: _Details) -> str:
    return (
        f"{what(candidate)} needs {gib(_int(details, 'weights_mib'))} of weights"
        f" and {gib(_int(details, 'overhead_mib'))} beside them{_each(candidate)};"
        f" {_card(candidate)} offers {gib(_int(details, 'usable_mib'))}"
    )


def _kv_cache_too_small(candidate: Candidate, details: _Details) -> str:
    asked = load(_int(details, "context_length"), _int(details, "concurrency"))
    return (
        f"{what(candidate)} leaves {gib(_int(details, 'available_mib'))} for the KV cache{_each(candidate)} of"
        f" {gib(_int(details, 'usable_mib'))}; {asked} need {gib(_int(details, 'needed_mib'))}"
        f" ({details['kv_cache_precision']}, {number(_int(details, 'batched_tokens'))} batched)"
    )


def _spot(candidate: Candidate, details: _Details) -> str:
    del candidate
    return f"{details['message']}, and hardware.spot is {details['spot']}"


def _shared(candidate: Candidate, details: _Details) -> str:
    del candidate
    shared = f"{details['clients']} clients share a GPU ({details['sharing']})"
    return f"{shared}: hardware.sharedAccelerators is Forbidden"


def _message(candidate: Candidate, details: _Details) -> str:
    del candidate
    return str(details["message"])


#: NoRoom and LaterInOrder are said of what fits: see `not_taken`.
_SAID: Final[Mapping[Code, Callable[[Candidate, _Details], str]]] = {
    Code.NO_CHECKPOINT: lambda c, d: (
        f"no {c.precision} checkpoint of {c.variant.name} ({d['tuning']}) is known"
    ),
    Code.CONTEXT_TOO_LONG: lambda c, d: (
        f"{c.variant.name} takes at most {number(d['max_context_length'])} tokens, "
        f"serving.contextLength is {number(d['context_length'])}"
    ),
    Code.MODALITY_MISSING: lambda c, d: f"{d.get('checkpoint', c.variant.name)} takes no {d['modalities']}",
    Code.UNKNOWN_MEMORY: lambda c, d: (
        f"nothing tells the memory of {d['accelerator']}: declare it in an AcceleratorPool"
    ),
    Code.POOL_REFUSED: _message,
    Code.POOL_NOT_ALLOWED: _message,
    Code.ACCELERATOR_NOT_ALLOWED: lambda c, d: (
        f"{d['accelerator']} is not in hardware.accelerators ({d['accelerators']})"
    ),
    Code.SPOT: _spot,
    Code.SHARED: _shared,
    Code.TAINTED: lambda c, d: (
        f"the taint {d['taint']} is not tolerated: add a toleration to hardware.tolerations"
    ),
    Code.INCOMPATIBLE: _message,
    Code.NODE_TOO_SMALL: _message,
    Code.WEIGHTS_TOO_LARGE: _weights_too_large,
    Code.KV_CACHE_TOO_SMALL: _kv_cache_too_small,
    Code.BACKEND_NOT_AVAILABLE: lambda c, d: f"{d['backend']} is not there yet in this version",
}


def miss(rejected: Rejection) -> str:
    """Why a candidate cannot serve, with the candidate and its place said once."""
    candidate = rejected.candidate
    place = f" on {where(candidate)}" if candidate.shape is not None else ""
    said = rejection(rejected)
    for subject in (what(candidate), candidate.variant.name):
        if said.startswith(f"{subject} "):
            return f"{what(candidate)}{place} {said.removeprefix(f'{subject} ')}"
    return f"{what(candidate)}{place}: {said}"


def what(candidate: Candidate) -> str:
    """Variant and precision."""
    return f"{candidate.variant.name} {candidate.precision}"


def where(candidate: Candidate) -> str:
    """Devices and pool."""
    shape = candidate.shape
    if shape is None:
        return candidate.backend
    return f"{_devices(candidate)} of {shape.id.source.value}/{shape.id.name}"


def _devices(candidate: Candidate) -> str:
    return f"{candidate.tensor_parallel} {TIMES} {_offered(candidate)}"


def _card(candidate: Candidate) -> str:
    return with_article(_offered(candidate))


def with_article(name: str) -> str:
    """People say "an L4" and "an A100", but "a mig-3g.40gb slice"."""
    return f"an {name}" if name[:1].lower() in "aeion" else f"a {name}"


def _offered(candidate: Candidate) -> str:
    """What one device is: a whole card, a slice of one, or a share."""
    shape, name = candidate.shape, _card_name(candidate)
    if shape is None or shape.sharing is Sharing.NONE:
        return name
    whole = with_article(name)
    if shape.sharing is Sharing.MIG:
        return f"{_profile(shape)} slice of {whole}"
    return f"share (1 of {shape.clients_per_device}, {shape.sharing.value}) of {whole}"


def _profile(shape: PoolShape) -> str:
    """`mig-3g.40gb`: in the resource's name with the mixed strategy, in the product's with the single one."""
    _, mixed, profile = shape.id.resource_name.partition("/mig-")
    if not mixed:
        profile = shape.product.partition("-MIG-")[2]
    return f"mig-{profile}" if profile else "MIG"


def _card_name(candidate: Candidate) -> str:
    shape = candidate.shape
    if shape is None:
        return "GPU"
    unknown = shape.accelerator == "unknown"
    return (shape.product or "GPU of unknown model") if unknown else shape.accelerator


def _each(candidate: Candidate) -> str:
    gpus = candidate.tensor_parallel
    return "" if gpus == 1 else f" on each of {gpus} GPUs"


def load(context_length: int | None, concurrency: int) -> str:
    """What is held at once; the least that is tried where the context was left open."""
    least = min(contexts(context_length))
    context = f"at least {least:,} tokens" if context_length is None else f"{number(least)} tokens"
    return f"{context} {TIMES} {concurrency}"


def gib(mib: int) -> str:
    """A size for people."""
    return f"{mib / 1024:.1f} GiB"


def money(amount: Decimal) -> str:
    """A decimal number without exponent, at most six places."""
    rounded = amount.quantize(_SMALLEST_MONEY, rounding=ROUND_HALF_UP)
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(value: int | str) -> str:
    """Thousands are set apart from 10,000 on."""
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _int(details: _Details, key: str) -> int:
    return int(details[key])
