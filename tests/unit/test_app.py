"""The provider process: its start can be interrupted, and what fails on the way does not end it."""

from __future__ import annotations

import asyncio
import datetime
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from vk_provider import app
from vk_provider.agentclient.identity_store import ProviderIdentity
from vk_provider.aiokit.supervisor import RootTaskError
from vk_provider.errors import BadStartError, KubeApiError
from vk_provider.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "c.toml"
    path.write_text('[[nodes]]\nname = "n1"\naddress = "127.0.0.1"\n')
    return load_settings(path, {})


async def test_a_signal_ends_a_start_that_waits_for_the_cloud(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(self: app.Provider) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    monkeypatch.setattr(app.Provider, "start", start)
    assert await asyncio.wait_for(app._run(settings), 5.0) == 0


async def test_a_root_task_that_breaks_ends_a_start_that_waits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks() -> None:
        raise ValueError("broken watch")

    async def start(self: app.Provider) -> None:
        self.supervisor.start("pods", breaks())
        await asyncio.Event().wait()

    monkeypatch.setattr(app.Provider, "start", start)
    with pytest.raises(RootTaskError, match="broken watch"):
        await asyncio.wait_for(app._run(settings), 5.0)


async def test_a_bad_start_passes_through(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: app.Provider) -> None:
        raise BadStartError("port taken")

    monkeypatch.setattr(app.Provider, "start", start)
    with pytest.raises(BadStartError, match="port taken"):
        await asyncio.wait_for(app._run(settings), 5.0)


class Store:
    """Saves at the second try."""

    def __init__(self) -> None:
        self.tries = 0
        self.saved: ProviderIdentity | None = None

    async def load_or_create(self) -> ProviderIdentity:
        raise KubeApiError(403, "Forbidden", "secrets is forbidden")

    async def save(self, identity: ProviderIdentity) -> None:
        self.tries += 1
        if self.tries == 1:
            raise KubeApiError(0, "Unreachable", "no answer")
        self.saved = identity


async def test_a_master_secret_that_cannot_be_saved_is_not_used_and_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "IDENTITY_RETRY_S", 0.0)
    provider, store = app.Provider(settings), Store()
    identity = ProviderIdentity.create(datetime.datetime.now(datetime.UTC))
    identity.rotated_at = time.time() - 10 * settings.identity.boot_secret_ttl_s
    provider._identity, first = identity, identity.master_secrets[-1]
    task = asyncio.create_task(provider._rotate_identity(store))
    async with asyncio.timeout(5.0):
        while store.saved is None:  # noqa: ASYNC110
            if store.tries < 2:
                assert identity.master_secrets[-1] == first
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert identity.master_secrets == store.saved.master_secrets and identity.master_secrets[-1] != first
    task.cancel()


async def test_an_identity_that_may_not_be_read_is_a_bad_start(settings: Settings) -> None:
    with pytest.raises(BadStartError, match="forbidden"):
        await app.Provider(settings)._load_identity(Store())


def test_a_provider_that_has_listed_nothing_is_not_healthy(settings: Settings) -> None:
    assert not app.Provider(settings)._is_healthy()


def test_a_node_whose_pods_cannot_be_followed_says_so_while_the_api_server_answers(settings: Settings) -> None:
    provider, now = app.Provider(settings), time.monotonic()
    informer = SimpleNamespace(synced=asyncio.Event(), failing_since=0.0, error=None)
    node = SimpleNamespace(spec=SimpleNamespace(name="n1"), answering_since=now - 1000)
    provider._informers, provider._nodes = {"n1": informer}, [node]  # type: ignore[dict-item, list-item]
    assert provider._pods_problem("n1") == "the pods of the node are not listed yet"
    informer.synced.set()
    assert provider._pods_problem("n1") == ""
    informer.failing_since, informer.error = now - 500, KubeApiError(403, "Forbidden", "pods is forbidden")
    assert provider._pods_problem("n1") == "the pods of the node cannot be followed: pods is forbidden"
    node.answering_since = 0.0
    assert provider._pods_problem("n1") == "", "an outage of the API server"
