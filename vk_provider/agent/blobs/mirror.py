"""The mirror that containerd asks for blobs before the registry: HTTP on the instance's loopback.

Only `GET /v2/<name>/blobs/<digest>` is ever answered with content. Manifests are not: that the registry shows them to
the pod's credentials is the pod's right to the blobs. After any failure the answer is 404 for the rest of the pull, and
containerd asks the registry itself, with its own credentials, redirects and ranges.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import web

from vk_provider.agent.blobs.book import BlobBook
from vk_provider.agent.blobs.transfer import TransferError, fetch_blob
from vk_provider.aiokit.tasks import BackgroundTasks

log = logging.getLogger(__name__)

MAX_REQUESTS = 64
"""At once; containerd 2 asks for several ranges of a blob."""
KEEP_S = 60.0
"""A fetched blob that the runtime does not take is removed after this."""
_BLOB = re.compile(r"/v2/[a-z0-9._/-]{1,512}/blobs/(sha256:[0-9a-f]{64})")


class BlobMirror:
    """client_tls: of connections to other agents. directory: where blobs are kept until the runtime has taken them."""

    def __init__(self, book: BlobBook, client_tls: Callable[[], ssl.SSLContext], directory: Path) -> None:
        self._book, self._client_tls, self._directory = book, client_tls, directory
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self._spools: dict[str, asyncio.Task[Path | None]] = {}
        self._tasks = BackgroundTasks()
        self._requests = 0

    async def start(self) -> str:
        """Listen; returns the URL. Raises OSError."""
        shutil.rmtree(self._directory, ignore_errors=True)  # all but itself, where a disk is mounted there
        self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._spools.values():
            task.cancel()
        await asyncio.gather(*self._spools.values(), return_exceptions=True)
        await self._tasks.close()
        if self._http is not None:
            await self._http.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        match = _BLOB.fullmatch(request.path)
        if request.method != "GET" or match is None or self._requests >= MAX_REQUESTS:
            return web.Response(status=404)
        digest = match[1]
        self._requests += 1
        try:
            path = await self._get(digest)
            if path is None:
                return web.Response(status=404)
            return web.FileResponse(path, headers={"Content-Type": "application/octet-stream"})
        finally:
            self._requests -= 1

    async def _get(self, digest: str) -> Path | None:
        task = self._spools.get(digest)
        if task is None:
            if not self._book.is_open_to_peers(digest):
                return None
            task = asyncio.create_task(self._fetch(digest), name=f"blob {digest[7:19]}")
            self._spools[digest] = task
        return await asyncio.shield(task)

    async def _fetch(self, digest: str) -> Path | None:
        """The file with the blob; None for the registry. Its task stays while the file does."""
        path = self._directory / digest[7:]
        is_fetched = False
        try:
            is_fetched = await self._try_peer(digest, path)
        finally:
            if not is_fetched:
                self._spools.pop(digest, None)
                self._book.fetch_from_registry(digest)
        if not is_fetched:
            return None
        self._book.hand_over(digest)
        self._tasks.spawn(self._forget_later(digest, path), f"end of blob {digest[7:19]}")
        return path

    async def _try_peer(self, digest: str, path: Path) -> bool:
        answer = await self._book.ask(digest)
        if answer is None or "source" not in answer:
            return False
        source = answer["source"]
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        try:
            await fetch_blob(self._http, self._client_tls(), source, digest, answer["size"], path)
        except TransferError as error:
            log.warning("blob %s: %s; the registry is asked", digest, error)
            if not error.is_ours:
                self._book.note_failure(digest, source["instance"])
            return False
        return True

    async def _forget_later(self, digest: str, path: Path) -> None:
        """The runtime may ask for it in parts, or again after a broken connection."""
        await self._book.wait_held(digest, KEEP_S)
        self._spools.pop(digest, None)
        self._book.give_up(digest)
        await asyncio.to_thread(path.unlink, missing_ok=True)
