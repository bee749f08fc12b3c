"""Which pool a node belongs to: AcceleratorPools first, then what its labels say, else its own kind.

Every (node, resource) is in exactly one pool. An AcceleratorPool claims the nodes that its nodeSelector
matches *for its resource name*; of several that match, the first by name has the node and the others are
told that they overlap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gemma_operator.hardware import alibaba, clouds, gfd, gke, karpenter
from gemma_operator.hardware.cards import UNKNOWN
from gemma_operator.hardware.devices import Device
from gemma_operator.hardware.facts import Grouping, Membership, Purchase
from gemma_operator.hardware.records import PoolSource

#: In the order of the pool sources: a NodePool of Karpenter before the cloud's own group.
_GROUPING: Final[tuple[Grouping, ...]] = (karpenter, gke, clouds)
_PURCHASE: Final[tuple[Purchase, ...]] = (alibaba, gke, karpenter, clouds)

#: The label that stands for a group of nodes that nobody named: the first that the node has.
GROUP_LABELS: Final = (gfd.PRODUCT, gke.ACCELERATOR, "node.kubernetes.io/instance-type")

_UNFIT = re.compile(r"[^a-z0-9.-]+")


def of_labels(labels: Mapping[str, str]) -> Membership | None:
    """The node group that a platform's label names."""
    return next((found for dialect in _GROUPING if (found := dialect.membership(labels))), None)


def group_of(device: Device, labels: Mapping[str, str]) -> Membership:
    """A group by kind of device: `group/nvidia-l4`, or by product where the catalog does not know it."""
    name = device.accelerator
    if name == UNKNOWN and device.product:
        name = _UNFIT.sub("-", device.product.lower()).strip("-.") or UNKNOWN
    of_kind = (*GROUP_LABELS, f"{device.resource}.product")  # the last: a MIG profile's own
    label = next((label for label in of_kind if labels.get(label)), "")
    return Membership(source=PoolSource.GROUP, name=name, label=label)


def spot(labels: Mapping[str, str]) -> bool | None:
    """Whether the node may be taken away at any time; None where no label tells."""
    answers = [dialect.spot(labels) for dialect in _PURCHASE]
    if True in answers:
        return True
    return False if False in answers else None
