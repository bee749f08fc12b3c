"""What differs between a manifest and what stands, by the path that people write, and who has it."""

import copy

import pytest

from gemma_operator.backends.kubernetes.differences import Changed, by_others, within_our_request
from snapshots import manifests_for

OURS = {"manager": "gemma-operator", "operation": "Apply"}


def the(kind):
    return next(manifest for manifest in manifests_for() if manifest["kind"] == kind)


def set_of(value):
    """Every leaf, lists as the server notes atomic ones but for the ports of a Service."""
    if isinstance(value, dict):
        return {f"f:{key}": set_of(below) for key, below in value.items()}
    if isinstance(value, list) and value and "targetPort" in value[0]:
        return {'k:{"port":8000,"protocol":"TCP"}': set_of(value[0])}
    return {}


def standing(manifest, **others):
    """As the server has it; `others` are managers and what they own."""
    owned = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: manifest["metadata"][key] for key in ("labels", "annotations", "ownerReferences")}
    entries = [{**OURS, "fieldsV1": set_of({**owned, "metadata": metadata})}]
    entries += [
        {"manager": name, "operation": "Update", "time": f"2026-11-25T09:0{place}:00Z", "fieldsV1": fields}
        for place, (name, fields) in enumerate(others.items())
    ]
    live = copy.deepcopy(dict(manifest))
    live["metadata"]["managedFields"] = entries
    return live


def test_what_stands_as_it_was_sent_differs_in_nothing():
    for manifest in manifests_for():
        assert within_our_request(manifest, standing(manifest)) == Changed()


def test_what_admission_changes_is_named_by_its_path_and_nobody_has_it():
    service = the("Service")
    answer = standing(service)
    answer["spec"]["ports"][0]["targetPort"] = 9999
    assert within_our_request(service, answer) == Changed(("spec.ports[http].targetPort",))


def test_what_admission_adds_to_a_list_of_ours_is_a_change_of_the_list():
    policy = the("NetworkPolicy")
    answer = standing(policy)
    answer["spec"]["ingress"].append({})
    assert within_our_request(policy, answer).fields == ("spec.ingress",)


def test_a_container_that_admission_adds_is_not_ours():
    deployment = the("Deployment")
    answer = standing(deployment)
    pod = answer["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]
    pod["f:containers"] = {'k:{"name":"engine"}': {}}
    answer["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    assert within_our_request(deployment, answer) == Changed()


@pytest.mark.parametrize(
    ("owned", "manager"),
    [
        ({"f:spec": {"f:replicas": {}}}, "vpa"),
        ({"f:spec": {}}, "vpa"),
        ({"f:metadata": {}}, "late"),
    ],
    ids=["the field", "what is above it", "nothing of it: whoever wrote last"],
)
def test_what_somebody_changed_is_named_with_its_manager(owned, manager):
    deployment = the("Deployment")
    live = standing(deployment, vpa=owned, late={"f:metadata": {}})
    live["spec"]["replicas"] = 7
    assert by_others(deployment, live) == Changed(("spec.replicas",), (manager,))


def test_whoever_told_no_name_is_said_to_have_none():
    service = the("Service")
    live = standing(service, somebody={"f:spec": {"f:ports": {}}})
    live["spec"]["ports"][0]["targetPort"] = 9999
    del live["metadata"]["managedFields"][-1]["manager"]
    assert by_others(service, live) == Changed(("spec.ports[http].targetPort",), ("(unnamed)",))


def test_the_item_of_a_list_is_found_by_its_keys():
    service = the("Service")
    theirs = {"f:spec": {"f:ports": {'k:{"port":8000,"protocol":"TCP"}': {"f:targetPort": {}}}}}
    other = {"f:spec": {"f:ports": {'k:{"port":9000,"protocol":"TCP"}': {"f:targetPort": {}}}}}
    live = standing(service, kubectl=theirs, mesh=other)
    live["spec"]["ports"][0] = {**live["spec"]["ports"][0], "targetPort": 9999, "protocol": "TCP"}
    assert by_others(service, live) == Changed(("spec.ports[http].targetPort",), ("kubectl",))


def test_who_writes_the_status_changes_no_field_of_ours():
    deployment = the("Deployment")
    live = standing(deployment)
    live["metadata"]["managedFields"].append(
        {"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {}}
    )
    live["spec"]["replicas"] = 7
    assert by_others(deployment, live).managers == ()


def test_a_label_is_written_in_brackets():
    service = the("Service")
    live = standing(service)
    live["metadata"]["labels"]["app.kubernetes.io/name"] = "x"
    assert by_others(service, live).fields == ("metadata.labels[app.kubernetes.io/name]",)
