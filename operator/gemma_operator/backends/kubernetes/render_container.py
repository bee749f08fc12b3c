"""The engine's container: image, command, environment, resources, probes, and how it goes.

Nothing is left to an image: command, caches and probes are all said. Requests are exactly what the planner
reckoned room with. What it finds on its disk is `render_volumes`, who may ask it is `render_access`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from gemma_operator.api.v1alpha1 import GemmaDeployment, Tuning
from gemma_operator.api.v1alpha1 import ToolCalling as ApiToolCalling
from gemma_operator.backends.kubernetes import quantities
from gemma_operator.backends.kubernetes.render_access import Access
from gemma_operator.backends.kubernetes.render_farewell import Goodbye
from gemma_operator.backends.kubernetes.render_parts import PORT_NAME, Json, filled
from gemma_operator.backends.kubernetes.render_volumes import CACHE_PATH, Storage
from gemma_operator.backends.kubernetes.render_weights import Delivery
from gemma_operator.engines.base import Engine, Serving
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

CONTAINER: Final = "engine"
_STARTUP_PERIOD_SECONDS: Final = 5
_NO_PROXY: Final = "localhost,127.0.0.1,.svc"


@dataclass(frozen=True, slots=True)
class Farewell:
    """How a replica goes, from one figure: requests get `drain_seconds` to finish."""

    drain_seconds: int = 60
    #: Until every proxy and gateway has heard that the pod is going, new requests still arrive.
    unrouting_seconds: int = 15
    #: For the engine to end its own processes.
    ending_seconds: int = 15

    @property
    def grace_seconds(self) -> int:
        """What Kubernetes waits before it kills."""
        return self.unrouting_seconds + self.drain_seconds + self.ending_seconds


def farewell_of(deployment: GemmaDeployment) -> Farewell:
    """What the user says of draining, else the default."""
    drain_seconds = deployment.spec.rollout.drain_seconds
    return Farewell() if drain_seconds is None else Farewell(drain_seconds=drain_seconds)


def engine_container(
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    settings: OperatorSettings,
    engine: Engine,
    budget_seconds: int,
    storage: Storage,
    access: Access,
    goodbye: Goodbye,
) -> Json:
    """The one container that serves."""
    farewell = farewell_of(deployment)
    serving = _serving(
        deployment,
        farewell=farewell,
        budget_seconds=budget_seconds,
        access=access,
        goodbye=goodbye,
        brought=storage.brought,
    )
    return {
        "name": CONTAINER,
        "image": image_of(deployment, plan, settings),
        "imagePullPolicy": "IfNotPresent",
        "command": list(engine.command),
        "args": list(engine.arguments(plan, serving)),
        "env": _environment(deployment, engine.environment(plan, serving), settings, access),
        "ports": [{"name": PORT_NAME, "containerPort": engine.port, "protocol": "TCP"}],
        "resources": resources_of(deployment, plan),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        # the engine's last words (CUDA out of memory) reach status.containerStatuses without reading logs
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "lifecycle": {"preStop": goodbye.hook},
        "volumeMounts": [*storage.mounts, *access.mounts, *goodbye.mounts],
        **_probes(deployment, engine=engine, model_name=serving.model_name, budget_seconds=budget_seconds),
    }


def _serving(
    deployment: GemmaDeployment,
    *,
    farewell: Farewell,
    budget_seconds: int,
    access: Access,
    goodbye: Goodbye,
    brought: Delivery,
) -> Serving:
    spec = deployment.spec
    return Serving(
        model_name=deployment.model_name,
        tuning=Tuning(spec.model.tuning).value,
        tool_calling=spec.tool_calling is ApiToolCalling.ENABLED,
        thinking=spec.serving.thinking.value,
        extra_args=tuple(spec.serving.engine.extra_args),
        environment=tuple((variable.name, variable.value) for variable in spec.serving.engine.env),
        shutdown_seconds=farewell.drain_seconds,
        startup_seconds=budget_seconds,
        cache_path=CACHE_PATH,
        access_path=access.path,
        farewell_path=goodbye.path,
        model_path=brought.model_path,
        drafter_path=brought.drafter_path,
        offline=True,
    )


def image_of(deployment: GemmaDeployment, plan: Plan, settings: OperatorSettings) -> str:
    """The plan's image, from the mirror where there is one; the user's own is taken as written."""
    if not settings.image_mirror or deployment.spec.serving.engine.image:
        return plan.image
    first, slash, rest = plan.image.partition("/")
    names_a_registry = slash and (first == "localhost" or not {".", ":"}.isdisjoint(first))
    return f"{settings.image_mirror.rstrip('/')}/{rest if names_a_registry else plan.image}"


def _environment(
    deployment: GemmaDeployment,
    engines: tuple[tuple[str, str], ...],
    settings: OperatorSettings,
    access: Access,
) -> list[Json]:
    """The operator's proxy, what the engine needs, the user's own; of two of one name the last counts."""
    given = {**proxy_variables(settings), **dict(engines)}
    for ours in access.environment:
        given.pop(ours["name"], None)
    variables: list[Json] = [filled({"name": name, "value": value or None}) for name, value in given.items()]
    return [*variables, *access.environment]


def proxy_variables(settings: OperatorSettings) -> dict[str, str]:
    """The operator's proxy, for whatever asks outside the cluster."""
    if not settings.proxy:
        return {}
    return dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), settings.proxy) | {"NO_PROXY": _NO_PROXY}


def resources_of(deployment: GemmaDeployment, plan: Plan, *, devices: bool = True) -> Json:
    """Requests are the planner's demand. CPU is never limited; memory only where the user said how much."""
    demand = plan.demand
    accelerators = {demand.resource_name: quantities.count(demand.accelerators)} if devices else {}
    memory = {"memory": quantities.memory(demand.memory_bytes)}
    limits = {**accelerators, **(memory if deployment.spec.pod.resources.memory is not None else {})}
    return filled(
        {
            "requests": {
                "cpu": quantities.cpu(demand.cpu_millis),
                **memory,
                "ephemeral-storage": quantities.memory(demand.ephemeral_bytes),
                **accelerators,
            },
            "limits": limits,
        }
    )


def _probes(deployment: GemmaDeployment, *, engine: Engine, model_name: str, budget_seconds: int) -> Json:
    """Start-up asks for a token; from then on `/health`, quick to stop routing and slow to kill."""
    request = engine.token_request(model_name=model_name)
    health = {"httpGet": {"path": engine.health_path, "port": PORT_NAME}}
    return {
        "startupProbe": {
            "exec": {"command": list(engine.startup_probe(request))},
            "periodSeconds": _STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 30,
            "failureThreshold": math.ceil(budget_seconds / _STARTUP_PERIOD_SECONDS),
        },
        "readinessProbe": {**health, "periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {
            **health,
            "periodSeconds": 10,
            "timeoutSeconds": 10,
            "failureThreshold": 10,
        },
    }
