"""The operator's own keys: one seed in its own namespace, the same keys after every start."""

from __future__ import annotations

import asyncio
import base64

import pytest

from fakes.kubeapi import Fault, KubeApi
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import SECRETS
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.keyring import SEED_NAME, Keyring
from gemma_operator.controller.startup import CannotStart
from gemma_operator.errors import Unreachable

CHAT = Key("team-a", "chat")
NAMESPACE = "gemma-system"


async def a_keyring(client):
    keyring = Keyring(client, namespace=NAMESPACE)
    await keyring.load()
    return keyring


def writes(api):
    return [(method, path) for method, path, _ in api.requests if method != "GET"]


async def test_a_restart_finds_the_same_key_and_writes_nothing(api, client):
    first = (await a_keyring(client)).key_of(CHAT)
    assert writes(api) == [("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets")]
    assert (await a_keyring(client)).key_of(CHAT) == first
    assert len(writes(api)) == 1


async def test_every_deployment_has_a_key_of_256_bits_of_its_own(client):
    keyring = await a_keyring(client)
    keys = {
        keyring.key_of(Key(namespace, name))
        for namespace, name in [("a", "b"), ("a", "c"), ("d", "b"), ("a-b", "c"), ("a", "b-c")]
    }
    assert len(keys) == 5
    assert {len(bytes.fromhex(key)) for key in keys} == {32}


async def test_another_cluster_has_other_keys(client):
    first = (await a_keyring(client)).key_of(CHAT)
    async with KubeApi().serve() as other:
        holder = SessionHolder(other.connection)
        assert (await a_keyring(Client(holder))).key_of(CHAT) != first
        await holder.close()


async def test_the_seed_cannot_be_changed_by_mistake(client):
    await a_keyring(client)
    secret = await client.get(SECRETS, namespace=NAMESPACE, name=SEED_NAME)
    assert secret["immutable"] is True
    assert len(base64.b64decode(secret["data"]["seed"])) == 32


async def test_two_replicas_that_start_at_once_agree(client):
    one, other = await asyncio.gather(a_keyring(client), a_keyring(client))
    assert one.key_of(CHAT) == other.key_of(CHAT)


@pytest.mark.parametrize("data", [None, {}, {"seed": ""}, {"seed": "c2hvcnQ="}, {"seed": "%%"}])
async def test_a_seed_that_is_none_is_refused_with_the_remedy(client, data):
    metadata = {"name": SEED_NAME, "namespace": NAMESPACE}
    await client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    with pytest.raises(CannotStart, match=rf"Secret {NAMESPACE}/{SEED_NAME} holds no seed.*delete it"):
        await a_keyring(client)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_right_that_is_missing_is_named(api, client, times):
    # the first is asked for reading, the second for making
    faults = [Fault(404, path_part="/secrets/", message="no"), Fault(403, path_part="/secrets", message="no")]
    api.faults.extend(faults[2 - times :])
    with pytest.raises(CannotStart, match=r"missing rights: .* secrets .*Bind the operator's Role"):
        await a_keyring(client)


async def test_a_namespace_that_is_missing_is_named(api, client):
    api.missing_namespaces.add(NAMESPACE)
    with pytest.raises(CannotStart, match=f"kubectl create namespace {NAMESPACE}.*--namespace"):
        await a_keyring(client)


async def test_a_server_that_does_not_answer_is_said_as_such(api, client):
    await api.close()
    with pytest.raises(Unreachable):
        await a_keyring(client)


def test_it_shows_nothing_before_it_was_loaded():
    with pytest.raises(AssertionError):
        Keyring(None, namespace=NAMESPACE).key_of(CHAT)
