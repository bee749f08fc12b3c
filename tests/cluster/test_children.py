"""Children as the real API server takes them: as they were sent, restricted, within the operator's rights."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from gemma_operator.api import names
from gemma_operator.apiserver.resources import BY_KIND, GEMMA_DEPLOYMENTS, PODS
from gemma_operator.backends.kubernetes.ownership import manifest_hash, owned_hash
from gemma_operator.backends.kubernetes.render import render
from gemma_operator.settings import OperatorSettings
from plans import a_demand, a_plan
from snapshots import ENGINE, a_spec

pytestmark = pytest.mark.cluster
BASE = Path(__file__).parents[2] / "manifests/base"
APPLY = "application/apply-patch+yaml"
OPERATOR = "system:serviceaccount:gemma-system:gemma-operator"

PLAIN = {}
RICH = {
    "replicas": 3,
    "serving": {
        "modelName": "team/chat",
        "thinking": "Default",
        "engine": {
            "extraArgs": ["--seed", "7"],
            "env": [{"name": "EMPTY", "value": ""}, {"name": "LOG", "value": "1"}],
        },
    },
    "hardware": {
        "spot": "Allowed",
        "nodeSelector": {"zone": "a"},
        "tolerations": [
            {"key": "team", "value": "a", "effect": "NoSchedule"},
            {"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
        ],
    },
    "pod": {
        "labels": {"team": "a", "empty": ""},
        "annotations": {"note": "hi"},
        "priorityClassName": "system-node-critical",
        "queueName": "gpus",
        "schedulerName": "other",
        "imagePullSecrets": [{"name": "pull"}],
        "resources": {"memory": "1536Mi"},
    },
    "access": {"allowedNamespaces": ["web"]},
    "credentials": {"huggingFaceToken": {"secretKeyRef": {"name": "hf", "key": "token"}}},
}
SETTINGS = OperatorSettings(
    prometheus_namespaces=("monitoring",),
    operator_cidrs=("10.1.2.0/24",),
    proxy="http://proxy:3128",
    hub_mirror="https://hub.internal:8443",
)


class Kube:
    """The API server, asked as whoever is named."""

    def __init__(self, api_server):
        self._api_server = api_server
        self._tls = ssl.create_default_context(cafile=str(api_server.ca_file))

    def ask(self, method, path, body=None, *, content_type="application/json", user=None):
        headers = {"Authorization": f"Bearer {self._api_server.token}", "Content-Type": content_type}
        if user:
            headers["Impersonate-User"] = user
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(
            self._api_server.url + path, data=data, headers=headers, method=method
        )
        try:
            with urllib.request.urlopen(request, context=self._tls) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def apply(self, manifest, *, manager="gemma-operator", force=False, user=OPERATOR):
        metadata = manifest["metadata"]
        resource = BY_KIND[manifest["kind"]]
        path = resource.path(namespace=metadata["namespace"], name=metadata["name"])
        query = f"?fieldManager={manager}&force={str(force).lower()}&fieldValidation=Strict"
        return self.ask("PATCH", path + query, manifest, content_type=APPLY, user=user)


@pytest.fixture(scope="module")
def kube(api_server, installed):
    """With our CRDs and with the operator's rights granted as `manifests/base` grants them."""
    found = Kube(api_server)
    for document in yaml.safe_load_all((BASE / "rbac.yaml").read_text()):
        if document["kind"].startswith("ClusterRole"):
            plural = f"{document['kind'].lower()}s"
            path = f"/apis/rbac.authorization.k8s.io/v1/{plural}/{document['metadata']['name']}"
            status, answer = found.ask(
                "PATCH", f"{path}?fieldManager=test&force=true", document, content_type=APPLY
            )
            assert status in (200, 201), answer
    return found


@pytest.fixture
def namespace(kube):
    """A fresh namespace that enforces the restricted profile."""
    name = f"children-{uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    status, answer = kube.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    assert status == 201, answer
    yield name
    kube.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def owner(kube, namespace):
    """The uid of a deployment that an operator leaves alone; the garbage collector takes what has no owner."""
    left_alone = {
        "apiVersion": names.API_VERSION,
        "kind": names.DEPLOYMENT_KIND,
        "metadata": {"name": "chat", "annotations": {names.RECONCILE: names.RECONCILE_DISABLED}},
        "spec": {},
    }
    status, answer = kube.ask("POST", GEMMA_DEPLOYMENTS.path(namespace=namespace), left_alone)
    assert status == 201, answer
    return answer["metadata"]["uid"]


def rendered(namespace, spec, owner):
    deployment = a_spec(**spec)
    metadata = deployment.metadata.model_copy(update={"namespace": namespace})
    return render(
        deployment.model_copy(update={"metadata": metadata}),
        a_plan(demand=a_demand(memory_bytes=1536 * 1024**2, ephemeral_bytes=100 * 10**9)),
        uid=owner,
        replicas=deployment.spec.replicas,
        settings=SETTINGS,
        engine=ENGINE,
    )


def our_entry(obj):
    """What the server notes of our apply, with the time of its last change."""
    return [entry for entry in obj["metadata"]["managedFields"] if entry["manager"] == "gemma-operator"]


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
def test_every_child_stands_as_it_was_sent(kube, namespace, owner, spec):
    for manifest in rendered(namespace, spec, owner):
        status, answer = kube.apply(manifest)
        assert status == 201, answer
        assert owned_hash(answer) == manifest_hash(manifest), manifest["kind"]


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
def test_applying_a_child_again_changes_nothing(kube, namespace, owner, spec):
    for manifest in rendered(namespace, spec, owner):
        _, first = kube.apply(manifest)
        metadata = {**manifest["metadata"], "uid": first["metadata"]["uid"]}
        _, second = kube.apply({**manifest, "metadata": metadata}, force=True)
        # not the resourceVersion: controllers write status and annotations of their own meanwhile
        assert second["metadata"].get("generation") == first["metadata"].get("generation"), manifest["kind"]
        assert our_entry(second) == our_entry(first)


@pytest.mark.parametrize("spec", [PLAIN, RICH], ids=["plain", "rich"])
def test_a_restricted_namespace_takes_the_pod(kube, namespace, owner, spec):
    account, *_, deployment = rendered(namespace, spec, owner)
    kube.apply(account)
    template = deployment["spec"]["template"]
    pod = {**template, "metadata": {**template["metadata"], "name": "chat-0"}}
    pod["spec"].pop("priorityClassName", None)  # the class belongs to kube-system
    status, answer = kube.ask(
        "POST", f"{PODS.path(namespace=namespace)}?dryRun=All&fieldValidation=Strict", pod
    )
    assert status == 201, answer


def test_a_strangers_object_is_not_taken_without_force(kube, namespace, owner):
    stranger = {"metadata": {"name": "chat"}, "spec": {"selector": {"app": "x"}, "ports": [{"port": 80}]}}
    kube.ask("POST", f"/api/v1/namespaces/{namespace}/services", stranger)
    service = next(
        manifest for manifest in rendered(namespace, PLAIN, owner) if manifest["kind"] == "Service"
    )
    status, _ = kube.apply(service)
    assert status == 409


def test_a_namesake_in_the_place_of_a_known_child_is_refused(kube, namespace, owner):
    service = next(
        manifest for manifest in rendered(namespace, PLAIN, owner) if manifest["kind"] == "Service"
    )
    kube.apply(service)
    _, answer = kube.apply({**service, "metadata": {**service["metadata"], "uid": str(uuid4())}}, force=True)
    assert answer["code"] == 422
    assert "metadata.uid" in answer["message"]
