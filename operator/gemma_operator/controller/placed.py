"""Every deployment that has a plan, and how many replicas of it are wanted: what claims are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gemma_operator.backends.kubernetes import rollout
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.caches import Caches
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.observe import children_of, known_plan, replicas_of
from gemma_operator.controller.placement import Placed
from gemma_operator.hardware.pods import OVER
from gemma_operator.planner.values import Plan


def placed(
    objects: Iterable[Mapping[str, Any]],
    *,
    caches: Caches,
    inputs: InputsOf,
    plan_from_status: Callable[[Mapping[str, Any]], Plan | None],
) -> Iterator[Placed]:
    """A suspended deployment keeps its plan and claims nothing; neither does one that is being deleted."""
    for obj in objects:
        metadata = obj["metadata"]
        known = inputs(obj)
        if "deletionTimestamp" in metadata or known.deployment is None or known.request is None:
            continue
        spec = known.deployment.spec
        if spec.suspend or not spec.replicas:
            continue
        key = Key(metadata["namespace"], metadata["name"])
        children = children_of(caches, key)
        plan = known_plan(obj, children, plan_from_status)
        if plan is not None:
            living = [
                pod for pod in replicas_of(caches, key) if not pod.terminating and pod.phase not in OVER
            ]
            yield Placed(
                key,
                plan,
                spec.replicas + int(rollout.surges(children, living)),
                known.request.node_selector,
                made=len(living),
                gated=sum(1 for pod in living if pod.gated),
            )
