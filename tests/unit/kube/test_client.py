"""Requests that are tried again with credentials read anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vk_provider.errors import KubeApiError
from vk_provider.kube.client import KubeClient
from vk_provider.kube.load import BUSY_OPEN


class RotatedCredentials:
    """`reload` succeeds once, as when the files had changed."""

    server, source = "https://api", "files"

    def __init__(self) -> None:
        self.reloads = 0

    async def reload(self) -> bool:
        self.reloads += 1
        return self.reloads == 1

    async def close(self) -> None:
        """Nothing is being fetched."""


@pytest.fixture
async def client() -> Any:
    made = KubeClient(RotatedCredentials())
    yield made
    await made.close()


async def test_a_rotated_cluster_ca_is_read_again(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    async def send(*_: Any) -> tuple[int, bytes, None]:
        attempts.append(1)
        if len(attempts) == 1:
            raise KubeApiError(0, "Untrusted", "self-signed certificate in certificate chain")
        return 200, b"{}", None

    monkeypatch.setattr(client, "_send", send)
    assert await client.create("/api/v1/namespaces/ns/pods", {}) == {}
    assert len(attempts) == 2


async def test_a_server_that_stays_untrusted_is_an_error(client: KubeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(*_: Any) -> tuple[int, bytes, None]:
        raise KubeApiError(0, "Untrusted", "self-signed certificate in certificate chain")

    monkeypatch.setattr(client, "_send", send)
    with pytest.raises(KubeApiError, match="self-signed"):
        await client.get("/api/v1/nodes/n")


class HeldCredentials(RotatedCredentials):
    """Every request waits for them."""

    async def authorization(self) -> str:
        await asyncio.Event().wait()
        return ""


async def open_requests(client: KubeClient, path: str, number: int) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(client.patch_strategic(path, {})) for _ in range(number)]
    await asyncio.sleep(0)
    return tasks


async def test_status_patches_that_queue_up_make_it_busy_and_nothing_else_does() -> None:
    client = KubeClient(HeldCredentials())
    others = await open_requests(client, "/api/v1/namespaces/ns/pods/p", 50)
    few = await open_requests(client, "/api/v1/namespaces/ns/pods/p/status", BUSY_OPEN - 1)
    assert not client.status_load.is_busy
    last = await open_requests(client, "/api/v1/namespaces/ns/pods/p/status", 1)
    assert client.status_load.is_busy
    for task in (*others, *few, *last):
        task.cancel()
    await asyncio.gather(*others, *few, *last, return_exceptions=True)
    await client.close()
