"""A spec is read once a generation, and one that cannot be read is an answer."""

from __future__ import annotations

import pytest

from gemma_operator.controller import inputs as inputs_module
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.settings import OperatorSettings
from unit.controller.builders import a_gd


@pytest.fixture
def reads(monkeypatch):
    """Uids and generations that were parsed."""
    seen = []
    parse = inputs_module.parse_deployment

    def counted(obj):
        seen.append((obj["metadata"]["uid"], obj["metadata"]["generation"]))
        return parse(obj)

    monkeypatch.setattr(inputs_module, "parse_deployment", counted)
    return seen


def test_a_spec_is_read_once_for_each_generation_and_object(reads):
    inputs = InputsOf(OperatorSettings())
    first = inputs(a_gd(generation=1))
    assert inputs(a_gd(generation=1)) is first
    assert inputs(a_gd(generation=2)) is not first
    inputs(a_gd(uid="another", generation=2))
    assert reads == [("uid-chat", 1), ("uid-chat", 2), ("another", 2)]


def test_what_went_is_forgotten(reads):
    inputs = InputsOf(OperatorSettings())
    inputs(a_gd())
    inputs.forget("uid-chat")
    inputs.forget("never-was")
    inputs(a_gd())
    assert len(reads) == 2


def test_the_request_is_of_the_spec_and_its_namespace():
    read = InputsOf(OperatorSettings())(a_gd(serving={"contextLength": 8192}))
    assert (read.request.namespace, read.request.variants) == ("team", ("E4B",))
    assert read.request.context_length == 8192
    assert read.deployment.spec.serving.context_length == 8192
    assert (read.error, read.unknown_arguments) == ("", ())
    assert len(read.inputs_hash) == 16


def test_other_replicas_are_the_same_inputs_and_another_context_is_not():
    inputs = InputsOf(OperatorSettings())
    one, many = (inputs(a_gd(uid=str(n), replicas=n)).inputs_hash for n in (1, 7))
    assert one == many
    assert one != inputs(a_gd(uid="8k", serving={"contextLength": 8192})).inputs_hash


def test_the_engines_default_version_is_the_operators_setting():
    assert InputsOf(OperatorSettings(default_engine_version="0.31"))(a_gd()).request.engine_version == "0.31"
    assert InputsOf(OperatorSettings())(a_gd()).request.engine_version == "0.32"


def test_an_argument_that_sizes_the_engine_is_an_input_and_an_unknown_one_is_named():
    arguments = ["--block-size=32", "--never-heard-of=1"]
    read = InputsOf(OperatorSettings())(a_gd(serving={"engine": {"name": "VLLM", "extraArgs": arguments}}))
    assert read.unknown_arguments == ("--never-heard-of",)
    assert dict(read.request.engine_overrides)
    assert read.inputs_hash != InputsOf(OperatorSettings())(a_gd()).inputs_hash


def test_a_spec_that_cannot_be_read_says_why_and_asks_for_nothing():
    read = InputsOf(OperatorSettings())(a_gd(replicas="many"))
    assert (read.deployment, read.request, read.inputs_hash, read.unknown_arguments) == (None, None, "", ())
    assert "spec.replicas" in read.error
