"""A listening TLS socket for aiohttp that bounds what unknown peers cost, and lets slow readers finish.

Connections are accepted here rather than by asyncio: a peer's address must be known, and the connection counted, before
its TLS handshake begins.

asyncio drops a TLS connection 30 s after it began to close it, with what was not read yet: the end of a long output
piped into a pager would be lost. aiohttp's own site does not pass the limit on.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from vk_provider.aiokit.connection_limits import ConnectionLimits, PendingConnections
from vk_provider.aiokit.headguard import GuardedHandler, IsAuthenticated

log = logging.getLogger(__name__)

TLS_SHUTDOWN_S = 600.0
ACCEPT_RETRY_S = 1.0
"""Pause after the system had no file for another connection."""


def accepts_nobody(tls: ssl.SSLObject) -> bool:
    """No peer is authenticated by the handshake: peers authenticate by a request."""
    return False


class TlsSite(web.BaseSite):
    """Like web.TCPSite with TLS, with `TLS_SHUTDOWN_S` for the end of a connection.

    context:          of the next handshake
    is_authenticated: whether the TLS handshake has authenticated the peer; else `mark_authenticated`
    """

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        context: Callable[[], ssl.SSLContext],
        *,
        limits: ConnectionLimits | None = None,
        is_authenticated: IsAuthenticated = accepts_nobody,
        backlog: int = 512,
    ) -> None:
        super().__init__(runner, backlog=backlog)
        self._host, self._port, self._context = host, port, context
        self._is_authenticated = is_authenticated
        self.pending = PendingConnections(limits or ConnectionLimits())

    @property
    def name(self) -> str:
        return f"https://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        await super().start()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=self._backlog)
        listener.setblocking(False)
        self._port = listener.getsockname()[1]
        self._server = _Listener(self, listener)  # type: ignore[assignment]  # it has what aiohttp uses of a server

    async def _accept(self, listener: socket.socket, handshakes: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError as error:
                log.error("%s cannot accept connections: %s", self.name, error.strerror or error)
                await asyncio.sleep(ACCEPT_RETRY_S)
                continue
            task = asyncio.create_task(self._shake_hands(connection, str(address[0])), name=f"TLS of {address[0]}")
            handshakes.add(task)
            task.add_done_callback(handshakes.discard)
            # A waiting connection is accepted without a turn of the loop: a flood would keep all other clients waiting.
            await asyncio.sleep(0)

    async def _shake_hands(self, connection: socket.socket, peer: str) -> None:
        task = asyncio.current_task()
        pending = self.pending.enter(peer, lambda: task.cancel() if task is not None else None)
        taken = False  # from then on the socket is its transport's

        def make_handler() -> GuardedHandler:
            nonlocal taken
            server = self._runner.server
            if server is None:
                raise ConnectionAbortedError("the server stops")
            handler = GuardedHandler(server, self.pending.limits, pending, self._is_authenticated)
            taken = True
            return handler

        try:
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                make_handler,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self.pending.limits.handshake_s,
                ssl_shutdown_timeout=TLS_SHUTDOWN_S,
            )
            pending.abort = transport.abort
        except BaseException as error:
            pending.leave()
            if not taken:
                connection.close()
            if not isinstance(error, OSError):  # ssl.SSLError and TimeoutError are OSErrors
                raise
            log.debug("TLS handshake of %s failed: %s", peer, error)


class _Listener:
    """What aiohttp's runner wants of a server: its sockets, and to be closed."""

    def __init__(self, site: TlsSite, listener: socket.socket) -> None:
        self._listener = listener
        self._handshakes: set[asyncio.Task[None]] = set()
        accepting = site._accept(listener, self._handshakes)
        self._accepting = asyncio.create_task(accepting, name=f"connections of {site.name}")

    @property
    def sockets(self) -> list[socket.socket]:
        return [self._listener]

    def close(self) -> None:
        self._accepting.cancel()
        self._accepting.add_done_callback(lambda _: self._listener.close())
        for task in self._handshakes:
            task.cancel()


def mark_authenticated(request: web.BaseRequest) -> None:
    """The peer of this request's connection has authenticated."""
    if isinstance(request.protocol, GuardedHandler):
        request.protocol.authenticated()
