"""The labels by which a pod lands on one shape and on no other.

As few as tell it apart: a label that is not needed would keep the pod off nodes that join the shape later.
The pool's own label comes first; of a group that nobody named, the label of its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gemma_operator.hardware import clouds, gfd, gke, karpenter
from gemma_operator.hardware.records import NodeRecord

#: What may tell neighbours apart, in this order. Whether a node may be taken away comes before its kind:
#: a deployment that forbids spot must not land on spot nodes of the same pool.
TELLING: Final = (
    gfd.PRODUCT,
    gfd.MEMORY,
    "node.kubernetes.io/instance-type",
    gke.ACCELERATOR,
    *karpenter.GPU_LABELS,
    karpenter.CAPACITY_TYPE,
    clouds.EKS_CAPACITY,
    gke.PROVISIONING,
    "kubernetes.io/arch",
)


def selector(
    base: Mapping[str, str], *, members: Sequence[NodeRecord], others: Iterable[NodeRecord]
) -> tuple[tuple[str, str], ...]:
    """`base` and the fewest labels of `TELLING` that shut out `others`, as far as labels can."""
    chosen = dict(base)
    rivals = [node for node in others if _matches(node, chosen)]
    for label in TELLING:
        if not rivals:
            break
        value = shared_value(label, members)
        if value is None:
            continue
        left = [node for node in rivals if node.labels.get(label) == value]
        if len(left) < len(rivals):
            chosen[label] = value
            rivals = left
    return tuple(sorted(chosen.items()))


def shared_value(label: str, members: Sequence[NodeRecord]) -> str | None:
    """The one value that all members have; None where they differ or lack it."""
    values = {node.labels.get(label) for node in members}
    return values.pop() if len(values) == 1 else None


def _matches(node: NodeRecord, selector: Mapping[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in selector.items())
