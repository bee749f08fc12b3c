"""The plain yaml of an installation: least rights, restricted, and complete."""

from pathlib import Path

import pytest
import yaml
from kubernetes import client as models

from gemma_operator.apiserver import resources
from gemma_operator.controller.keyring import SEED_NAME
from gemma_operator.settings import OperatorSettings

ROOT = Path(__file__).parents[3]
BASE = ROOT / "manifests/base"


def objects():
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    files = [BASE / name for name in kustomization["resources"] if name.endswith(".yaml")]
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]


def of_kind(kind, name="gemma-operator"):
    """The only one of its kind, or the one of that name."""
    found = [document for document in objects() if document["kind"] == kind]
    return found[0] if len(found) == 1 else next(each for each in found if each["metadata"]["name"] == name)


def granted(role, name="gemma-operator"):
    """`resource.group` → verbs."""
    rights = {}
    for rule in of_kind(role, name)["rules"]:
        for resource in rule["resources"]:
            (group,) = rule["apiGroups"]
            rights.setdefault(f"{resource}.{group}".rstrip("."), set()).update(rule["verbs"])
    return rights


MADE = {"get", "list", "watch", "create", "patch", "delete"}


def test_the_operator_may_do_what_it_does_and_no_more():
    assert granted("ClusterRole") == {
        "gemmadeployments.gemma-operator.io": {"get", "list", "watch"},
        "acceleratorpools.gemma-operator.io": {"get", "list", "watch"},
        "gemmadeployments/status.gemma-operator.io": {"patch"},
        "acceleratorpools/status.gemma-operator.io": {"patch"},
        "gemmadeployments/finalizers.gemma-operator.io": {"update"},
        "nodes": {"list", "watch"},
        "pods": {"list", "watch", "delete"},
        "resourcequotas": {"list", "watch"},
        "limitranges": {"list", "watch"},
        "persistentvolumeclaims": {"list", "watch"},
        "nodepools.karpenter.sh": {"list", "watch"},
        "nodeclaims.karpenter.sh": {"list", "watch"},
        "computeclasses.cloud.google.com": {"list", "watch"},
        "resourceslices.resource.k8s.io": {"list", "watch"},
        "endpointslices.discovery.k8s.io": {"list", "watch"},
        "deployments.apps": MADE,
        "jobs.batch": MADE,
        "services": MADE,
        "serviceaccounts": MADE,
        "networkpolicies.networking.k8s.io": MADE,
        "poddisruptionbudgets.policy": MADE,
        "events.events.k8s.io": {"create", "list"},
        "customresourcedefinitions.apiextensions.k8s.io": {"get"},
    }


def test_the_lease_and_the_seed_are_its_own():
    assert granted("Role") == {
        "leases.coordination.k8s.io": {"create", "get", "update"},
        "secrets": {"create", "get"},
    }
    named = {
        (*rule["resources"], *rule["resourceNames"], *rule["verbs"])
        for rule in of_kind("Role")["rules"]
        if rule["verbs"] != ["create"]
    }
    assert named == {
        ("leases", OperatorSettings().lease_name, "get", "update"),
        ("secrets", SEED_NAME, "get"),
    }


ALL = {"create", "update", "patch", "delete", "deletecollection"}


@pytest.mark.parametrize(
    ("name", "rights"),
    [
        (
            "gemma-operator-view",
            {
                "gemmadeployments.gemma-operator.io": {"get", "list", "watch"},
                "gemmadeployments/status.gemma-operator.io": {"get"},
                "gemmadeployments/scale.gemma-operator.io": {"get"},
            },
        ),
        (
            "gemma-operator-edit",
            {
                "gemmadeployments.gemma-operator.io": ALL,
                "gemmadeployments/scale.gemma-operator.io": {"update", "patch"},
            },
        ),
    ],
)
def test_a_team_with_a_role_of_kubernetes_own_may_use_its_deployments_and_write_no_status(name, rights):
    assert granted("ClusterRole", name) == rights


def test_who_may_edit_may_view_and_who_may_view_may_not_edit():
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    into = {
        name: {
            label.removeprefix(prefix)
            for label, value in of_kind("ClusterRole", name)["metadata"]["labels"].items()
            if label.startswith(prefix) and value == "true"
        }
        for name in ("gemma-operator", "gemma-operator-view", "gemma-operator-edit")
    }
    assert into == {
        "gemma-operator": set(),
        "gemma-operator-view": {"view", "edit", "admin"},
        "gemma-operator-edit": {"edit", "admin"},
    }


@pytest.mark.parametrize("resource", resources.CHILDREN, ids=lambda resource: resource.kind)
def test_every_child_that_is_known_to_the_client_may_be_made(resource):
    assert granted("ClusterRole")[resource.full_name] == MADE


def test_no_right_is_a_wildcard_and_none_in_the_cluster_is_about_secrets():
    rules = [(document["kind"], rule) for document in objects() for rule in document.get("rules", ())]
    assert {kind for kind, _ in rules} == {"ClusterRole", "Role"}
    assert all("*" not in each for _, rule in rules for each in rule.values())
    assert all("secrets" not in rule["resources"] for kind, rule in rules if kind == "ClusterRole")


def test_of_crds_only_our_own_are_read():
    (rule,) = [
        rule for rule in of_kind("ClusterRole")["rules"] if "customresourcedefinitions" in rule["resources"]
    ]
    assert rule["resourceNames"] == [f"{resource.full_name}" for resource in resources.OURS]


@pytest.mark.parametrize("binding", ["ClusterRoleBinding", "RoleBinding"])
def test_the_rights_are_the_operators(binding):
    account = of_kind("ServiceAccount")["metadata"]
    (subject,) = of_kind(binding)["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert of_kind("Deployment")["spec"]["template"]["spec"]["serviceAccountName"] == account["name"]


def test_it_lives_where_its_settings_say():
    assert of_kind("Namespace")["metadata"]["name"] == OperatorSettings().namespace


def test_every_object_is_valid():
    for document in objects():
        getattr(models, f"V1{document['kind']}").model_validate(document)


def test_the_operators_pod_is_restricted():
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert of_kind("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_a_standby_takes_over():
    assert of_kind("Deployment")["spec"]["replicas"] == 2


def test_probes_and_prometheus_find_the_port():
    (container,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == OperatorSettings().metrics_port
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    (served,) = of_kind("Service")["spec"]["ports"]
    assert served["targetPort"] == port["name"]


def test_both_crds_come_with_it():
    assert "../../crds" in yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    listed = yaml.safe_load((ROOT / "crds/Kustomization").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in (ROOT / "crds").glob("*.yaml"))
