"""A small API server on loopback that misbehaves on request: expired versions, cut watches, 429, 401, silence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from vk_provider.jsontypes import Json

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, version: int, uid: str = "") -> Json:
    return {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "managedFields": [{"manager": "x"}],
        }
    }


def status(code: int, reason: str, message: str = "", headers: dict[str, str] | None = None) -> web.Response:
    document = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(document, status=code, headers=headers)


class FakeApi:
    """One collection, /api/v1/pods.

    `lists` and `watches` count requests; `next_answers` are given first, each to one request; `watch_from` has the
    resourceVersion of every watch; `push` sends an event to open watches; `cut` ends them.
    """

    def __init__(self) -> None:
        self.items: dict[str, Json] = {}
        self.version = 10
        self.lists = 0
        self.watch_from: list[str] = []
        self.next_answers: list[Handler] = []
        self.next_watch_answers: list[Handler] = []
        self.headers: list[Any] = []
        self.opened = asyncio.Event()
        self._streams: set[asyncio.Queue[Json | None]] = set()

    def put(self, name: str, uid: str = "", quietly: bool = False) -> Json:
        self.version += 1
        known = next((each for each in self.items.values() if each["metadata"]["name"] == name), None)
        item = pod(name, self.version, uid)
        if known is not None and known["metadata"]["uid"] != item["metadata"]["uid"]:
            del self.items[known["metadata"]["uid"]]
            known = None
        self.items[item["metadata"]["uid"]] = item
        if not quietly:
            self._send({"type": "MODIFIED" if known else "ADDED", "object": item})
        return item

    def remove(self, name: str, quietly: bool = False) -> None:
        self.version += 1
        item = self.items.pop(f"uid-{name}")
        if not quietly:
            item["metadata"]["resourceVersion"] = str(self.version)
            self._send({"type": "DELETED", "object": item})

    def expire(self) -> None:
        """End all watches with 410, as when etcd was compacted."""
        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        self._send({"type": "ERROR", "object": gone})

    def bookmark(self) -> None:
        self.version += 1
        self._send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.version)}}})

    def cut(self) -> None:
        for stream in self._streams:
            stream.put_nowait(None)

    def _send(self, event: Json) -> None:
        for stream in self._streams:
            stream.put_nowait(event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(request.headers)
        if request.query.get("watch"):
            if self.next_watch_answers:
                return await self.next_watch_answers.pop(0)(request)
            return await self._watch(request)
        if self.next_answers:
            return await self.next_answers.pop(0)(request)
        if request.path != "/api/v1/pods":
            return web.json_response({"gitVersion": "v1.37.2", "path": request.path, "method": request.method})
        return self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        self.lists += 1
        ordered = [self.items[key] for key in sorted(self.items)]
        start, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        metadata: Json = {"resourceVersion": str(self.version)}
        if start + limit < len(ordered):
            metadata["continue"] = str(start + limit)
        body = {"kind": "PodList", "metadata": metadata, "items": ordered[start : start + limit]}
        return web.json_response(json.loads(json.dumps(body)))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watch_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        stream: asyncio.Queue[Json | None] = asyncio.Queue()
        self._streams.add(stream)
        self.opened.set()
        try:
            while (event := await stream.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
                if event["type"] == "ERROR":
                    break
            # Close the connection in the middle of the chunked body: a lost connection, not an ended watch.
            if event is None and request.transport is not None:
                request.transport.abort()
        finally:
            self._streams.discard(stream)
        return response


@asynccontextmanager
async def serving(api: FakeApi, directory: Path, token: str = "t1") -> AsyncIterator[Path]:
    """Serve on loopback; yields a kubeconfig with a token file next to it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    (directory / "token").write_text(token)
    try:
        yield write_kubeconfig(directory / "kubeconfig", f"http://127.0.0.1:{port}", directory / "token")
    finally:
        api.cut()
        await runner.cleanup()


def write_kubeconfig(path: Path, server: str, token_file: Path) -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"tokenFile": str(token_file)}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(config))
    return path
