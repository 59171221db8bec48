"""Fetches one blob from another agent into a file, and checks it: nothing of it is used before its digest is right."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from http import HTTPStatus
from pathlib import Path

import aiohttp

from vk_provider.errors import AgentError
from vk_provider.wire import routes
from vk_provider.wire.blobs import PeerSource

CONNECT_LIMIT_S = 2.0
SILENCE_LIMIT_S = 5.0
BASE_LIMIT_S, MIN_RATE = 10.0, 8e6
"""A transfer may take this, and a second for so many bytes (peering.swarm gives the same)."""
RESERVE_BYTES = 256 << 20
"""Left free on the disk: the blob is there twice for a moment."""
_CHUNK = 1 << 20


class TransferError(AgentError):
    """The source did not deliver; or, with `is_ours`, this instance has no room."""

    def __init__(self, message: str, *, is_ours: bool = False) -> None:
        super().__init__(message)
        self.is_ours = is_ours


async def fetch_blob(
    http: aiohttp.ClientSession, tls: ssl.SSLContext, source: PeerSource, digest: str, size: int, path: Path
) -> None:
    """Write the blob to `path`, which is removed when that fails. Raises TransferError."""
    try:
        await asyncio.to_thread(_check_room, path.parent, size)
        async with asyncio.timeout(BASE_LIMIT_S + size / MIN_RATE):
            await _fetch(http, tls, source, digest, size, path)
    except BaseException as error:
        _remove(path)
        if isinstance(error, aiohttp.ClientError | OSError | ValueError):  # TimeoutError is an OSError
            raise TransferError(f"{source['instance']}: {str(error) or type(error).__name__}") from None
        raise


async def _fetch(
    http: aiohttp.ClientSession, tls: ssl.SSLContext, source: PeerSource, digest: str, size: int, path: Path
) -> None:
    host = f"[{source['address']}]" if ":" in source["address"] else source["address"]
    async with http.get(
        f"https://{host}:{source['port']}{routes.BLOBS}/{digest}",
        headers={routes.GRANT_HEADER: source["grant"]},
        ssl=tls,
        server_hostname=routes.server_name(source["instance"]),
        allow_redirects=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S, sock_read=SILENCE_LIMIT_S),
    ) as answer:
        if answer.status != HTTPStatus.OK:
            raise TransferError(f"{source['instance']}: status {answer.status}")
        with path.open("xb") as file:
            hasher, left, waiting = hashlib.sha256(), size, bytearray()
            async for chunk in answer.content.iter_any():
                left -= len(chunk)
                if left < 0:
                    raise TransferError(f"{source['instance']}: more than {size} bytes")
                waiting += chunk
                if len(waiting) >= _CHUNK:
                    await asyncio.to_thread(_take, hasher, file.fileno(), bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(_take, hasher, file.fileno(), bytes(waiting))
    if left or f"sha256:{hasher.hexdigest()}" != digest:
        raise TransferError(f"{source['instance']}: not the content of {digest}")


def _take(hasher: hashlib._Hash, descriptor: int, data: bytes) -> None:
    hasher.update(data)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _check_room(directory: Path, size: int) -> None:
    status = os.statvfs(directory)
    if status.f_bavail * status.f_frsize < size + RESERVE_BYTES:
        raise TransferError("the disk has no room for another copy", is_ours=True)
