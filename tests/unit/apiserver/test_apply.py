"""Writing under our field managers, and reading what was written at once."""

from __future__ import annotations

import pytest

from gemma_operator.apiserver.apply import Writer
from gemma_operator.apiserver.resources import GEMMA_DEPLOYMENTS, SERVICES
from gemma_operator.errors import Conflict, NotFound


def a_service(**metadata):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "team", "name": "chat", **metadata},
    }


@pytest.fixture
def answers():
    return []


@pytest.fixture
def writer(client, answers):
    return Writer(client, answers={"Service": answers.append, "GemmaDeployment": answers.append})


async def test_an_answer_goes_into_its_table(api, writer, answers):
    await writer.apply(a_service())
    assert [answer["metadata"]["resourceVersion"] for answer in answers] == [str(api.version)]


async def test_what_is_not_known_to_be_ours_is_never_forced(api, writer):
    await writer.apply(a_service())
    assert api.requests[-1][2] == "fieldManager=gemma-operator&force=false"


async def test_a_known_child_is_forced_and_must_be_that_very_one(api, writer):
    made = await writer.apply(a_service())
    await writer.apply(a_service(labels={"a": "b"}), uid=made["metadata"]["uid"])
    assert api.requests[-1][2] == "fieldManager=gemma-operator&force=true"
    with pytest.raises(Conflict):
        await writer.apply(a_service(labels={"a": "c"}), uid="of one that went")


async def test_the_status_has_a_manager_of_its_own(api, writer, answers):
    api.put(GEMMA_DEPLOYMENTS, "chat", namespace="team", spec={})
    await writer.apply_status(
        {
            "apiVersion": GEMMA_DEPLOYMENTS.api_version,
            "kind": "GemmaDeployment",
            "metadata": {"namespace": "team", "name": "chat"},
            "status": {"replicas": 1},
        }
    )
    assert "fieldManager=gemma-operator-status" in api.requests[-1][2]
    assert answers[-1]["status"] == {"replicas": 1}


async def test_a_delete_is_by_uid(api, writer):
    api.put(SERVICES, "chat", namespace="team")
    with pytest.raises(Conflict):
        await writer.delete("Service", namespace="team", name="chat", uid="another")


async def test_a_stranger_is_read_past_the_cache(api, writer):
    with pytest.raises(NotFound):
        await writer.read("Service", namespace="team", name="chat")
    api.put(SERVICES, "chat", namespace="team", spec={"theirs": True})
    assert (await writer.read("Service", namespace="team", name="chat"))["spec"] == {"theirs": True}


async def test_a_kind_without_an_address_is_a_mistake_of_ours(writer):
    with pytest.raises(KeyError, match="BY_KIND"):
        await writer.read("Unheard", namespace="team", name="chat")
