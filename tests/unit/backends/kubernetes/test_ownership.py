"""What is ours of a live object hashes to what was sent: held against answers of a real API server."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.api import names
from gemma_operator.backends.kubernetes.ownership import digest, manifest_hash, owned_hash, projected, sealed

RECORDED = Path(__file__).parents[3] / "data/ssa"
#: Recorded right after the apply, nothing done to them.
FRESH = sorted(path.stem for path in RECORDED.glob("*.json") if path.stem.startswith(("plain-", "rich-")))


def recorded(name):
    record = json.loads((RECORDED / f"{name}.json").read_text())
    return record["sent"], record["answer"]


def test_every_kind_was_recorded():
    kinds = {recorded(name)[0]["kind"] for name in FRESH}
    assert kinds == {"ServiceAccount", "Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment"}


@pytest.mark.parametrize("name", FRESH)
def test_what_was_applied_stands(name):
    sent, answer = recorded(name)
    assert owned_hash(answer) == manifest_hash(sent) == sent["metadata"]["annotations"][names.APPLIED_HASH]


@pytest.mark.parametrize("name", FRESH)
def test_the_servers_defaults_and_others_fields_do_not_show(name):
    sent, answer = recorded(name)
    assert answer["metadata"]["creationTimestamp"]  # the answer holds more than was sent
    answer["spec"] = {**answer.get("spec", {}), "setByTheServer": 1}
    answer["metadata"]["labels"]["set-by"] = "others"
    assert owned_hash(answer) == manifest_hash(sent)


@pytest.mark.parametrize("name", ["deployment-annotated-by-others", "deployment-with-a-sidecar"])
def test_what_others_add_is_theirs(name):
    sent, answer = recorded(name)
    assert owned_hash(answer) == manifest_hash(sent)


@pytest.mark.parametrize(
    "name",
    [
        "deployment-scaled-by-hand",
        "deployment-env-edited",
        "service-ports-replaced",
        "networkpolicy-opened",
    ],
)
def test_a_field_of_ours_that_somebody_took_is_drift(name):
    sent, answer = recorded(name)
    assert owned_hash(answer) != manifest_hash(sent)


def test_an_object_that_we_never_applied_is_nothing_of_ours():
    _, answer = recorded("plain-service")
    answer["metadata"]["managedFields"][0]["manager"] = "kubectl"
    assert owned_hash(answer) == ""


def test_an_update_under_our_name_is_not_an_apply():
    _, answer = recorded("plain-service")
    answer["metadata"]["managedFields"][0]["operation"] = "Update"
    assert owned_hash(answer) == ""


def test_a_status_of_ours_is_not_the_object():
    _, answer = recorded("plain-service")
    entry = {
        "manager": names.FIELD_MANAGER,
        "operation": "Apply",
        "subresource": "status",
        "fieldsV1": {"f:status": {}},
    }
    before = owned_hash(answer)
    answer["metadata"]["managedFields"].insert(0, entry)
    assert owned_hash(answer) == before


def test_the_seal_does_not_seal_itself():
    sent, _ = recorded("plain-service")
    assert sealed(sent)["metadata"]["annotations"] == sent["metadata"]["annotations"]


def test_who_an_object_is_does_not_matter_what_it_says_does():
    sent, _ = recorded("plain-service")
    known = {**sent, "metadata": {**sent["metadata"], "uid": "1", "namespace": "other"}}
    moved = {**sent, "spec": {**sent["spec"], "ports": []}}
    assert manifest_hash(known) == manifest_hash(sent) != manifest_hash(moved)


def test_items_of_a_list_are_found_by_their_keys():
    ports = [{"name": "mine", "port": 8000, "nodePort": 1}, {"name": "theirs", "port": 9}]
    fields = {'k:{"port":8000}': {".": {}, "f:name": {}, "f:port": {}}}
    assert projected(ports, fields) == [{"name": "mine", "port": 8000}]


def test_items_of_a_set_are_found_by_their_value():
    assert projected(["a", "b"], {'v:"b"': {}}) == ["b"]


def test_owning_only_that_a_map_exists_is_owning_nothing_in_it():
    assert projected({"labels": {"theirs": "1"}}, {"f:labels": {".": {}}}) == {"labels": {}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def fields_of(value):
    """The fieldsV1 set that owns all of a value: maps by field, everything else whole."""
    return {f"f:{key}": fields_of(below) for key, below in value.items()} if isinstance(value, dict) else {}


@given(
    ours=st.dictionaries(st.text(max_size=5), JSON, max_size=4),
    theirs=st.dictionaries(st.text(max_size=5), JSON),
)
def test_the_projection_onto_our_fields_is_what_we_sent(ours, theirs):
    live = {**{f"other-{key}": value for key, value in theirs.items()}, **ours}
    assert not ours or projected(live, fields_of(ours)) == ours


@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_a_hash_does_not_depend_on_the_order_of_keys(value):
    assert digest(dict(reversed(value.items()))) == digest(value)
