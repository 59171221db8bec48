"""A new master secret is used once it is kept."""

from __future__ import annotations

import asyncio
import datetime
import time

import pytest

from vk_provider.agentclient import rotation
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.agentclient.rotation import run_rotation
from vk_provider.errors import KubeApiError

TTL_S = 3600.0


class Store:
    """Saves at the second try."""

    def __init__(self) -> None:
        self.tries = 0
        self.saved: ProviderIdentity | None = None

    async def load_or_create(self) -> ProviderIdentity:
        raise AssertionError("a rotation reads nothing")

    async def save(self, identity: ProviderIdentity) -> None:
        self.tries += 1
        if self.tries == 1:
            raise KubeApiError(0, "Unreachable", "no answer")
        self.saved = identity


async def test_a_master_secret_that_cannot_be_saved_is_not_used_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rotation, "RETRY_S", 0.0)
    store, identity = Store(), ProviderIdentity.create(datetime.datetime.now(datetime.UTC))
    identity.rotated_at = time.time() - 10 * TTL_S
    first = identity.master_secrets[-1]
    task = asyncio.create_task(run_rotation(identity, store, TTL_S))
    async with asyncio.timeout(5.0):
        while store.saved is None:
            if store.tries < 2:
                assert identity.master_secrets[-1] == first
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert identity.master_secrets == store.saved.master_secrets and identity.master_secrets[-1] != first
    task.cancel()
