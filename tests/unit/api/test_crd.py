"""The CRDs without a server: the rules of structural schemas, bounds, and what api.md promises of them."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gemma_operator.api import crd
from gemma_operator.api.base import ApiModel
from gemma_operator.api.v1alpha1 import AcceleratorPool, GemmaDeployment, GemmaDeploymentSpec

FORBIDDEN = {
    "$ref", "$defs", "definitions", "dependencies", "deprecated", "discriminator", "id", "patternProperties",
    "readOnly", "writeOnly", "xml", "title", "examples", "const", "prefixItems", "uniqueItems", "nullable",
    "exclusiveMinimum", "exclusiveMaximum", "oneOf", "allOf", "not",
}  # fmt: skip
DEPLOYMENT, POOL = crd.all_crds()


def root(definition: dict[str, Any]) -> dict[str, Any]:
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}[*]")


def at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.strip(".").split("."):
        schema = schema["properties"][step]
    return schema


both = pytest.mark.parametrize("definition", [DEPLOYMENT, POOL], ids=["GemmaDeployment", "AcceleratorPool"])


@both
def test_every_node_is_structural(definition: dict[str, Any]):
    for path, node in nodes(root(definition)):
        assert FORBIDDEN.isdisjoint(node), path
        assert node.get("type") or node.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("additionalProperties") is not False, path
        assert set(node.get("required", ())) <= set(node.get("properties", ())), path
        for member in node.get("anyOf", ()):
            assert node.get("x-kubernetes-int-or-string"), path
            assert set(member) == {"type"}, path


@both
def test_everything_has_a_bound(definition: dict[str, Any]):
    for path, node in nodes(root(definition)):
        if not path.startswith((".spec", ".status")):
            continue
        if node.get("type") == "array":
            assert "maxItems" in node, path
            assert node["x-kubernetes-list-type"] in {"set", "map", "atomic"}, path
        elif "additionalProperties" in node:
            assert "maxProperties" in node, path
        elif node.get("type") == "string":
            assert {"maxLength", "enum", "format"} & set(node), path
        elif node.get("type") == "integer":
            assert "minimum" in node or path.endswith("MiB"), path
        assert node.get("type") != "number", f"{path}: floats are not stored"


@both
def test_patterns_are_anchored_and_compile(definition: dict[str, Any]):
    for path, node in nodes(root(definition)):
        if "pattern" in node:
            re.compile(node["pattern"])
            assert node["pattern"].startswith("^"), path
            assert node["pattern"].endswith("$"), path


@both
def test_every_field_is_described_in_a_sentence(definition: dict[str, Any]):
    for path, node in nodes(root(definition)):
        if path.startswith((".spec", ".status")) and not path.endswith(("[]", "[*]")):
            assert node["description"][0].isupper(), path
            assert node["description"].endswith("."), path


@both
def test_rules_name_the_remedy_and_an_existing_field(definition: dict[str, Any]):
    for path, node in nodes(root(definition)):
        for rule in node.get("x-kubernetes-validations", ()):
            assert set(rule) <= {"rule", "message", "fieldPath", "reason"}, path
            assert ":" in rule["message"] or "needs" in rule["message"] or "must be" in rule["message"], path
            if "fieldPath" in rule:
                at(node, rule["fieldPath"])


def test_enum_values_are_words_and_no_yaml_booleans():
    for path, node in nodes(root(DEPLOYMENT)):
        for value in node.get("enum", ()):
            assert value.lower() not in {"on", "off", "yes", "no", "true", "false", "y", "n"}, path


def test_the_only_defaults_are_the_three_documented_ones():
    defaults = {path: node["default"] for path, node in nodes(root(DEPLOYMENT)) if "default" in node}

    assert defaults == {".spec.replicas": 1, ".spec.suspend": False, ".status": {"observedGeneration": -1}}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("spec.model.variants", "atomic"),
        ("spec.model.precisions", "atomic"),
        ("spec.placement.backends", "atomic"),
        ("spec.serving.modalities", "set"),
        ("spec.hardware.pools", "set"),
        ("spec.hardware.accelerators", "set"),
        ("spec.vertex.machineTypes", "set"),
        ("spec.access.gateway.hostnames", "set"),
        ("spec.access.allowedNamespaces", "set"),
        ("spec.model.adapters", "map"),
        ("spec.serving.engine.env", "map"),
        ("spec.pod.imagePullSecrets", "map"),
        ("status.conditions", "map"),
        ("status.startup", "map"),
        ("spec.hardware.tolerations", "atomic"),
        ("spec.serving.engine.extraArgs", "atomic"),
        ("spec.access.gateway.parentRefs", "atomic"),
        ("status.alternatives", "atomic"),
    ],
)
def test_lists_merge_as_documented(path: str, kind: str):
    assert at(root(DEPLOYMENT), path)["x-kubernetes-list-type"] == kind


@both
def test_only_the_spec_is_required(definition: dict[str, Any]):
    assert root(definition)["required"] == ["spec"]


def test_the_spec_may_be_empty():
    assert "required" not in at(root(DEPLOYMENT), "spec")
    assert GemmaDeploymentSpec().model_fields_set == set()


@both
def test_a_definition_fits_an_annotation_of_kubectl_apply(definition: dict[str, Any]):
    assert len(crd.to_yaml(definition)) < 131072


def test_the_deployment_can_be_scaled():
    assert DEPLOYMENT["spec"]["versions"][0]["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


def test_names_and_scopes():
    assert DEPLOYMENT["spec"]["scope"] == "Namespaced"
    assert DEPLOYMENT["spec"]["names"]["shortNames"] == ["gd"]
    assert DEPLOYMENT["spec"]["names"]["categories"] == ["gemma"]
    assert POOL["spec"]["scope"] == "Cluster"


def test_the_text_is_the_same_each_time():
    assert crd.files() == crd.files()
    assert all(text.startswith("# generated by gemma-operator crd") for text in crd.files().values())


@pytest.mark.parametrize("model", [GemmaDeployment, AcceleratorPool])
def test_every_rule_but_those_of_a_change_has_a_twin(model: type[ApiModel]):
    for kind in ApiModel.__subclasses__():
        for rule in kind.rules:
            assert (rule.holds is None) == ("oldSelf" in rule.cel), rule.message
    assert model in ApiModel.__subclasses__()
