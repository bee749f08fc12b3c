"""A fake API server and a client that talks to it, for whoever asks for them.

Nothing is asserted by the clock: an example that takes long on a busy machine is no failure of a property.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import settings

from fakes.kubeapi import KubeApi
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.session import SessionHolder

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    async with KubeApi().serve() as server:
        yield server


@pytest.fixture
async def holder(api: KubeApi) -> AsyncIterator[SessionHolder]:
    holder = SessionHolder(api.connection)
    yield holder
    await holder.close()


@pytest.fixture
def client(holder: SessionHolder) -> Client:
    return Client(holder)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    async def wait(condition: Callable[[], object]) -> None:
        """Gives the loop turns until the condition holds; the limit only ends a test that failed."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.001)

    return wait
