"""What every child has in common: its name, its labels, its owner, its selector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment

Json = dict[str, Any]

_APPLICATION: Final = "gemma"
_COMPONENT: Final = "model-server"
PORT_NAME: Final = "http"


def name_of(deployment: GemmaDeployment) -> str:
    """The one name of all children."""
    return names.child_name(deployment.metadata.name)


def labels_of(deployment: GemmaDeployment) -> dict[str, str]:
    """Labels of every child and pod. None is the parent's: tools that prune by label would take them too."""
    child = name_of(deployment)
    return {
        names.NAME_LABEL: _APPLICATION,
        names.INSTANCE_LABEL: child,
        names.COMPONENT_LABEL: _COMPONENT,
        names.PART_OF_LABEL: names.MANAGED_BY,
        names.MANAGED_BY_LABEL: names.MANAGED_BY,
        names.DEPLOYMENT_LABEL: child,
    }


def selector_of(deployment: GemmaDeployment) -> dict[str, str]:
    """Selects the pods. It can never be changed, so it holds nothing that might."""
    return {names.DEPLOYMENT_LABEL: name_of(deployment)}


def ours_of(deployment: GemmaDeployment) -> dict[str, str]:
    """Selects the pods, and those of the Job that brings their weights: both speak to the same outside."""
    return {names.MANAGED_BY_LABEL: names.MANAGED_BY, names.INSTANCE_LABEL: name_of(deployment)}


def child(
    deployment: GemmaDeployment,
    *,
    uid: str,
    kind: str,
    api_version: str,
    body: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """One manifest, owned by the deployment."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name_of(deployment),
            "namespace": deployment.namespace,
            "labels": {**(labels or {}), **labels_of(deployment)},
            **({"annotations": dict(annotations)} if annotations else {}),
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.DEPLOYMENT_KIND,
                    "name": deployment.metadata.name,
                    "uid": uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }


def filled(values: Mapping[str, Any]) -> Json:
    """Without what is absent: the server writes back neither null nor an empty map or list."""
    return {key: value for key, value in values.items() if value or isinstance(value, int | str)}


def annotation_file(name: str, annotation: str) -> Json:
    """An annotation of the pod, shown to its containers as a file of a downward API volume."""
    return {
        "path": name,
        "fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{annotation}']"},
    }
