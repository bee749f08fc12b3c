"""Why a pool is out of the question for a request, whatever would be served there.

An ordered list of small rules; the first that has something to say decides. What the user did not allow
comes before what the hardware cannot do, so that a message never asks for a change that would not help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gemma_operator.catalog.records import Catalog
from gemma_operator.hardware import tolerations
from gemma_operator.hardware.records import PoolShape, Sharing
from gemma_operator.planner import compatibility
from gemma_operator.planner.values import Code, Request

Refusal = tuple[Code, Mapping[str, int | str]]
Rule = Callable[[Request, PoolShape, Catalog], Refusal | None]


def refusal(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """The first rule that refuses the pool."""
    return next((said for rule in RULES if (said := rule(request, shape, catalog)) is not None), None)


def seen_of(shape: PoolShape) -> tuple[object, ...]:
    """All that a memory sum reads of a shape: candidates on shapes that are equal here share their verdict."""
    return (
        shape.accelerator,
        shape.product if not shape.verified else "",
        shape.memory_mib,
        shape.compute_capability,
        shape.sharing,
        shape.clients_per_device,
        shape.verified,
    )


def pool_not_listed(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """`hardware.pools`: `name` stands for every pool of that name, `source/name` for one."""
    del catalog
    names = {shape.id.name, f"{shape.id.source.value}/{shape.id.name}"}
    if request.pools is None or not names.isdisjoint(request.pools):
        return None
    return Code.POOL_NOT_ALLOWED, {"message": f"not in hardware.pools ({', '.join(request.pools)})"}


def pool_of_others(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """The operator's `poolAccess` keeps it for other namespaces; whose they are is nobody else's business."""
    del catalog
    if shape.namespaces is None or request.namespace in shape.namespaces:
        return None
    return Code.POOL_NOT_ALLOWED, {
        "message": f"the operator's poolAccess keeps it for other namespaces than {request.namespace}"
    }


def accelerator_not_listed(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """`hardware.accelerators`."""
    del catalog
    if request.accelerators is None or shape.accelerator in request.accelerators:
        return None
    return Code.ACCELERATOR_NOT_ALLOWED, {
        "accelerator": shape.accelerator,
        "accelerators": ", ".join(request.accelerators),
    }


def refused_by_reader(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """What reading the nodes found: an invalid MIG layout, tickets without a card behind them."""
    del request, catalog
    return (Code.POOL_REFUSED, {"message": shape.refused}) if shape.refused else None


def accelerator_refused(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """Chips that are recognised only to be refused."""
    del request
    card = catalog.accelerators.get(shape.accelerator)
    if card is None or not card.refused:
        return None
    return Code.POOL_REFUSED, {"message": card.refused}


def driver_too_old(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """The engine's image needs a driver of its CUDA version."""
    message = compatibility.driver_refusal(request, shape, catalog)
    return None if message is None else (Code.INCOMPATIBLE, {"message": message})


def spot(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """A node of unknown kind counts as not spot."""
    del catalog
    if request.spot == "Forbidden" and shape.spot is True:
        return Code.SPOT, {"spot": "Forbidden", "message": "its nodes are spot"}
    if request.spot == "Required" and shape.spot is not True:
        return Code.SPOT, {"spot": "Required", "message": "its nodes are not known to be spot"}
    return None


def shared(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """Time-slicing and MPS need the user's word; a MIG slice is a device of its own."""
    del catalog
    if request.shared_accelerators or shape.sharing in (Sharing.NONE, Sharing.MIG):
        return None
    return Code.SHARED, {"sharing": shape.sharing.value, "clients": shape.clients_per_device}


def tainted(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """A taint that nobody tolerates."""
    del catalog
    tolerated = tolerations.of_replica(users=request.tolerations, pools=shape.tolerations, spot=request.spot)
    left = tolerations.untolerated(shape.taints, tolerated)
    if not left:
        return None
    taint = left[0]
    value = f"={taint.value}" if taint.value else ""
    return Code.TAINTED, {"taint": f"{taint.key}{value}:{taint.effect}"}


def without_accelerators(request: Request, shape: PoolShape, catalog: Catalog) -> Refusal | None:
    """A node that promises accelerators and has none."""
    del request, catalog
    if shape.accelerators_per_node >= 1:
        return None
    return Code.NODE_TOO_SMALL, {"message": f"a node has 0 of {shape.id.resource_name}"}


RULES: Final[tuple[Rule, ...]] = (
    pool_not_listed,
    pool_of_others,
    accelerator_not_listed,
    refused_by_reader,
    accelerator_refused,
    spot,
    shared,
    tainted,
    driver_too_old,
    without_accelerators,
)
