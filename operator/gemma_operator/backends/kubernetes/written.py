"""What the user had written when a Deployment was rendered, kept in annotations of it: was the spec changed since?

The hash of the planner's inputs does not tell: half of the spec never reaches the planner. Nor does the status: it
is said before an apply succeeds and may be lost, and a Deployment comes back from a backup with its annotations. They
stand beside the pod template and not in it, so they roll nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gemma_operator.api import names
from gemma_operator.api.deployment import GemmaDeploymentSpec
from gemma_operator.backends.kubernetes.ownership import digest
from gemma_operator.backends.kubernetes.snapshot import Child

#: What the server fills in where nobody wrote it. The first is kept beside the hash, so that a change of it alone is
#: seen as one; while the second is true there is no Deployment.
APART: Final = frozenset({"replicas", "suspend"})


def as_annotations(spec: GemmaDeploymentSpec) -> Mapping[str, str]:
    """What a Deployment carries that is rendered from this spec."""
    return {names.SPEC_HASH: _spec_hash(spec), **replicas_annotation(spec)}


def replicas_annotation(spec: GemmaDeploymentSpec) -> Mapping[str, str]:
    """The part of it that a Deployment carries which was scaled alone."""
    return {names.SPEC_REPLICAS: str(spec.replicas)}


def stands(child: Child, spec: GemmaDeploymentSpec) -> bool:
    """The spec says what it said when the child was rendered, whatever it says of replicas."""
    return child.annotations.get(names.SPEC_HASH) == _spec_hash(spec)


def replicas_stand(child: Child, spec: GemmaDeploymentSpec) -> bool:
    """The spec wants as many replicas as when the child was rendered or scaled; somebody else may have scaled it."""
    return replicas_annotation(spec).items() <= child.annotations.items()


def _spec_hash(spec: GemmaDeploymentSpec) -> str:
    """Of what was written and nothing else: a later version's other default, or a new one, is no edit."""
    return digest(spec.model_dump(mode="json", exclude_unset=True, exclude=set(APART)))
