"""The keys by which the operator itself asks guarded endpoints, the same again after every restart.

One seed lies in a Secret of the operator's own namespace: the only one that it may read. The key of each deployment
is derived from it, so nothing has to be stored beside the endpoint, and a pod that sees the key it is asked with
learns nothing about another's. Of that key only the hash is in the pod: no right on anybody's Secrets is needed to
put it there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final

from gemma_operator.api import names
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import SECRETS
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.controller.startup import CannotStart
from gemma_operator.errors import Conflict, Forbidden, NotFound

SEED_NAME: Final = "gemma-operator-probe-seed"
_SEED_KEY: Final = "seed"
_SEED_BYTES: Final = 32


class Keyring:
    """`load` once, then `key_of` for ever."""

    def __init__(self, client: Client, *, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._seed = b""

    async def load(self) -> None:
        """Read the seed, made where there is none; of two replicas that make it at once one reads the other's.

        Raises CannotStart, which says what is missing.
        """
        place = f"Secret {self._namespace}/{SEED_NAME}"
        try:
            self._seed = _seed_of(await self._read_or_make(), place=place)
        except NotFound as error:
            raise CannotStart(
                f"there is no namespace {self._namespace} for the operator's own Secret: "
                f"`kubectl create namespace {self._namespace}`, or name another one with --namespace"
            ) from error
        except Forbidden as error:
            raise CannotStart(
                f"missing rights: {error}. Bind the operator's Role in {self._namespace}"
            ) from error

    def key_of(self, key: Key) -> str:
        """By name and not by uid: an endpoint that outlives its object and is adopted needs no new pods."""
        assert self._seed, "asked before it was loaded"
        return hmac.digest(self._seed, f"probe {key}".encode(), hashlib.sha256).hex()

    async def _read_or_make(self) -> Mapping[str, Any]:
        for _ in range(2):
            try:
                return await self._client.get(SECRETS, namespace=self._namespace, name=SEED_NAME)
            except NotFound:
                try:
                    return await self._client.create(SECRETS, _new_seed(self._namespace))
                except Conflict:
                    continue
        raise CannotStart(f"Secret {self._namespace}/{SEED_NAME} comes and goes: what removes it?")


def _seed_of(secret: Mapping[str, Any], *, place: str) -> bytes:
    try:
        seed = base64.b64decode((secret.get("data") or {})[_SEED_KEY], validate=True)
    except (KeyError, binascii.Error):
        seed = b""
    if len(seed) < _SEED_BYTES:
        raise CannotStart(
            f"{place} holds no seed of {_SEED_BYTES} bytes under {_SEED_KEY!r}: delete it, and a new one is made; "
            "guarded endpoints are then rolled out once"
        )
    return seed


def _new_seed(namespace: str) -> dict[str, Any]:
    seed = base64.b64encode(secrets.token_bytes(_SEED_BYTES)).decode()
    labels = {names.NAME_LABEL: names.MANAGED_BY, names.MANAGED_BY_LABEL: names.MANAGED_BY}
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": SEED_NAME, "namespace": namespace, "labels": labels},
        "type": "Opaque",
        # another seed would be another key for every guarded endpoint
        "immutable": True,
        "data": {_SEED_KEY: seed},
    }
