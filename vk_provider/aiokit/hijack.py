"""Takes the raw byte stream from an aiohttp handler and joins it with another connection.

aiohttp recognises only "websocket" upgrades; SPDY/3.1 is passed through here as well. Nothing is parsed: the request
head is written to the other side, and its answer (101 or an error) is sent back unchanged, or as a Gate filters it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from vk_provider.aiokit.pump import Gate, Pump, Side, Trailer

PASSED_HEADERS = frozenset(
    {
        "connection",
        "upgrade",
        "x-stream-protocol-version",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions",
        "origin",
        "user-agent",
    }
)
"""Headers that an upgrade needs. Credentials (Authorization, cookies, X-Remote-*) are never forwarded."""

OpenPeer = Callable[[], Awaitable[tuple[asyncio.Transport, Side]]]


def is_upgrade(request: web.BaseRequest) -> bool:
    """Whether the client asks for an upgrade of its connection."""
    return "upgrade" in request.headers.get("Connection", "").lower() and "Upgrade" in request.headers


def build_upgrade_head(request: web.BaseRequest, target: str, host: str) -> bytes:
    """Request line and headers for the next hop, with repeated headers, in their order."""
    lines = [f"{request.method} {target} HTTP/1.1", f"Host: {host}"]
    for name, value in request.headers.items():
        if name.lower() in PASSED_HEADERS:
            lines.append(f"{name}: {value}")
    if request.method != "GET":
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


async def pass_through(
    request: web.BaseRequest,
    open_peer: OpenPeer,
    head: bytes,
    idle_s: float,
    trailer: Trailer | None = None,
    gate: Gate | None = None,
) -> web.Response:
    """Open the next hop, send it `head` and pump until both connections are closed.

    trailer: sent to the client when the next hop's connection ends
    gate:    filters what the next hop sends to the client

    Raises what `open_peer` raises, while the client can still be answered. The returned response is never sent.
    """
    _, right = await open_peer()
    client = request.transport
    if client is None or client.is_closing():
        right.abort()
        raise ConnectionResetError("the client went away before the upgrade")
    left = Side()
    left.attach(client)
    pump = Pump(left, right, idle_s, trailer, gate)
    if right.transport is not None:
        right.transport.write(head)
    try:
        await pump.run()
    finally:
        # aiohttp's protocol no longer gets callbacks of its transport: without this the server would keep it listed.
        request.protocol.connection_lost(None)
    return web.Response()
