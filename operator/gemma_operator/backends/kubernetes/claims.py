"""What a PersistentVolumeClaim allows, read before anything is planned or made. Pure.

A volume that one node or one pod may mount decides how many replicas there can be and how one generation follows
another; found out by a pod that never starts, it would cost a rollout. Access modes: Kubernetes' own words, "the
volume can be mounted as read-write by a single node" (ReadWriteOnce), "by a single Pod" (ReadWriteOncePod), "by many
nodes" (ReadOnlyMany, ReadWriteMany): kubernetes.io docs/concepts/storage/persistent-volumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gemma_operator.api.conditions import Reason
from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.hardware import quantities

READ_WRITE_ONCE: Final = "ReadWriteOnce"
READ_WRITE_ONCE_POD: Final = "ReadWriteOncePod"
READ_ONLY_MANY: Final = "ReadOnlyMany"
READ_WRITE_MANY: Final = "ReadWriteMany"
_GIB: Final = 1024**3


class Use(Enum):
    """What a deployment wants of a claim."""

    #: Weights are brought into it and read from it.
    CACHE = "weights.cache.claimName"
    #: Weights lie in it and are only read.
    SOURCE = "model.source.persistentVolumeClaim.claimName"


@dataclass(frozen=True, slots=True)
class ClaimRecord:
    """What is kept of a PersistentVolumeClaim."""

    namespace: str
    name: str
    access_modes: tuple[str, ...]
    phase: str
    #: As bound, else as asked for; None where neither can be read.
    size_bytes: int | None
    block: bool
    terminating: bool


@dataclass(frozen=True, slots=True)
class ClaimTrouble:
    """Why a claim cannot be used. `final`: nothing changes until the user does something."""

    reason: Reason
    message: str
    final: bool


def cut_claim(obj: Mapping[str, Any]) -> ClaimRecord:
    """Cut from the API's JSON. A bound claim's modes are the volume's, which may be more than was asked for."""
    metadata, spec, status = obj["metadata"], obj.get("spec", {}), obj.get("status", {})
    asked = spec.get("resources", {}).get("requests", {}).get("storage")
    return ClaimRecord(
        namespace=metadata["namespace"],
        name=metadata["name"],
        access_modes=tuple(status.get("accessModes") or spec.get("accessModes") or ()),
        phase=status.get("phase", "Pending"),
        size_bytes=_bytes(status.get("capacity", {}).get("storage", asked)),
        block=spec.get("volumeMode") == "Block",
        terminating="deletionTimestamp" in metadata,
    )


def claims_of(spec: GemmaDeploymentSpec) -> tuple[tuple[str, Use], ...]:
    """The claims that a spec names, and what for."""
    named = []
    if spec.weights.cache.claim_name:
        named.append((spec.weights.cache.claim_name, Use.CACHE))
    source = spec.model.source.persistent_volume_claim if spec.model.source else None
    if source:
        named.append((source.claim_name, Use.SOURCE))
    return tuple(named)


def claim_names(spec: Mapping[str, Any]) -> Iterator[str]:
    """The same from a spec as it is stored, readable or not: whom a change of a claim concerns."""
    weights, model = spec.get("weights") or {}, spec.get("model") or {}
    source = (model.get("source") or {}).get("persistentVolumeClaim") or {}
    for name in ((weights.get("cache") or {}).get("claimName"), source.get("claimName")):
        if name:
            yield name


def one_node(claim: ClaimRecord, use: Use) -> bool:
    """Whether only one node, or only one pod, may mount it for that use."""
    if READ_WRITE_ONCE_POD in claim.access_modes:
        return True
    many = {READ_WRITE_MANY} if use is Use.CACHE else {READ_WRITE_MANY, READ_ONLY_MANY}
    return many.isdisjoint(claim.access_modes)


def trouble(
    spec: GemmaDeploymentSpec, known: Mapping[str, ClaimRecord], *, needed_bytes: int
) -> ClaimTrouble | None:
    """The first thing that keeps a named claim from being used; `needed_bytes` 0 where nothing is planned yet."""
    for name, use in claims_of(spec):
        found = (
            _missing(name, use) if name not in known else _unsuitable(known[name], use, spec, needed_bytes)
        )
        if found is not None:
            return found
    return None


def _missing(name: str, use: Use) -> ClaimTrouble:
    return ClaimTrouble(
        Reason.CLAIM_MISSING,
        f"there is no PersistentVolumeClaim {name} in this namespace: create it, or name another in {use.value}",
        final=False,  # whoever applies both at once may apply this one first
    )


def _unsuitable(
    claim: ClaimRecord, use: Use, spec: GemmaDeploymentSpec, needed_bytes: int
) -> ClaimTrouble | None:
    why = _why_unsuitable(claim, use, spec, needed_bytes)
    return ClaimTrouble(Reason.CLAIM_UNSUITABLE, f"claim {claim.name} {why}", final=True) if why else None


def _why_unsuitable(claim: ClaimRecord, use: Use, spec: GemmaDeploymentSpec, needed_bytes: int) -> str:
    modes = ", ".join(claim.access_modes) or "no access mode"
    if claim.terminating:
        return f"is being deleted: name another in {use.value}"
    if claim.phase == "Lost":
        return f"has lost its volume: restore it, or name another in {use.value}"
    if claim.block:
        return "has volumeMode Block: weights are files, so give it volumeMode Filesystem"
    if use is Use.CACHE and set(claim.access_modes) == {READ_ONLY_MANY}:
        return f"is {modes}, and weights are to be written to it: use a ReadWriteMany claim"
    if one_node(claim, use) and spec.replicas > 1:
        return (
            f"is {modes}, which one {'pod' if READ_WRITE_ONCE_POD in claim.access_modes else 'node'} may mount, and "
            f"replicas is {spec.replicas}: set replicas to 1, or use a claim that many nodes may mount "
            f"({READ_WRITE_MANY}{'' if use is Use.CACHE else f' or {READ_ONLY_MANY}'})"
        )
    if use is Use.CACHE and claim.size_bytes is not None and claim.size_bytes < needed_bytes:
        return (
            f"holds {claim.size_bytes / _GIB:.1f} GiB and the weights are {needed_bytes / _GIB:.1f} GiB: "
            "use a larger claim, or allow a smaller variant or precision"
        )
    return ""


def _bytes(quantity: object) -> int | None:
    try:
        return None if quantity is None else quantities.whole_down(str(quantity))
    except quantities.InvalidQuantityError:
        return None
