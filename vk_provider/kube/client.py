"""The API server as raw JSON over aiohttp: requests, paged lists, watches."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
import orjson
from yarl import URL

from vk_provider import __version__
from vk_provider.aiokit.keepalive import keepalive_socket
from vk_provider.errors import NO_ANSWER, BadStartError, KubeApiError
from vk_provider.jsontypes import Json
from vk_provider.kube.answers import (
    ReadItem,
    decode_answer,
    decode_page,
    describe_silence,
    read_item,
    read_refusal,
    retry_after_s,
)
from vk_provider.kube.credentials import Credentials
from vk_provider.kube.load import PodLoad
from vk_provider.kube.paths import RequestInfo, parse_request
from vk_provider.kube.watchstream import split_events

log = logging.getLogger(__name__)

MetricsHook = Callable[[str, str, int, float], None]
"""(verb, resource[.group][/subresource], HTTP status or NO_ANSWER, seconds); see paths.RequestInfo.label. A watch is
measured until it is open, not until it ends."""

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON = "application/json"

_ATTEMPTS = 5
_WATCH_S = (300, 600)
_WATCH_SILENCE_S = 150.0
"""An API server sends a bookmark about every minute; one that hangs sends none but keeps its connections open."""
_READ_BUFFER_BYTES = 256 * 1024


class _Call(msgspec.Struct, frozen=True, gc=False):
    """What is sent, perhaps several times. timeout_s: of each attempt."""

    method: str
    path: str
    query: Mapping[str, str] | None
    data: bytes | None
    headers: Mapping[str, str]
    timeout_s: float
    info: RequestInfo


class KubeClient:
    """Requests of one identity. Errors are KubeApiError.

    Watches have a connection pool of their own, so that a status PATCH never waits for a connection behind them.
    """

    def __init__(self, credentials: Credentials, user_agent: str = "", pool_size: int = 64) -> None:
        self._credentials = credentials
        self._headers = {"User-Agent": user_agent or f"vk-provider/{__version__}", "Accept": JSON}
        self._requests = _session(pool_size)
        self._watches = _session(0)
        self._owns_credentials = True
        self.metrics_hook: MetricsHook | None = None
        self.pod_load = PodLoad()
        self._base = ("", URL())

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | None = None,
        context: str | None = None,
        user_agent: str = "",
        pool_size: int = 64,
        reach_timeout_s: float = 15.0,
    ) -> KubeClient:
        """Read the credentials and check that the API server accepts them.

        Raises BadStartError; a server that does not answer is retried for `reach_timeout_s` (0: no check).
        """
        credentials = Credentials(kubeconfig, context)
        await credentials.load()
        client = cls(credentials, user_agent, pool_size)
        try:
            if reach_timeout_s:
                await client._check_reachable(reach_timeout_s)
        except BaseException:
            await client.close()
            raise
        return client

    async def _check_reachable(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                await self.request("GET", "/version", timeout_s=min(5.0, timeout_s), retry=False)
                return
            except KubeApiError as error:
                server, source = self._credentials.server, self._credentials.source
                if error.is_unauthorized:
                    raise BadStartError(f"API server {server} refuses the credentials of {source}: {error}") from error
                if error.is_forbidden:
                    return
                if error.reason == "Untrusted":
                    raise BadStartError(f"API server {server} is not trusted by {source}: {error}") from error
                if time.monotonic() >= deadline:
                    raise BadStartError(f"API server {server} ({source}) does not answer: {error}") from error
            await asyncio.sleep(0.5)

    @property
    def server(self) -> str:
        return self._credentials.server

    def with_connections(self, pool_size: int) -> KubeClient:
        """A client of the same identity with a connection pool of its own, which no other client can exhaust.

        Close it before this one."""
        client = KubeClient(self._credentials, self._headers["User-Agent"], pool_size)
        client.metrics_hook, client._owns_credentials = self.metrics_hook, False
        return client

    async def close(self) -> None:
        await self._watches.close()
        await self._requests.close()
        if self._owns_credentials:
            await self._credentials.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, timeout_s: float = 30) -> Json:
        return await self.request("GET", path, query=query, timeout_s=timeout_s)

    async def create(self, path: str, body: Json, timeout_s: float = 30) -> Json:
        return await self.request("POST", path, body=body, timeout_s=timeout_s)

    async def put(self, path: str, body: Json, timeout_s: float = 30) -> Json:
        return await self.request("PUT", path, body=body, timeout_s=timeout_s)

    async def patch_strategic(self, path: str, body: Json, timeout_s: float = 30) -> Json:
        return await self.request("PATCH", path, body=body, content_type=STRATEGIC, timeout_s=timeout_s)

    async def patch_json_merge(self, path: str, body: Json, timeout_s: float = 30) -> Json:
        return await self.request("PATCH", path, body=body, content_type=MERGE, timeout_s=timeout_s)

    async def delete(self, path: str, body: Json | None = None, timeout_s: float = 30) -> None:
        """`body` is a DeleteOptions: {"gracePeriodSeconds", "preconditions": {"uid"}}. The answer, the whole object (as
        its metadata alone it is not to be had), is not decoded."""
        await self._exchange(_call("DELETE", path, None, body, {}, timeout_s))

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON,
        timeout_s: float = 30,
        retry: bool = True,
    ) -> Json:
        """One call; `timeout_s` bounds each attempt.

        A 429 is retried after Retry-After for every verb, as it was not executed. Lost connections and 5xx answers
        with Retry-After are retried for all verbs but POST, which might have been executed.
        """
        headers = {"Content-Type": content_type} if body is not None else {}
        return decode_answer(await self._exchange(_call(method, path, query, body, headers, timeout_s), retry=retry))

    async def _exchange(self, call: _Call, *, retry: bool = True) -> bytes:
        """The body of the answer; see `request`."""
        is_post = call.method == "POST"
        for attempt in range(1, _ATTEMPTS + 1):
            last = not retry or attempt == _ATTEMPTS
            try:
                status, raw, wait_s = await self._send(call)
            except KubeApiError as error:
                if error.reason == "Untrusted" and not last and await self._credentials.reload():
                    continue  # The cluster's CA was rotated, and its file was replaced.
                if last or is_post or error.reason == "Untrusted":
                    raise
                await asyncio.sleep(random.uniform(0.5, 1.0) * 0.2 * 2**attempt)
                continue
            if status < HTTPStatus.MULTIPLE_CHOICES:
                return raw
            refusal = read_refusal(status, raw)
            if not last and refusal.is_unauthorized and await self._credentials.reload():
                continue
            may_retry = refusal.is_throttled or (refusal.is_server_error and not is_post)
            if not last and wait_s is not None and may_retry:
                await asyncio.sleep(wait_s * random.uniform(1.0, 1.2))
                continue
            raise refusal
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _send(self, call: _Call) -> tuple[int, bytes, float | None]:
        started, status = time.monotonic(), 0
        timeout = _limit(call.timeout_s)
        self.pod_load.begin(call.info)
        try:
            options = await self._options(call.headers)
            async with self._requests.request(
                call.method, self._url(call.path), params=call.query, data=call.data, timeout=timeout, **options
            ) as response:
                raw = await response.read()
                status = response.status
                return status, raw, retry_after_s(response.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise describe_silence(error, call.timeout_s) from error
        finally:
            self.pod_load.end(call.info)
            self._measure(call.info, status, started)

    def _url(self, path: str) -> URL:
        """The server's URL, which may have a path of its own, is parsed once: a path of the API needs no quoting."""
        server, base = self._base
        if server != self._credentials.server:
            server = self._credentials.server
            base = URL(server)
            self._base = server, base
        return base.with_path(base.raw_path.rstrip("/") + path, encoded=True)

    async def list_pages(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        page_size: int = 500,
        read: ReadItem = read_item,
    ) -> AsyncGenerator[tuple[Iterator[Json], str], None]:
        """Yield (items, resourceVersion) page by page; every page has the resourceVersion of the whole list.

        Raises KubeApiError(410) when the continue token has expired because the list took too long: list again.
        """
        page_query = {**(query or {}), "limit": str(page_size)}
        while True:
            raw = await self._exchange(_call("GET", path, page_query, None, {}, 60))
            items, metadata = decode_page(raw, read)
            yield items, metadata.get("resourceVersion") or ""
            following = metadata.get("continue")
            if not following:
                return
            page_query["continue"] = following
            await asyncio.sleep(0)

    async def watch(
        self,
        path: str,
        query: Mapping[str, str] | None,
        resource_version: str,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[Json, None]:
        """Yield events, BOOKMARKs included, until the server ends the watch (after 5 to 10 minutes).

        A watch without bytes for _WATCH_SILENCE_S is closed here. Raises KubeApiError: 410 when `resource_version` is
        too old (list again), NO_ANSWER when the connection was lost.
        """
        watch_s = random.randint(*_WATCH_S)
        watch_query = {
            **(query or {}),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(watch_s),
        }
        info = parse_request("GET", path, watch_query)
        started, opened = time.monotonic(), False
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SILENCE_S)
        try:
            options = await self._options({})
            async with self._watches.get(self._url(path), params=watch_query, timeout=timeout, **options) as response:
                opened = True
                self._measure(info, response.status, started)
                if response.status != HTTPStatus.OK:
                    error = read_refusal(response.status, await response.read())
                    if error.is_unauthorized:
                        await self._credentials.reload()
                    raise error
                if on_open is not None:
                    on_open()
                try:
                    async for event in split_events(response.content.iter_any()):
                        yield event
                except TimeoutError:
                    log.debug("watch of %s sent nothing for %g s, opening another", info.label, _WATCH_SILENCE_S)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if not opened:
                self._measure(info, NO_ANSWER, started)
            raise describe_silence(error, timeout.sock_read or 0) from error

    async def _options(self, headers: Mapping[str, str]) -> Json:
        merged = {**self._headers, **headers}
        authorization = await self._credentials.authorization()
        if authorization:
            merged["Authorization"] = authorization
        return {
            "headers": merged,
            "ssl": self._credentials.ssl_context,
            "server_hostname": self._credentials.server_hostname,
            "proxy": self._credentials.proxy,
        }

    def _measure(self, info: RequestInfo, status: int, started: float) -> None:
        if self.metrics_hook is not None:
            self.metrics_hook(info.verb, info.label, status, time.monotonic() - started)


@lru_cache(32)
def _limit(seconds: float) -> aiohttp.ClientTimeout:
    """For each of the few limits once."""
    return aiohttp.ClientTimeout(total=seconds)


def _call(
    method: str,
    path: str,
    query: Mapping[str, str] | None,
    body: Json | None,
    headers: dict[str, str],
    timeout_s: float,
) -> _Call:
    data = orjson.dumps(body) if body is not None else None
    if data is not None:
        headers.setdefault("Content-Type", JSON)
    return _Call(method, path, query, data, headers, timeout_s, parse_request(method, path, query))


def _session(limit: int) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=limit, keepalive_timeout=60, socket_factory=_keepalive_socket)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),  # nor has client-go one
        read_bufsize=_READ_BUFFER_BYTES,
        raise_for_status=False,
    )


def _keepalive_socket(address: tuple[Any, ...]) -> socket.socket:
    """An idle watch cannot detect a dead peer without TCP keepalive, and a request without TCP_USER_TIMEOUT."""
    connection = keepalive_socket(address)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        connection.setsockopt(socket.IPPROTO_TCP, option, 30_000)
    return connection
