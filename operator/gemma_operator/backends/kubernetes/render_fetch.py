"""What brings the weights or looks at them: the pod's init container, or a Job that holds no GPU.

Both run one script in the engine's own image. The Job keeps its failed pods, because their last words say why; it ends
at once where no other try will do (exit code 42), else after its limit. Its pods carry no label by which the engine's
are selected: no Service sends them a request, no budget counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_operator.api import names
from gemma_operator.api.v1alpha1 import GemmaDeployment
from gemma_operator.backends.kubernetes import quantities
from gemma_operator.backends.kubernetes import render_weights as weights
from gemma_operator.backends.kubernetes.ownership import sealed
from gemma_operator.backends.kubernetes.render_container import image_of, proxy_variables
from gemma_operator.backends.kubernetes.render_parts import Json, child, filled, labels_of, name_of
from gemma_operator.backends.kubernetes.render_volumes import CACHE_PATH
from gemma_operator.backends.kubernetes.render_weights import CLAIM_GROUP, CONTAINER, Delivery, Task, Way
from gemma_operator.backends.kubernetes.weights_script.rules import FINAL_EXIT
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

_MIB: Final = 1024**2
#: Of the Job: what the hub's client was seen to need is far less; a download is bound by the network.
_FETCHING = {"cpu": quantities.cpu(1000), "memory": quantities.memory(2048 * _MIB)}
_LOOKING = {"cpu": quantities.cpu(250), "memory": quantities.memory(512 * _MIB)}
_SCRATCH: Final = quantities.memory(1024 * _MIB)
#: Kubernetes waits 10 s, 20 s, 40 s … between them, so that the last is some ten minutes after the first.
_TRIES_AFTER_THE_FIRST: Final = 6
_USER: Final = 2000
_RESTRICTED: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_OPEN: Final = """\
import os, sys
folder = os.stat(sys.argv[1])
if folder.st_uid == os.getuid():
    os.chmod(sys.argv[1], folder.st_mode | 0o070)
"""


def init_containers(
    deployment: GemmaDeployment, plan: Plan, *, settings: OperatorSettings, brought: Delivery, resources: Json
) -> tuple[Json, ...]:
    """What brings the weights before the engine starts, the last of them; none where they lie there already.

    They ask for what the engine asks for but the GPUs, so the pod takes no more of a quota than the engine does.
    """
    if not brought.by_the_pod:
        return ()
    mounts = [{"name": "cache", "mountPath": CACHE_PATH}, brought.mount(read_only=False)]
    brings = {
        **_container(deployment, plan, settings=settings, brought=brought, task=Task.FETCH, mounts=mounts),
        "resources": resources,
    }
    opens = _opens_the_folder(image=brings["image"], brought=brought, resources=resources)
    return (opens, brings) if brought.way is Way.NODE else (brings,)


def _opens_the_folder(*, image: str, brought: Delivery, resources: Json) -> Json:
    """Lets group 0, which the others run with, write to the node's folder. The one thing that root does in a pod.

    The kubelet makes that folder as root's, 0755, and gives it no fsGroup (makeDir, and Managed false, in
    pkg/volume/hostpath/host_path.go of Kubernetes 1.37.2). Its owner needs no capability to change that. What speaks
    to a hub, with a token, is not root. A folder that somebody made otherwise is left as it is.
    """
    return {
        "name": "folder",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", _OPEN, brought.root],
        "resources": resources,
        "securityContext": {**_RESTRICTED, "runAsUser": 0, "runAsNonRoot": False},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [brought.mount(read_only=False)],
    }


def weights_job(
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    uid: str,
    settings: OperatorSettings,
    brought: Delivery,
    attempt: str,
    near_the_pool: bool,
    tolerations: Sequence[Json],
) -> Json | None:
    """The Job that comes before any pod of the engine; None where none does.

    `near_the_pool`: a volume of one node is bound where its first pod runs, so that one must run where the engine will.
    """
    task = brought.first
    if task is None:
        return None
    pod = _job_pod(deployment, plan, settings=settings, brought=brought, task=task)
    if near_the_pool:
        selector = {**deployment.spec.hardware.node_selector, **dict(plan.pool_selector)}
        pod = {
            **pod,
            "nodeSelector": {**selector, **pod["nodeSelector"]},
            "tolerations": list(tolerations),
        }
    final = {"containerName": CONTAINER, "operator": "In", "values": [FINAL_EXIT]}
    disrupted = {"type": "DisruptionTarget", "status": "True"}
    job = child(
        deployment,
        uid=uid,
        kind=names.JOB_KIND,
        api_version="batch/v1",
        annotations={
            names.WEIGHTS_KEY: weights.weights_key(deployment.spec, plan, brought),
            names.WEIGHTS_ATTEMPT: attempt,
        },
        body={
            "spec": {
                "backoffLimit": _TRIES_AFTER_THE_FIRST,
                "podFailurePolicy": {
                    "rules": [
                        {"action": "FailJob", "onExitCodes": final},
                        {"action": "Ignore", "onPodConditions": [disrupted]},
                    ]
                },
                "template": {
                    "metadata": filled(
                        {
                            "labels": weights.labels_of_pods(deployment, labels_of(deployment)),
                            "annotations": dict(deployment.spec.pod.annotations),
                        }
                    ),
                    "spec": filled(pod),
                },
            }
        },
    )
    job["metadata"]["name"] = names.weights_name(deployment.metadata.name)
    return sealed(job)


def _job_pod(
    deployment: GemmaDeployment, plan: Plan, *, settings: OperatorSettings, brought: Delivery, task: Task
) -> Json:
    reads = task is not Task.FETCH
    used = None if task is Task.ASK else brought
    mounts = [
        {"name": "cache", "mountPath": CACHE_PATH},
        used.mount(read_only=reads) if used else None,
    ]
    pod = deployment.spec.pod
    memory = _LOOKING["memory"] if reads else _FETCHING["memory"]
    limits = {"memory": memory} if pod.resources.memory is not None else {}
    requests = {**(_LOOKING if reads else _FETCHING), "ephemeral-storage": _SCRATCH}
    container = {
        **_container(deployment, plan, settings=settings, brought=brought, task=task, mounts=mounts),
        "resources": filled({"requests": requests, "limits": limits}),
    }
    # what a driver mounts may be root's alone; weights are given to be read, so nothing is changed where they lie
    owned = {} if reads else {"fsGroup": CLAIM_GROUP, "fsGroupChangePolicy": "OnRootMismatch"}
    volumes = [
        {"name": "cache", "emptyDir": {"sizeLimit": _SCRATCH}},
        used.volume(read_only=reads) if used else None,
    ]
    return {
        "restartPolicy": "Never",
        "serviceAccountName": name_of(deployment),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
            **owned,
        },
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": pod.priority_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in pod.image_pull_secrets],
        "containers": [container],
        "volumes": [volume for volume in volumes if volume],
    }


def _container(
    deployment: GemmaDeployment,
    plan: Plan,
    *,
    settings: OperatorSettings,
    brought: Delivery,
    task: Task,
    mounts: Sequence[Json | None],
) -> Json:
    given = weights.environment(deployment, hub_mirror=settings.hub_mirror)
    variables = [
        filled({"name": name, "value": value or None})
        for name, value in {
            **proxy_variables(settings),
            **dict(given),
            **dict(weights.trust(settings, task)),
        }.items()
    ]
    return {
        "name": CONTAINER,
        "image": image_of(deployment, plan, settings),
        "imagePullPolicy": "IfNotPresent",
        "command": weights.command(deployment.spec, plan, brought, task),
        "env": [*variables, *(weights.token_variable(deployment) if task is not Task.LOOK else ())],
        "securityContext": dict(_RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for mount in mounts if mount],
    }
