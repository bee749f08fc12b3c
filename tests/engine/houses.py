"""What a team finds on the real cluster: GPUs as nodes tell of them, a namespace, weights on a claim."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cluster.teams import Object, Team
from cluster.waiting import until
from engine.model import environment, models
from engine.model.image import PACKAGES
from engine.nodes import devices
from engine.nodes.cluster import RealCluster, say
from engine.nodes.images import PYTHON, STAND_IN
from engine.nodes.network import HUB

_TESTS = Path(__file__).parents[1]
_NODE = Path(__file__).parents[1] / "data/nodes/k3s-l4-gce.yaml"
_TINY = Path(__file__).with_name("manifests") / "tiny-from-claim.yaml"
CLAIM, FOLDER = "weights", "stand-in"
#: The claim with the real engine's models (tests/engine/model/models.py).
MODELS = "models"
#: The real requests of a small engine; the planner's own would fill these nodes.
#: Prints how many tokens an answer counts, or why there was none.
_ASK = (
    "import json, sys, urllib.request\n"
    "body = json.dumps({'model': 'chat', 'prompt': 'x', 'max_tokens': 3}).encode()\n"
    "asked = urllib.request.Request(sys.argv[1], body, {'Content-Type': 'application/json'})\n"
    "try: print(json.load(urllib.request.urlopen(asked, timeout=5))['usage']['completion_tokens'])\n"
    "except OSError as error: print(error)\n"
)
#: A whole file of weights without any: eight bytes that tell how long its header is, and the header.
_NO_TENSORS = "\2\0\0\0\0\0\0\0{}"
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_RESOURCES = {"cpu": "50m", "memory": "256Mi", "ephemeralStorage": "64Mi"}


def equip(cluster: RealCluster, name: str, *, gpus: int) -> None:
    """Labels of a published L4 node, and as many devices."""
    labels = yaml.safe_load(_NODE.read_text())["metadata"]["labels"]
    path = f"/api/v1/nodes/{name}"
    client = cluster.client
    client.merge(path, {"metadata": {"labels": {**labels, "nvidia.com/gpu.count": str(gpus)}}})
    devices.plug_in(cluster, name, count=gpus)
    until(lambda: devices.counted(cluster, name) == gpus, what=f"the kubelet of {name} counts its GPUs")


@contextlib.contextmanager
def beside_the_cluster(cluster: RealCluster, *words: str, port: int) -> Iterator[None]:
    """A server of the tests in the hub, `python -m WORDS`, once it listens."""
    process = subprocess.Popen(
        [*cluster.enter("hub"), sys.executable, "-m", *words, "--host", HUB, "--port", str(port)],
        env={"PYTHONPATH": str(_TESTS), "PATH": "/usr/bin"},
    )

    def listens() -> bool:
        assert process.poll() is None, f"{words[0]} ended"
        with contextlib.suppress(OSError), socket.create_connection((HUB, port), timeout=1):
            return True
        return False

    try:
        until(listens, what=f"{words[0]} listens")
        yield
    finally:
        process.kill()
        process.wait()


def stand_in(name: str = "chat", *, fault: str = "", **spec: Any) -> Object:
    """A GemmaDeployment served by the stand-in engine, with weights that lie on a claim."""
    return {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "GemmaDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {
                "variants": ["E2B"],
                "precisions": ["bf16"],
                "source": {"persistentVolumeClaim": {"claimName": CLAIM, "path": FOLDER}},
            },
            "serving": engine(fault=fault) | {"startupTimeoutSeconds": 600},
            "pod": {"resources": _RESOURCES},
            "rollout": {"drainSeconds": 5},
            **spec,
        },
    }


def tiny(name: str = "tiny", **spec: Any) -> Object:
    """A GemmaDeployment served by a real vLLM, with the tiny Gemma 4 on a claim."""
    made: Object = yaml.safe_load(_TINY.read_text())
    made["metadata"]["name"] = name
    made["spec"] |= spec
    return made


def engine(*, fault: str = "") -> Object:
    """`spec.serving` with the stand-in, told its fault; the catalog's E2B is the tiny one, which reads text alone."""
    env = [{"name": "STAND_IN_FAULT", "value": fault}]
    return {"modalities": ["text"], "engine": {"version": "0.32", "image": STAND_IN, "env": env}}


def a_team(cluster: RealCluster) -> RealTeam:
    """A fresh restricted namespace, to be left at the end."""
    return RealTeam(cluster, f"t{uuid.uuid4().hex[:8]}")


class RealTeam(Team):
    """A namespace on the real cluster, with a claim that every node may mount."""

    def __init__(self, cluster: RealCluster, namespace: str) -> None:
        super().__init__(cluster, namespace)  # type: ignore[arg-type]
        self.cluster = cluster
        enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.client.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": enforced}})
        self._volume(CLAIM, self._stand_ins_weights())
        if not environment.why_not():
            self._volume(MODELS, models.folder(say=say))

    def _stand_ins_weights(self) -> Path:
        folder = self.cluster.folder.path / "volumes" / self.namespace
        model = folder / FOLDER
        model.mkdir(parents=True)
        for name, text in (
            ("config.json", '{"model_type": "gemma4"}'),
            ("model.safetensors", _NO_TENSORS),
            ("tokenizer.json", "{}"),
        ):
            (model / name).write_text(text)
        for path in (self.cluster.folder.path, folder.parent, folder, model):
            path.chmod(0o755)
        return folder

    def _volume(self, claim: str, folder: Path) -> None:
        """A claim, bound to a volume that shows the folder on every node."""
        volume = f"{self.namespace}-{claim}"
        modes, capacity = ["ReadOnlyMany"], {"storage": "1Gi"}
        self.client.create(
            "/api/v1/persistentvolumes",
            {
                "metadata": {"name": volume},
                "spec": {
                    "capacity": capacity,
                    "accessModes": modes,
                    "persistentVolumeReclaimPolicy": "Retain",
                    "storageClassName": "",
                    "hostPath": {"path": str(folder)},
                    "claimRef": {"namespace": self.namespace, "name": claim},
                },
            },
        )
        self.client.create(
            f"/api/v1/namespaces/{self.namespace}/persistentvolumeclaims",
            {
                "metadata": {"name": claim},
                "spec": {
                    "accessModes": modes,
                    "storageClassName": "",
                    "volumeName": volume,
                    "resources": {"requests": capacity},
                },
            },
        )

    def client_pod(self, name: str, *, node: str) -> None:
        """A pod of the team on that node, which can ask."""
        container = {
            "name": "main",
            "image": PYTHON,
            "imagePullPolicy": "Never",
            "args": ["-c", "import time; time.sleep(10**6)"],
            # vLLM's packages, which a node's runtime gives to every container, have an HTTP client
            "env": [{"name": "PYTHONPATH", "value": PACKAGES}],
            "securityContext": _RESTRICTED,
            "resources": {"requests": {"cpu": "100m"}},
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "nodeName": node}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")

    def ask(self, pod: str, url: str) -> str:
        """Tokens of an answer to a client pod, or why there was none."""
        words = ("exec", pod, "--", "python3", "-c", _ASK, f"{url}/completions")
        return self.kubectl(*words).strip()

    def create(self, manifest: Object) -> None:
        """Any object, as a user does."""
        self.kubectl("apply", "-f", "-", text=json.dumps(manifest))
