"""The administrator's requests to the API server and to the kubelet API of the Node under test."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from vk_provider.jsontypes import Json

REQUEST_LIMIT_S = 30.0


class Door:
    """One HTTPS server, asked with a client certificate. `longest_s`: of its answers, by path without names."""

    def __init__(self, url: str, ca: Path, pair: tuple[Path, Path]) -> None:
        self._url = url
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(*pair)
        self._http: aiohttp.ClientSession | None = None
        self.longest_s: dict[str, float] = {}

    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=REQUEST_LIMIT_S)
            connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
            self._http = aiohttp.ClientSession(self._url, timeout=timeout, connector=connector)
        return self._http

    async def ask(self, method: str, path: str, body: Any = None, **query: str) -> tuple[int, bytes]:
        """Status and body."""
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        data = None if body is None else orjson.dumps(body)
        began = time.monotonic()
        async with self._client().request(
            method, path, data=data, params=query, headers={"Content-Type": content}, allow_redirects=False
        ) as answer:
            found = answer.status, await answer.read()
        key = "/".join(path.split("/")[:3])
        self.longest_s[key] = max(self.longest_s.get(key, 0.0), time.monotonic() - began)
        return found

    async def get(self, path: str, **query: str) -> bytes:
        """The body of a 200."""
        status, body = await self.ask("GET", path, **query)
        assert status == 200, f"GET {path} answered {status}: {body[:500]!r}"
        return body

    async def read_some(
        self, method: str, path: str, limit_s: float, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and the last bytes read within `limit_s`, the header fields before them; (0, b"") when there was no
        answer. For routes whose agent is hostile: not counted in `longest_s`."""
        status, seen = 0, b""
        try:
            async with asyncio.timeout(limit_s):
                async with self._client().request(method, path, headers=headers, allow_redirects=False) as answer:
                    status, seen = answer.status, repr(answer.headers).encode()
                    async for chunk in answer.content.iter_any():
                        seen = (seen + chunk)[-100_000:]
        except (TimeoutError, aiohttp.ClientError):
            pass
        return status, seen

    async def stream(self, path: str, data: bytes) -> bytes:
        """Upgrade a POST of `path`, send `data`, and return as many bytes as were sent."""
        url = urlsplit(self._url)
        async with asyncio.timeout(REQUEST_LIMIT_S):
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=self._context)
            fields = f"Host: {url.hostname}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
            writer.write(f"POST {path} HTTP/1.1\r\n{fields}".encode())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101 "), f"POST {path} answered {head!r}"
                writer.write(data)
                return await reader.readexactly(len(data))
            finally:
                writer.transport.abort()

    async def open_unread(self, path: str, limit_s: float) -> None:
        """A client that asks and then reads nothing for `limit_s`."""
        url = urlsplit(self._url)
        _, writer = await asyncio.open_connection(url.hostname, url.port, ssl=self._context, limit=1)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.hostname}\r\n\r\n".encode())
        await asyncio.sleep(limit_s)
        writer.transport.abort()

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


class Namespace:
    """The pods of one namespace."""

    def __init__(self, door: Door, name: str) -> None:
        self._door, self.name = door, name
        self._pods = f"/api/v1/namespaces/{name}/pods"

    async def create(self) -> None:
        await self._door.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.name}})

    async def has_account(self) -> bool:
        """Without it no pod is admitted."""
        return (await self._door.ask("GET", f"/api/v1/namespaces/{self.name}/serviceaccounts/default"))[0] == 200

    async def create_pod(self, pod: Json) -> Json:
        status, body = await self._door.ask("POST", self._pods, pod)
        assert status == 201, body
        return orjson.loads(body)

    async def pod(self, name: str) -> Json | None:
        """None when there is none of that name."""
        status, body = await self._door.ask("GET", f"{self._pods}/{name}")
        return orjson.loads(body) if status == 200 else None

    async def pods(self) -> list[Json]:
        return orjson.loads(await self._door.get(self._pods))["items"]

    async def delete_pod(self, name: str, grace_s: int = 0) -> None:
        await self._door.ask("DELETE", f"{self._pods}/{name}", {"gracePeriodSeconds": grace_s})

    async def events(self, name: str) -> list[Json]:
        path = f"/api/v1/namespaces/{self.name}/events"
        return orjson.loads(await self._door.get(path, fieldSelector=f"involvedObject.name={name}"))["items"]

    async def delete(self) -> None:
        for pod in await self.pods():
            await self.delete_pod(pod["metadata"]["name"])
        await self._door.ask("DELETE", f"/api/v1/namespaces/{self.name}")
