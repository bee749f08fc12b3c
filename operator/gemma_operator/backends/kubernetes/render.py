"""What a placed deployment looks like in the cluster: manifests, in the order in which they are applied.

In: the deployment, its plan, the operator's settings. Out: plain JSON, written exactly as the API server
writes it back, each with a hash of itself, so that "nothing changed" is an equality. What stands in the
cluster is not looked at here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.decision import Manifest
from gemma_operator.backends.kubernetes import render_network as network
from gemma_operator.backends.kubernetes import render_weights as weights
from gemma_operator.backends.kubernetes import written
from gemma_operator.backends.kubernetes.ownership import sealed
from gemma_operator.backends.kubernetes.render_access import access_of
from gemma_operator.backends.kubernetes.render_parts import Json, child, selector_of
from gemma_operator.backends.kubernetes.render_pod import pod_template
from gemma_operator.backends.kubernetes.rollout import FIRST, Rollout
from gemma_operator.engines.base import Engine
from gemma_operator.planner.plan import to_annotation
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

#: Counts changes of what is rendered from the same input. A Deployment that another version rendered is left
#: alone until its user changes the spec or asks for a refresh: an upgrade of the operator restarts no engine.
RENDERER_VERSION: Final = "5"

_HUB_BYTES_PER_SECOND: Final = 100 * 10**6
_LOAD_AND_COMPILE_SECONDS: Final = 240
_LEAST_BUDGET_SECONDS: Final = 600
#: Before the start-up probe counts, the pod is scheduled and an image of some 10 GB is pulled.
_PULL_SECONDS: Final = 600


def render(  # noqa: PLR0913 - all that a manifest is made of, by keyword
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    uid: str,
    replicas: int,
    settings: OperatorSettings,
    engine: Engine,
    rollout: Rollout = FIRST,
    avoided: Sequence[str] = (),
    probe_key: str = "",
) -> tuple[Manifest, ...]:
    """Every child: what pods need comes before the pods."""
    budget_seconds = startup_budget_seconds(deployment, plan)
    template = pod_template(
        deployment,
        plan,
        settings=settings,
        engine=engine,
        budget_seconds=budget_seconds,
        access=access_of(deployment, engine=engine, probe_key=probe_key),
        avoided=avoided,
    )
    manifests = (
        network.service_account(deployment, uid=uid),
        network.service(deployment, uid=uid, port=engine.port),
        network.network_policy(deployment, uid=uid, port=engine.port, settings=settings),
        *((network.pod_disruption_budget(deployment, uid=uid),) if replicas > 1 else ()),
        _deployment(
            deployment,
            plan,
            uid=uid,
            template=template,
            replicas=replicas,
            budget_seconds=budget_seconds,
            rollout=rollout,
            avoided=avoided,
        ),
    )
    return tuple(sealed(manifest) for manifest in manifests)


def startup_budget_seconds(deployment: GemmaDeployment, plan: Plan) -> int:
    """How long one replica may take to start: what the user says, else twice what the weights should take."""
    said = deployment.spec.serving.startup_timeout_seconds
    if said is not None:
        return said
    download_seconds = plan.weights_on_disk_bytes / _HUB_BYTES_PER_SECOND
    return max(_LEAST_BUDGET_SECONDS, math.ceil(2 * (download_seconds + _LOAD_AND_COMPILE_SECONDS)))


def _bringing_seconds(deployment: GemmaDeployment, plan: Plan) -> int:
    """What an init container may take before the engine's own budget begins."""
    return weights.budget_seconds(plan) if weights.delivery(deployment.spec, plan).by_the_pod else 0


def with_rollout(
    manifests: Iterable[Manifest], rollout: Rollout, *, wedged_replaced_at: str = ""
) -> tuple[Manifest, ...]:
    """The same children, their pods rolled in that way: known only once the template is."""
    return tuple(
        _rolled(each, rollout, wedged_replaced_at) if each["kind"] == "Deployment" else each
        for each in manifests
    )


def _rolled(manifest: Manifest, rollout: Rollout, wedged_replaced_at: str) -> Manifest:
    spec, metadata = manifest["spec"], manifest["metadata"]
    strategy = {**spec["strategy"], "rollingUpdate": rollout.figures}
    replaced = {names.WEDGED_REPLACED_AT: wedged_replaced_at} if wedged_replaced_at else {}
    annotations = {**metadata["annotations"], names.ROLLOUT: str(rollout), **replaced}
    return sealed(
        {
            **manifest,
            "metadata": {**metadata, "annotations": annotations},
            "spec": {**spec, "strategy": strategy},
        }
    )


def pod_intent(manifests: Iterable[Manifest]) -> str:
    """The intent that the pods of these manifests carry; empty where no Deployment is among them."""
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            return str(manifest["spec"]["template"]["metadata"]["annotations"][names.INTENT])
    return ""


def _deployment(
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    uid: str,
    template: Json,
    replicas: int,
    budget_seconds: int,
    rollout: Rollout,
    avoided: Sequence[str],
) -> Json:
    queue = deployment.spec.pod.queue_name
    return child(
        deployment,
        uid=uid,
        kind="Deployment",
        api_version="apps/v1",
        labels={names.KUEUE_QUEUE_LABEL: queue} if queue else {},
        annotations={
            names.INPUTS_HASH: plan.inputs_hash,
            names.RENDERER_VERSION: RENDERER_VERSION,
            **written.as_annotations(deployment.spec),
            names.PLAN: to_annotation(plan),
            names.ROLLOUT: str(rollout),
            **({names.AVOIDED_NODES: ",".join(avoided)} if avoided else {}),
        },
        body={
            "spec": {
                "replicas": replicas,
                "revisionHistoryLimit": 3,
                "progressDeadlineSeconds": budget_seconds
                + _PULL_SECONDS
                + _bringing_seconds(deployment, plan),
                "selector": {"matchLabels": selector_of(deployment)},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": rollout.figures},
                "template": template,
            }
        },
    )
