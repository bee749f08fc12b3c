"""Which fields have no part behind them yet. They are answered with `NotImplemented`, never ignored.

A default never stands here, whether written out or left away; an entry goes when its part comes.
"""

from collections.abc import Callable
from typing import Final

from gemma_operator.api.deployment import GemmaDeploymentSpec

NOT_IMPLEMENTED: Final[dict[str, Callable[[GemmaDeploymentSpec], bool]]] = {
    "model.source.image": lambda spec: spec.model.source is not None and spec.model.source.image is not None,
    "model.source.objectStore": lambda spec: (
        spec.model.source is not None and spec.model.source.object_store is not None
    ),
    "model.adapters": lambda spec: bool(spec.model.adapters),
    "access.gateway": lambda spec: spec.access is not None and spec.access.gateway is not None,
    "vertex": lambda spec: spec.vertex is not None or spec.on_vertex,
    "autoscaling": lambda spec: spec.autoscaling is not None,
}


def not_implemented_fields(spec: GemmaDeploymentSpec) -> tuple[str, ...]:
    """Fields that this spec uses and nothing stands behind, as the yaml spells them below `spec`."""
    return tuple(field for field, used in NOT_IMPLEMENTED.items() if used(spec))
