"""aiohttp's server protocol with a bound on the request head as a whole, and on the time that it takes.

aiohttp bounds a line, a field and the number of fields; 128 fields of 1 MiB pass all of these. Go's http.Server bounds
the sum (MaxHeaderBytes), which still leaves room for the long command of an exec in the request line.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

import yarl._url
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from vk_provider.aiokit.connection_limits import ConnectionLimits, PendingConnection

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n431 Request Header Fields Too Large"
)
"""net/http, server.go: statusRequestHeaderFieldsTooLarge."""
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n503 Service Unavailable"
)
"""All heads of connections that have not authenticated are too long together."""
LINGER_S = 0.5
LONG_HEAD_BYTES = 16 << 10

IsAuthenticated = Callable[[ssl.SSLObject], bool]


class GuardedHandler(RequestHandler):
    """One connection. It is `pending` until `authenticated` is called."""

    def __init__(
        self,
        server: web.Server,
        limits: ConnectionLimits,
        pending: PendingConnection,
        is_authenticated: IsAuthenticated,
    ) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server._kwargs)
        self._limits = limits
        self._pending: PendingConnection | None = pending
        self._is_authenticated = is_authenticated
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._payload: Any = None
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and self._is_authenticated(tls):
            self.authenticated()
        else:
            self._start_timer()

    def authenticated(self) -> None:
        """The peer has authenticated: the connection no longer counts as pending."""
        if self._pending is not None:
            self._pending.leave()
            self._pending = None

    def retire(self) -> None:
        """Serve no further request on this connection; a request in progress or a stream continues to its end."""
        if self._request_in_progress or self._messages:
            self.close()
        else:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self.authenticated()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self._refused:
            if self._upgraded or (self._payload is not None and not self._payload.is_eof()):
                super().data_received(data)
                return
            # In two parts where the limit lies within: the end of a head just below it is still seen.
            room = self._limits.head_bytes - self._head_bytes
            self._feed_head(data[:room])
            data = data[room:]

    def _feed_head(self, part: bytes) -> None:
        self._start_timer()
        self._head_bytes += len(part)
        if self._pending is not None and not self._pending.hold(self._head_bytes):
            self._refuse(BUSY)
            return
        known = self._request_count
        super().data_received(part)
        if self._request_count != known:
            self._stop_timer()
            self._payload = self._messages[-1][1]
            if self._head_bytes > LONG_HEAD_BYTES:
                _forget_urls()
            self._head_bytes = 0
        elif self._head_bytes >= self._limits.head_bytes:
            self._refuse(TOO_LARGE)

    def _refuse(self, answer: bytes) -> None:
        self._refused = True
        self._stop_timer()
        transport = self.transport
        if transport is None:
            return
        if not self._request_in_progress:
            transport.write(answer)
        # Input is discarded for a moment: closed at once, the connection would be reset and the answer lost
        # (net/http: rstAvoidanceDelay). Then it is closed, even if the peer has not read the answer.
        self._head_timer = self._loop.call_later(LINGER_S, self._end, transport)

    def _end(self, transport: asyncio.Transport) -> None:
        self._head_timer = self._loop.call_later(LINGER_S, transport.abort)
        self.force_close()

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(self._limits.head_s, self._abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def _forget_urls() -> None:
    """Clear yarl's caches of the last URLs, 128 in each: a client can make each URL 1 MiB long."""
    for function in vars(yarl._url).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
