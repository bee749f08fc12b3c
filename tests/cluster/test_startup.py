"""What the operator says and does when it starts, cannot start, and stops."""

from __future__ import annotations

import copy
import json
import time

import pytest

from cluster.operating import Operator
from cluster.teams import a_deployment, condition, says
from cluster.waiting import until
from gemma_operator.errors import ApiError

pytestmark = pytest.mark.cluster

_LEASE = "/apis/coordination.k8s.io/v1/namespaces/gemma-system/leases/gemma-operator"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_DEPLOYMENTS = f"{_CRDS}/gemmadeployments.gemma-operator.io"


@pytest.fixture
def another(installed, tmp_path):
    """A second operator process; `another(kubeconfig)` has not started."""
    made = []

    def make(kubeconfig):
        made.append(Operator(tmp_path, kubeconfig=kubeconfig))
        return made[-1]

    yield make
    for process in made:
        process.close()


def test_a_kubeconfig_that_is_not_there_is_one_line_and_exit_2(another, tmp_path):
    process = another(tmp_path / "nowhere")
    process.start()
    assert process.wait() == 2
    assert process.last_words == [
        f"gemma-operator: there is no kubeconfig {tmp_path}/nowhere: give --kubeconfig, set KUBECONFIG, or run in a pod"
    ]


def test_a_kubeconfig_that_cannot_be_read_is_one_line_and_exit_2(another, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("clusters: [")
    process = another(broken)
    process.start()
    assert process.wait() == 2
    (line,) = process.last_words
    assert str(broken) in line


def test_an_api_server_that_is_not_there_is_one_line_and_exit_1(another, installed, tmp_path):
    document = json.loads(installed.operator_kubeconfig.read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    moved = tmp_path / "moved"
    moved.write_text(json.dumps(document))
    process = another(moved)
    process.start()
    assert process.wait() == 1
    (line,) = process.last_words
    assert "127.0.0.1:1" in line


def test_missing_rights_are_named_and_exit_1(another, installed):
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/gemma-operator"
    kept = installed.client.get(binding)
    installed.client.delete(binding)
    try:
        process = another(installed.operator_kubeconfig)
        process.start()
        assert process.wait() == 1
    finally:
        for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            kept["metadata"].pop(field, None)
        installed.client.create(binding.rpartition("/")[0], kept)
    (line,) = process.last_words
    assert "missing rights" in line
    for resource in ("gemmadeployments", "nodes", "deployments", "endpointslices"):
        assert resource in line


def test_missing_crds_are_one_line_and_exit_1_and_come_back_with_everything(another, installed, one_operator):
    one_operator.close()
    kept = installed.client.get(_DEPLOYMENTS)
    installed.client.delete(_DEPLOYMENTS)
    until(lambda: not _served(installed), what="the kind is not served")
    try:
        process = another(installed.operator_kubeconfig)
        process.start()
        assert process.wait() == 1
    finally:
        _install(installed, kept)
    (line,) = process.last_words
    assert "gemmadeployments.gemma-operator.io" in line
    assert "install the CustomResourceDefinitions" in line


def _served(sandbox):
    groups = sandbox.client.get("/apis")["groups"]
    if not any(group["name"] == "gemma-operator.io" for group in groups):
        return False
    resources = sandbox.client.get("/apis/gemma-operator.io/v1alpha1")["resources"]
    return any(resource["name"] == "gemmadeployments" for resource in resources)


def _install(sandbox, definition):
    definition = copy.deepcopy(definition)
    definition.pop("status", None)
    for field in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
        definition["metadata"].pop(field, None)
    sandbox.client.create(_CRDS, definition)
    until(lambda: _served(sandbox), what="the kind is served")


def test_sigterm_ends_it_with_exit_0_and_gives_the_lease_back(operator, installed):
    assert installed.client.get(_LEASE)["spec"]["holderIdentity"]
    assert operator.stop(within_seconds=30) == 0, "a kubelet's own grace period"
    assert operator.last_words[-1].endswith("stopped")
    assert not installed.client.get(_LEASE)["spec"].get("holderIdentity")


def test_it_reconciles_soon_after_it_was_started(team, operator, figure):
    pool = team.pool("l4", nodes=1)
    operator.stop()
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    began = time.monotonic()
    operator.start()
    until(lambda: team.find("ServiceAccount", "chat"), what="the first child")
    figure(f"start → first child {time.monotonic() - began:.2f} s (process, lists, Lease, plan)")
    team.ready("chat")
    figure(f"RSS {operator.rss_mib:.0f} MiB with {len(team.client.items('/api/v1/nodes'))} nodes")


@pytest.fixture
def relaxed(installed, one_operator):
    """The CRD of another day: `relaxed(change)` installs it changed, and the operator starts anew."""
    kept = installed.client.get(_DEPLOYMENTS)

    def change(edit):
        schema = copy.deepcopy(kept["spec"]["versions"][0]["schema"])
        edit(schema["openAPIV3Schema"])
        versions = [{**kept["spec"]["versions"][0], "schema": schema}]
        installed.client.merge(_DEPLOYMENTS, {"spec": {"versions": versions}})

    yield change
    installed.client.merge(_DEPLOYMENTS, {"spec": {"versions": kept["spec"]["versions"]}})
    if one_operator.runs:
        one_operator.restart()


def _anything_goes(schema):
    schema.pop("x-kubernetes-validations", None)
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"serving": {"contextLength": 3}}, "contextLength"),
        ({"serving": {"contextLength": "many"}}, "contextLength"),
        ({"suspend": "perhaps"}, "suspend"),
        ({"model": {"variants": ["70B"]}}, "variants"),
        ({"hardware": []}, "hardware"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_spec_that_got_past_an_older_crd_is_a_condition(team, operator, relaxed, spec, field):
    pool = team.pool("l4", nodes=1)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    before = team.ready("chat")
    pods = {pod["metadata"]["uid"] for pod in team.pods("chat")}
    relaxed(_anything_goes)
    until(lambda: _takes(team, spec), what="the relaxed schema is served")
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "InvalidSpec"))
    assert field in condition(said, "Ready")["message"]
    assert condition(said, "Healthy")["status"] == "True", "what runs goes on"
    assert said["status"]["plan"] == before["status"]["plan"]
    assert {pod["metadata"]["uid"] for pod in team.pods("chat")} == pods
    assert "unexpected" not in operator.log
    assert operator.runs
    team.client.merge(team.path("GemmaDeployment", "chat"), {"spec": _without(spec)})
    team.change("chat", before["spec"])
    assert team.ready("chat")["status"]["plan"] == before["status"]["plan"]


def _takes(team, spec):
    """Until then the old schema refuses it, or the API server (429) while it makes the storage of the new one."""
    try:
        changed = team.client.merge(team.path("GemmaDeployment", "chat"), {"spec": spec})
    except ApiError:
        return False
    return all(
        changed["spec"].get(name) == value for name, value in spec.items() if not isinstance(value, dict)
    )


def _without(spec):
    return dict.fromkeys(spec)


def test_a_crd_that_drops_a_field_is_said_instead_of_a_plan_that_ignores_it(team, operator, relaxed):
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    before = team.ready("chat")
    relaxed(
        lambda schema: schema["properties"]["spec"]["properties"]["serving"]["properties"].pop("thinking")
    )
    operator.restart()
    team.apply(a_deployment("late", hardware={"pools": [pool]}))
    said = team.sees("GemmaDeployment", "late", says("Stalled", "True", "SchemaOutdated"))
    assert "spec.serving.thinking" in condition(said, "Ready")["message"]
    assert team.find("Deployment", "late") is None
    assert team.get("GemmaDeployment", "chat")["status"] == before["status"], "what runs goes on"
