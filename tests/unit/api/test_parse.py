"""What the command line says of bad manifests without a server, and what it makes of good ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_operator.api import owned
from gemma_operator.api.base import ApiModel
from gemma_operator.api.implemented import not_implemented_fields
from gemma_operator.api.parse import parse_deployment, parse_pool, unknown_fields
from gemma_operator.api.v1alpha1 import AcceleratorPool, GemmaDeployment, Modality, ToolCalling, Variant
from gemma_operator.errors import InvalidSpec
from manifest_tables import Case, accepted_cases, bad_cases, samples


def parse(manifest: dict[str, Any]) -> GemmaDeployment | AcceleratorPool:
    return parse_pool(manifest) if manifest["kind"] == "AcceleratorPool" else parse_deployment(manifest)


def a_deployment(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "gemma-operator.io/v1alpha1",
        "kind": "GemmaDeployment",
        "metadata": {"name": "chat"},
        "spec": spec,
    }


def words_of(node: Any) -> Iterator[str]:
    """Every key of every manifest of the table."""
    if isinstance(node, dict):
        yield from node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from words_of(child)


def field_refused(manifest: dict[str, Any]) -> str | None:
    """The field that is refused, or None where the manifest is accepted."""
    try:
        parse_deployment(manifest)
    except InvalidSpec as refused:
        return refused.field
    return None


def strict(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.by == "strict"]


@pytest.mark.parametrize("case", [case for case in bad_cases() if case.by != "strict"], ids=str)
def test_what_the_server_refuses_is_refused_at_the_same_field(case: Case):
    with pytest.raises(InvalidSpec) as refused:
        parse(case.manifest)

    assert refused.value.field == case.field
    assert refused.value.message
    if case.by == "rule":
        assert case.remedy in refused.value.message


def test_every_rule_is_proved_by_a_row_of_the_table():
    said = set()
    for case in bad_cases():
        if case.by == "rule":
            with pytest.raises(InvalidSpec) as refused:
                parse(case.manifest)
            said.add(refused.value.message)

    rules = {rule for kind in ApiModel.__subclasses__() for rule in kind.rules if rule.holds is not None}
    assert {rule.message for rule in rules} - said == set()


@pytest.mark.parametrize("case", strict(bad_cases()), ids=str)
def test_an_unknown_field_is_ignored_but_can_be_named(case: Case):
    parse(case.manifest)

    assert unknown_fields(case.manifest) == (case.field,)


@pytest.mark.parametrize("case", [*accepted_cases(), *samples()], ids=str)
def test_what_the_server_accepts_is_parsed(case: Case):
    assert parse(case.manifest).metadata.name == case.manifest["metadata"]["name"]
    assert unknown_fields(case.manifest) == ()


def test_the_samples_cover_what_people_write():
    shipped = [parse(case.manifest) for case in samples()]

    assert sum(isinstance(sample, GemmaDeployment) for sample in shipped) >= 8
    assert sum(isinstance(sample, AcceleratorPool) for sample in shipped) >= 2
    assert len({(type(sample), sample.metadata.name) for sample in shipped}) == len(shipped)


def test_a_sample_uses_nothing_that_is_not_there():
    for case in samples():
        sample = parse(case.manifest)
        if isinstance(sample, GemmaDeployment):
            assert not_implemented_fields(sample.spec) == (), case.name


def test_a_schema_error_says_what_the_field_is_for():
    with pytest.raises(InvalidSpec) as refused:
        parse_deployment(a_deployment(serving={"contextLength": "32k"}))

    assert str(refused.value).startswith(
        "spec.serving.contextLength: must be an integer. Tokens in one request"
    )


def test_a_null_is_as_good_as_nothing():
    nulls = {"access": None, "replicas": None, "model": {"source": None, "variants": None}, "serving": None}

    deployment = parse_deployment(a_deployment(**nulls))

    assert deployment.spec == parse_deployment(a_deployment(model={})).spec
    assert not deployment.spec.writes("serving")


def test_a_null_in_a_list_is_refused():
    with pytest.raises(InvalidSpec) as refused:
        parse_deployment(a_deployment(serving={"modalities": [None]}))

    assert refused.value.field == "spec.serving.modalities[0]"


def test_another_kind_is_refused():
    with pytest.raises(InvalidSpec, match="kind: must be GemmaDeployment, not Deployment"):
        parse_deployment(a_deployment() | {"kind": "Deployment"})


def test_an_object_without_a_name_is_refused():
    with pytest.raises(InvalidSpec) as refused:
        parse_deployment(a_deployment() | {"metadata": {}})

    assert refused.value.field == "metadata.name"


def test_a_status_of_a_newer_operator_does_not_stop_this_one():
    deployment = parse_deployment(a_deployment() | {"status": {"replicas": "many"}})

    assert deployment.status is None


def test_an_empty_spec_is_all_defaults():
    deployment = parse_deployment(a_deployment())

    assert deployment.spec.model.variants == tuple(Variant)
    assert deployment.spec.replicas == 1
    assert deployment.spec.serving.context_length is None
    assert deployment.spec.tool_calling is ToolCalling.ENABLED
    assert deployment.model_name == "chat"


def test_base_weights_call_no_tools():
    deployment = parse_deployment(a_deployment(model={"tuning": "Base"}))

    assert deployment.spec.tool_calling is ToolCalling.DISABLED


def test_text_is_always_served():
    deployment = parse_deployment(a_deployment(serving={"modalities": ["audio"]}))

    assert deployment.spec.serving.effective_modalities == {Modality.TEXT, Modality.AUDIO}


WORDS = sorted({word for case in [*bad_cases(), *accepted_cases()] for word in words_of(case.manifest)})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(WORDS),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.sampled_from(WORDS), child, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(spec=JSON, metadata=st.just({"name": "chat"}) | JSON)
def test_whatever_stands_there_the_answer_is_a_model_or_a_named_field(spec: Any, metadata: Any):
    field = field_refused({"kind": "GemmaDeployment", "metadata": metadata, "spec": spec})

    assert field is None or field.startswith(("spec", "metadata"))


@settings(deadline=None)
@given(
    flag=st.sampled_from(owned.OWNED_FLAGS),
    length=st.integers(min_value=1, max_value=30),
    negated=st.booleans(),
    underscores=st.booleans(),
    tail=st.sampled_from(["", "=1", ".key", ".key+=1"]),
)
def test_every_spelling_of_an_owned_flag_is_owned(
    flag: str, length: int, negated: bool, underscores: bool, tail: str
):
    written = ("--no-" if negated else "--") + flag[:length]

    assert owned.is_owned_argument(
        (written.replace("-", "_") if underscores else written).replace("__", "--", 1) + tail
    )


@pytest.mark.parametrize(
    "item", ["", "-", "1", "-1", "-0.5", "port", "--seed", "--enforce-eager", '{"model": 1}']
)
def test_values_and_free_flags_are_the_users(item: str):
    assert not owned.is_owned_argument(item)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"model": {"variants": []}}, "spec.model.variants: must have at least 1 item, not 0. Sizes"),
        (
            {"hardware": {"pools": [f"a{n}" for n in range(33)]}},
            "pools: must have at most 32 items, not 33. ",
        ),
        (
            {"hardware": {"nodeSelector": {f"a{n}": "b" for n in range(33)}}},
            "nodeSelector: must have at most 32 items",
        ),
    ],
)
def test_how_many_there_may_be_is_said_without_words_of_python(spec, says):
    with pytest.raises(InvalidSpec) as refused:
        parse_deployment({"metadata": {"name": "x"}, "spec": spec})
    assert says in str(refused.value)
