"""What an older CRD would prune is found, field by field."""

import copy

from gemma_operator.api.crd import gemma_deployment_crd
from gemma_operator.controller.schema import gaps


def served_without(*path):
    crd = copy.deepcopy(gemma_deployment_crd())
    node = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path[:-1]:
        node = node["properties"][name]
    del node["properties"][path[-1]]
    return crd


def test_the_crd_of_this_version_has_no_gaps():
    assert gaps(gemma_deployment_crd(), gemma_deployment_crd()) == ()


def test_a_field_that_the_server_does_not_know_is_named():
    assert gaps(served_without("spec", "serving", "thinking"), gemma_deployment_crd()) == (
        "spec.serving.thinking",
    )


def test_a_whole_branch_is_named_once():
    assert gaps(served_without("spec", "autoscaling"), gemma_deployment_crd()) == ("spec.autoscaling",)


def test_a_field_inside_a_list_is_found():
    crd = copy.deepcopy(gemma_deployment_crd())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    del spec["properties"]["hardware"]["properties"]["tolerations"]["items"]["properties"]["operator"]
    assert gaps(crd, gemma_deployment_crd()) == ("spec.hardware.tolerations[].operator",)


def test_a_newer_crd_has_no_gaps_for_an_older_operator():
    newer = copy.deepcopy(gemma_deployment_crd())
    root = newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    root["properties"]["fromTheFuture"] = {"type": "string"}
    assert gaps(newer, gemma_deployment_crd()) == ()
