"""Requests that are tried again with credentials read anew."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
    assert not client.pod_load.is_busy
    last = await open_requests(client, "/api/v1/namespaces/ns/pods/p/status", 1)
    assert client.pod_load.is_busy
    for task in (*others, *few, *last):
        task.cancel()
    await asyncio.gather(*others, *few, *last, return_exceptions=True)
    await client.close()


class PlainCredentials(RotatedCredentials):
    """A server without TLS."""

    ssl_context = server_hostname = proxy = None

    def __init__(self, server: str) -> None:
        super().__init__()
        self.server = server

    async def authorization(self) -> str:
        return ""


async def exchange(server_path: str, answer: bytes, call: Callable[[KubeClient], Awaitable[Any]]) -> tuple[str, Any]:
    """What a server below `server_path` was sent, and the result of `call`."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: "
        writer.write(head + str(len(answer)).encode() + b"\r\n\r\n" + answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = KubeClient(PlainCredentials(f"http://127.0.0.1:{port}{server_path}"))
        try:
            result = await call(client)
        finally:
            await client.close()
    return heads[0].decode(), result


@pytest.mark.parametrize("server_path", ["", "/", "/k8s/clusters/c-1", "/k8s/clusters/c-1/"])
async def test_a_server_may_have_a_path_of_its_own(server_path: str) -> None:
    path = "/api/v1/namespaces/ns/pods/p"
    sent, pod = await exchange(server_path, b'{"kind": "Pod"}', lambda client: client.get(path, {"a": "b=c"}))
    assert pod == {"kind": "Pod"}
    assert sent.splitlines()[0] == f"GET {server_path.rstrip('/')}{path}?a=b%3Dc HTTP/1.1"


async def test_the_answer_to_a_delete_is_not_decoded() -> None:
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
    sent, result = await exchange("", b"{", lambda client: client.delete("/api/v1/namespaces/ns/pods/p", options))
    assert result is None
    assert "Content-Type: application/json" in sent.splitlines()
