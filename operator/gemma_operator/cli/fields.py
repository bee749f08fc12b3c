"""Fields of a file that do not exist: parsing passes over them, kubectl refuses them, and so does the command line.

A plan that had passed over `contextlength` would be one for another deployment.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from gemma_operator.api.accelerator_pool import AcceleratorPool
from gemma_operator.api.deployment import GemmaDeployment
from gemma_operator.api.names import POOL_KIND
from gemma_operator.api.parse import unknown_fields
from gemma_operator.api.schema import structural_schema
from gemma_operator.errors import InvalidSpec


def refuse_unknown(obj: Mapping[str, Any]) -> None:
    """InvalidSpec for the first field of the spec that is none, with the one that it looks like."""
    for field in unknown_fields(obj)[:1]:
        parent, _, name = field.rpartition(".")
        beside = {known.lower(): known for known in _fields_of(parent, obj)}
        near = get_close_matches(name.lower(), beside, n=1)
        meant = f": {beside[near[0]]} is meant?" if near else f"; known here: {', '.join(beside.values())}"
        raise InvalidSpec(field, f"no such field{meant if beside else ''}")


def _fields_of(path: str, obj: Mapping[str, Any]) -> Collection[str]:
    """The fields of the object at `spec.a.b[0].c`."""
    node = structural_schema(AcceleratorPool if obj.get("kind") == POOL_KIND else GemmaDeployment)
    for step in re.findall(r"[^.\[\]]+", path):
        node = node.get("items", {}) if step.isdecimal() else node.get("properties", {}).get(step, {})
    return tuple(node.get("properties", ()))
