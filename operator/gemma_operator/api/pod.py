"""What a user may say about the pods. Never a PodTemplateSpec: the plan's decisions are not overwritten."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from gemma_operator.api.base import ApiModel, Rule, list_map
from gemma_operator.api.names import KUEUE_QUEUE_LABEL, PREFIX, RESERVED_POD_LABELS
from gemma_operator.api.types import (
    DnsLabel,
    DnsSubdomain,
    LabelValue,
    LocalObjectReference,
    Quantity,
    label_keys_rule,
)


class PodResources(ApiModel):
    """Requests of each engine container beside its GPUs. Memory is also its limit."""

    cpu: Quantity | None = Field(
        default=None, description='Requested CPU, for example 8 or "500m". Fractions are quoted: "0.5".'
    )
    memory: Quantity | None = Field(
        default=None, description="Requested memory and its limit, for example 64Gi."
    )
    ephemeral_storage: Quantity | None = Field(
        default=None, description="Requested scratch space on the node, for example 100Gi."
    )


def _free_labels(pod: "PodSpec") -> bool:
    return not any(key.startswith(PREFIX) or key in RESERVED_POD_LABELS for key in pod.labels)


_RESERVED_CEL = ", ".join(f"'{key}'" for key in RESERVED_POD_LABELS if key != KUEUE_QUEUE_LABEL)


class PodSpec(ApiModel):
    """What is added to each engine pod."""

    rules: ClassVar[tuple[Rule, ...]] = (
        label_keys_rule("labels", attribute="labels"),
        label_keys_rule("annotations", attribute="annotations"),
        Rule(
            cel=f"!has(self.labels) || !('{KUEUE_QUEUE_LABEL}' in self.labels)",
            message=f"labels must not hold {KUEUE_QUEUE_LABEL}: write pod.queueName instead",
            field_path=".labels",
            holds=lambda pod: KUEUE_QUEUE_LABEL not in pod.labels,
            reason="FieldValueForbidden",
        ),
        Rule(
            cel=f"!has(self.labels) || self.labels.all(k, !k.startsWith('{PREFIX}') && !(k in "
            f"[{_RESERVED_CEL}]))",
            message=f"labels must not hold keys that the operator selects by ({PREFIX}*, "
            "app.kubernetes.io/name, instance, component, managed-by): use another key",
            field_path=".labels",
            holds=lambda pod: _free_labels(pod) or KUEUE_QUEUE_LABEL in pod.labels,
            reason="FieldValueForbidden",
        ),
    )

    labels: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default={}, description="Further labels of the pods. Keys that the operator selects by are refused."
    )
    annotations: Annotated[
        dict[str, Annotated[str, StringConstraints(max_length=8192)]], Field(max_length=32)
    ] = Field(default={}, description="Further annotations of the pods.")
    priority_class_name: DnsSubdomain | None = Field(default=None, description="PriorityClass of the pods.")
    queue_name: DnsLabel | None = Field(
        default=None, description="Kueue's LocalQueue of the own namespace that admits the pods."
    )
    runtime_class_name: DnsSubdomain | None = Field(
        default=None, description="RuntimeClass of the pods, for example nvidia on k3s."
    )
    scheduler_name: DnsSubdomain | None = Field(
        default=None, description="Scheduler of the pods. Absent: the cluster's default."
    )
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...], list_map(key="name"), Field(max_length=16)
    ] = Field(default=(), description="Secrets for pulling the engine's image, in the own namespace.")
    resources: PodResources = Field(
        default=PodResources(), description="CPU, memory and scratch space. Absent: reckoned from the plan."
    )
