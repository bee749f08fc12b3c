"""The pod template: where a replica may run, as whom, and what its one container is put into."""

from __future__ import annotations

from collections.abc import Sequence

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes.ownership import digest
from gemma_operator.backends.kubernetes.render_access import EVERYBODY, Access
from gemma_operator.backends.kubernetes.render_container import engine_container, farewell_of, resources_of
from gemma_operator.backends.kubernetes.render_farewell import goodbye_of
from gemma_operator.backends.kubernetes.render_fetch import init_containers
from gemma_operator.backends.kubernetes.render_parts import Json, filled, labels_of, name_of, selector_of
from gemma_operator.backends.kubernetes.render_volumes import storage
from gemma_operator.engines.base import Engine
from gemma_operator.hardware import tolerations
from gemma_operator.hardware.records import Toleration
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

#: The user `vllm` of vllm/vllm-openai, whose home is writable for group 0 (vLLM docs/deployment/docker.md).
_USER, _GROUP = 2000, 0


def pod_template(
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    settings: OperatorSettings,
    engine: Engine,
    budget_seconds: int,
    access: Access = EVERYBODY,
    avoided: Sequence[str] = (),
) -> Json:
    """Template of the Deployment's pods, with the hash of itself as an annotation."""
    stored = storage(deployment, plan)
    farewell = farewell_of(deployment)
    goodbye = goodbye_of(engine, unrouting_seconds=farewell.unrouting_seconds)
    container = engine_container(
        deployment,
        plan,
        settings=settings,
        engine=engine,
        budget_seconds=budget_seconds,
        storage=stored,
        access=access,
        goodbye=goodbye,
    )
    # the same requests without the devices: limits without a memory of the user's own are the devices alone
    asked = resources_of(deployment, plan, devices=False)
    fetchers = init_containers(deployment, plan, settings=settings, brought=stored.brought, resources=asked)
    pod = deployment.spec.pod
    spec = filled(
        {
            "serviceAccountName": name_of(deployment),
            "automountServiceAccountToken": False,
            # hundreds of Services would become thousands of variables, some of which vLLM takes for its own
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": farewell.grace_seconds,
            "securityContext": filled(
                {
                    "runAsNonRoot": True,
                    "runAsUser": _USER,
                    "runAsGroup": _GROUP,
                    "supplementalGroups": stored.brought.groups,
                    "seccompProfile": {"type": "RuntimeDefault"},
                }
            ),
            "nodeSelector": {
                **deployment.spec.hardware.node_selector,
                **dict(plan.pool_selector),
                "kubernetes.io/os": "linux",
            },
            "affinity": _affinity(avoided) or None,
            "tolerations": tolerations_of(deployment, plan),
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector_of(deployment)},
                }
            ],
            "priorityClassName": pod.priority_class_name,
            "runtimeClassName": pod.runtime_class_name,
            "schedulerName": pod.scheduler_name,
            "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
            "initContainers": list(fetchers),
            "containers": [container],
            "volumes": [*stored.volumes, *access.volumes, *goodbye.volumes],
        }
    )
    # of our labels a user's pod may have another `part-of`: nothing selects by it
    labels = {**labels_of(deployment), **pod.labels}
    told = {names.MODEL_NAME: deployment.model_name, names.ENGINE: plan.engine}
    annotations = {**pod.annotations, **told, **access.annotations, **goodbye.annotations}
    intent = digest({"labels": labels, "annotations": annotations, "spec": spec})
    return {
        "metadata": {"labels": labels, "annotations": {**annotations, names.INTENT: intent}},
        "spec": spec,
    }


def _affinity(avoided: Sequence[str]) -> Json:
    """Keeps pods off nodes that refuse them; a field selector takes one name, so each has its own line."""
    if not avoided:
        return {}
    fields = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in avoided]
    terms = {"nodeSelectorTerms": [{"matchFields": fields}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def tolerations_of(deployment: GemmaDeployment, plan: Plan) -> list[Json]:
    """Everything that the pool's nodes are tainted with, as far as the spec allows it."""
    hardware = deployment.spec.hardware
    for_ever = tolerations.of_replica(users=(), pools=plan.pool_tolerations, spot=hardware.spot.value)
    users = (
        filled(
            {
                "key": toleration.key or None,
                "operator": toleration.operator.value,
                "value": toleration.value or None,
                "effect": toleration.effect.value if toleration.effect else None,
                "tolerationSeconds": toleration.toleration_seconds,
            }
        )
        for toleration in hardware.tolerations
    )
    return [*map(_toleration, for_ever), *users]


def _toleration(toleration: Toleration) -> Json:
    return filled(
        {
            "key": toleration.key or None,
            "operator": toleration.operator or None,
            "value": toleration.value or None,
            "effect": toleration.effect or None,
        }
    )
