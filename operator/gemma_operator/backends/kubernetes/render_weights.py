"""How weights reach a pod: in what volume they lie, and what brings or looks at them before a GPU is used.

Four ways, chosen by the spec alone. Nothing kept: each pod's init container brings them to the pod's own disk. A
claim: a Job brings them once, pods mount it read-only. A folder of the node: the first pod there brings them. A claim
that holds them already: a Job looks at them. A repository of the user's own is looked at by a Job first, whatever
follows. The engine always finds a local path and asks no hub (docs/weights.md).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.api.placement import CacheType
from gemma_operator.api.v1alpha1 import GemmaDeployment, GemmaDeploymentSpec
from gemma_operator.backends.kubernetes.ownership import digest
from gemma_operator.backends.kubernetes.render_parts import Json
from gemma_operator.backends.kubernetes.weights_script import SCRIPT
from gemma_operator.backends.kubernetes.weights_script.rules import CA_BUNDLE
from gemma_operator.planner.values import Plan
from gemma_operator.settings import OperatorSettings

CONTAINER: Final = "weights"
#: Whose volume a claim becomes that the Job fills (fsGroup), as far as its driver can do that.
CLAIM_GROUP: Final = 2000
POD_ROOT: Final = "/cache/weights"
SHARED_ROOT: Final = "/mnt/weights"
SOURCE_ROOT: Final = "/mnt/model"
NODE_FOLDER: Final = "/var/lib/gemma-operator/weights"
_BYTES_PER_SECOND: Final = 100 * 10**6
_LEAST_BUDGET_SECONDS: Final = 600


class Way(Enum):
    """Where the weights lie."""

    POD = "pod"
    CLAIM = "claim"
    NODE = "node"
    SOURCE = "source"


class Task(Enum):
    """What the script does."""

    FETCH = "fetch"
    #: Of a repository only its list of files and its config.json.
    ASK = "ask"
    LOOK = "look"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the weights of one plan come."""

    way: Way
    root: str
    #: Below the root; one for each commit of each repository, so that deployments share what is equal.
    folder: str
    #: The weights as a message names them.
    shown: str
    #: The claim that holds them; empty where none does.
    claim: str
    #: What a Job does before any pod of the engine is made; None: nothing.
    first: Task | None
    #: The drafter's folder beside the weights'; empty where the plan has none.
    drafter_folder: str

    @property
    def model_path(self) -> str:
        """Where the engine finds them."""
        return f"{self.root}/{self.folder}".rstrip("/")

    @property
    def drafter_path(self) -> str:
        """Where the engine finds the drafter; empty where it has none."""
        return f"{self.root}/{self.drafter_folder}" if self.drafter_folder else ""

    @property
    def by_the_pod(self) -> bool:
        """Each pod brings them, or finds that another of its node did."""
        return self.way in (Way.POD, Way.NODE)

    @property
    def groups(self) -> list[int]:
        """Groups of who reads them: the kubelet gives a claim that is filled to its group and takes it from group 0.

        changeFilePermission in pkg/volume/volume_linux.go of Kubernetes 1.37.2. On a volume that is closed to others
        the engine would find nothing. Not as fsGroup: nothing is to be changed for who only reads.
        """
        return [CLAIM_GROUP] if self.way is Way.CLAIM else []

    def volume(self, *, read_only: bool) -> Json | None:
        """The pod's volume of its own for them; None where they lie in its cache."""
        if self.way is Way.NODE:
            return {"name": CONTAINER, "hostPath": {"path": NODE_FOLDER, "type": "DirectoryOrCreate"}}
        if not self.claim:
            return None
        source: Json = {"claimName": self.claim, **({"readOnly": True} if read_only else {})}
        return {"name": CONTAINER, "persistentVolumeClaim": source}

    def mount(self, *, read_only: bool) -> Json | None:
        """Where a container mounts that volume."""
        if self.way is Way.POD:
            return None
        return {
            "name": CONTAINER,
            "mountPath": self.root,
            **({"readOnly": True} if read_only else {}),
        }


def delivery(spec: GemmaDeploymentSpec, plan: Plan) -> Delivery:
    """The way that the spec asks for."""
    way, claim = _way(spec)
    source = spec.model.source.persistent_volume_claim if spec.model.source else None
    drafting = plan.settings.drafting
    if source is not None:
        folder, shown = source.path, f"{source.path or 'the root'} of claim {claim}"
    else:
        folder, shown = _folder(plan.repo, plan.revision), plan.repo
    return Delivery(
        way=way,
        root={Way.POD: POD_ROOT, Way.SOURCE: SOURCE_ROOT}.get(way, SHARED_ROOT),
        folder=folder,
        shown=shown,
        claim=claim,
        first=first_task(spec),
        drafter_folder=_folder(drafting.repo, None) if drafting is not None and way is not Way.SOURCE else "",
    )


def first_task(spec: GemmaDeploymentSpec) -> Task | None:
    """What a Job does before any pod of the engine is made; what the catalog names needs no look by itself."""
    way, _ = _way(spec)
    if way is Way.SOURCE:
        return Task.LOOK
    if way is Way.CLAIM:
        return Task.FETCH
    return Task.ASK if spec.model.source is not None else None


def task_json(spec: GemmaDeploymentSpec, plan: Plan, brought: Delivery, task: Task) -> str:
    """The script's argument."""
    return json.dumps(
        {**_purpose(spec, plan, brought, task), "budgetSeconds": budget_seconds(plan)},
        separators=(",", ":"),
        sort_keys=True,
    )


def budget_seconds(plan: Plan) -> int:
    """How long one run of the script may go on trying: twice what the weights should take, ten minutes at least."""
    return max(_LEAST_BUDGET_SECONDS, math.ceil(2 * plan.weights_on_disk_bytes / _BYTES_PER_SECOND))


def weights_key(spec: GemmaDeploymentSpec, plan: Plan, brought: Delivery) -> str:
    """What the Job is for: another image, token or proxy is no reason to bring anew what lies there."""
    assert brought.first is not None, "where no Job is wanted, nothing is told apart"
    return digest({**_purpose(spec, plan, brought, brought.first), "claim": brought.claim})


def command(spec: GemmaDeploymentSpec, plan: Plan, brought: Delivery, task: Task) -> list[str]:
    """What the container runs; every image of an engine has python3."""
    return ["python3", "-c", SCRIPT, task_json(spec, plan, brought, task)]


def environment(deployment: GemmaDeployment, *, hub_mirror: str) -> list[tuple[str, str]]:
    """Everything that the hub's client writes beside the weights goes to the pod's own cache, and little of it."""
    return [
        ("HOME", "/cache"),
        ("USER", "vllm"),
        ("HF_HOME", "/cache/huggingface"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_XET_CHUNK_CACHE_SIZE_BYTES", "0"),
        *((("HF_ENDPOINT", hub_mirror),) if hub_mirror else ()),
        *((variable.name, variable.value) for variable in deployment.spec.serving.engine.env),
    ]


def trust(settings: OperatorSettings, task: Task) -> list[tuple[str, str]]:
    """The operator's certificate authorities, for whoever asks the hub; the script joins them to the image's own."""
    asks = task is not Task.LOOK
    return [(CA_BUNDLE, settings.ca_bundle)] if settings.ca_bundle and asks else []


def token_variable(deployment: GemmaDeployment) -> list[Json]:
    """The hub's token, for whoever asks the hub and for nobody else."""
    credentials = deployment.spec.credentials
    token = credentials.hugging_face_token if credentials else None
    if token is None:
        return []
    reference = {"name": token.secret_key_ref.name, "key": token.secret_key_ref.key}
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}]


def labels_of_pods(deployment: GemmaDeployment, labels: Mapping[str, str]) -> dict[str, str]:
    """Those of the children, but for the one by which the engine's pods are selected."""
    ours = {key: value for key, value in labels.items() if key != names.DEPLOYMENT_LABEL}
    return {
        **ours,
        names.COMPONENT_LABEL: CONTAINER,
        names.WEIGHTS_LABEL: names.child_name(deployment.metadata.name),
        **deployment.spec.pod.labels,
    }


def _way(spec: GemmaDeploymentSpec) -> tuple[Way, str]:
    source, cache = spec.model.source, spec.weights.cache
    if source is not None and source.persistent_volume_claim is not None:
        return Way.SOURCE, source.persistent_volume_claim.claim_name
    if cache.type is CacheType.PERSISTENT_VOLUME_CLAIM:
        return Way.CLAIM, cache.claim_name or ""
    return (Way.NODE if cache.type is CacheType.NODE else Way.POD), ""


def _folder(repo: str, revision: str | None) -> str:
    return f"{repo.replace('/', '--')}/{revision or 'main'}"


def _purpose(spec: GemmaDeploymentSpec, plan: Plan, brought: Delivery, task: Task) -> dict[str, Any]:
    own = spec.model.source is not None
    drafter = {"repo": plan.settings.drafting.repo} if plan.settings.drafting is not None else {}
    return {
        "task": task.value,
        "repo": plan.repo,
        **({"revision": plan.revision} if plan.revision else {}),
        "root": POD_ROOT if task is Task.ASK else brought.root,
        "folder": brought.folder,
        "shown": brought.shown,
        "variant": plan.variant,
        "precision": plan.precision,
        "shape": dict(plan.shape),
        # a published checkpoint is what the catalog says; only of one's own the precision is looked at
        **({"quantised": plan.precision != "bf16"} if own else {}),
        **(
            {"also": [{**drafter, "folder": brought.drafter_folder}]}
            if brought.drafter_folder and task is Task.FETCH
            else {}
        ),
    }
