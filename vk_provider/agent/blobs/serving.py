"""Serves blobs to other agents, straight from containerd's content store."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import Counter

from aiohttp import web

from vk_provider.agent.blobs.book import BlobBook
from vk_provider.aiokit.tlssite import mark_authenticated
from vk_provider.wire import routes
from vk_provider.wire.blobs import compute_grant

MAX_UPLOADS, MAX_UPLOADS_OF_ONE = 16, 4
"""At once, whatever was granted: the instance is its pod's; and to one other instance, whose runtime asks for three."""
SLOW_LIMIT_S = 10.0
"""For one chunk: a client that reads more slowly is dropped."""
_CHUNK = 256 << 10


class BlobServer:
    """Only who shows the provider's grant for this very blob, and has the certificate of the instance that it names, is
    served."""

    def __init__(self, book: BlobBook) -> None:
        self._book = book
        self._uploads: Counter[str] = Counter()
        self.sent_bytes = 0

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(routes.BLOBS + "/{digest}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        digest, name = request.match_info["digest"], peer_instance(request)
        grant = request.headers.get(routes.GRANT_HEADER, "").encode(errors="surrogateescape")
        key = self._book.key
        if not (key and name and hmac.compare_digest(compute_grant(key, name, digest).encode(), grant)):
            return web.Response(status=403)
        mark_authenticated(request)
        if self._uploads.total() >= MAX_UPLOADS or self._uploads[name] >= MAX_UPLOADS_OF_ONE:
            return web.Response(status=503)
        self._uploads[name] += 1
        try:
            return await self._serve(request, digest)
        finally:
            self._uploads[name] -= 1
            self._uploads += Counter()  # without those of nothing

    async def _serve(self, request: web.Request, digest: str) -> web.StreamResponse:
        found = await asyncio.to_thread(self._book.content.open, digest)
        if found is None:
            return web.Response(status=404)
        descriptor, size = found
        try:
            return await self._send(request, descriptor, size)
        finally:
            os.close(descriptor)

    async def _send(self, request: web.Request, descriptor: int, size: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        offset = 0
        while offset < size:
            chunk = await asyncio.to_thread(os.pread, descriptor, _CHUNK, offset)
            if not chunk:
                break
            offset += len(chunk)
            async with asyncio.timeout(SLOW_LIMIT_S):
                await response.write(chunk)
            self.sent_bytes += len(chunk)
        return response


def peer_instance(request: web.Request) -> str:
    """The instance that the verified client certificate is of, "" for none."""
    subject = (request.get_extra_info("peercert") or {}).get("subject", ())
    for part in subject:
        for kind, value in part:
            if kind == "commonName":
                return str(value)
    return ""
