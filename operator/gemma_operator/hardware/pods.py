"""A Pod cut down to what it takes from its node.

Kubernetes' own sum (k8s.io/component-helpers/resource, PodRequests): containers run together with the
restartable init containers (sidecars) that were started before them; an ordinary init container runs with
the sidecars before it; the pod needs the largest of these moments. What the pod itself asks for as a whole
(CPU, memory, huge pages) stands in their place, and its overhead comes on top.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from gemma_operator.api.names import DEPLOYMENT_LABEL
from gemma_operator.hardware import quantities
from gemma_operator.hardware.quantities import InvalidQuantityError
from gemma_operator.hardware.records import PodRecord

#: What a pod may ask for as a whole (KEP-2837).
OF_THE_WHOLE: Final = ("cpu", "memory", "hugepages-")
OVER: Final = frozenset({"Succeeded", "Failed"})


def pod_record(obj: Mapping[str, Any]) -> PodRecord | None:
    """The record of a Pod that holds something of a node; None while unbound and when it is over."""
    metadata = obj.get("metadata") or {}
    spec = obj.get("spec") or {}
    node = spec.get("nodeName")
    if not node or (obj.get("status") or {}).get("phase") in OVER:
        return None
    namespace = metadata.get("namespace") or "default"
    deployment = (metadata.get("labels") or {}).get(DEPLOYMENT_LABEL)
    return PodRecord(
        uid=metadata.get("uid") or f"{namespace}/{metadata.get('name', '')}",
        namespace=namespace,
        node=sys.intern(node),
        requests=pod_requests(spec),
        owner=(namespace, deployment) if deployment else None,
        leaving=bool(metadata.get("deletionTimestamp")),
    )


def pod_requests(spec: Mapping[str, Any]) -> dict[str, int]:
    """What the pod takes from its node, normalised as a node's allocatable; `pods` is always 1."""
    running: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(running, _requests(container))
    starting: dict[str, int] = {}
    sidecars: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            _add(running, own)
            moment = dict(sidecars)
        else:
            moment = dict(sidecars)
            _add(moment, own)
        for name, amount in moment.items():
            starting[name] = max(starting.get(name, 0), amount)
    total = {
        name: max(running.get(name, 0), starting.get(name, 0)) for name in running.keys() | starting.keys()
    }
    total |= _of_the_whole(spec.get("resources") or {}, total)
    _add(total, _amounts(spec.get("overhead") or {}))
    return {**total, "pods": 1}


def _of_the_whole(resources: Mapping[str, Any], summed: Mapping[str, int]) -> dict[str, int]:
    """Requests of the pod as a whole; its limit is one where neither it nor a container has a request."""
    limits = {name: amount for name, amount in (resources.get("limits") or {}).items() if name not in summed}
    asked = {**limits, **(resources.get("requests") or {})}
    return _amounts({name: amount for name, amount in asked.items() if name.startswith(OF_THE_WHOLE)})


def _requests(container: Mapping[str, Any]) -> dict[str, int]:
    """A limit without a request is the request: so the API server stores it, so a file may not say it."""
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(resources: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, quantity in resources.items():
        try:
            read = quantities.millis_up if name == "cpu" else quantities.whole_up
            found[sys.intern(name)] = read(quantity)
        except InvalidQuantityError:
            continue
    return found


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
