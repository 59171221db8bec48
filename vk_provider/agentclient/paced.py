"""Bounds what one connection may cost the event loop before anything of it is a message.

A WebSocket that is read at a slow pace pauses its connection, but only for whole messages: fragments of a message that
never ends, each of two bytes, are parsed as fast as they come and keep the loop from everybody else. So the time that
parsing takes is counted, and whoever has used more than its share is not read from for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from vk_provider.aiokit.ratelimit import TokenBucket

SHARE, BURST_S = 0.02, 0.1
"""Seconds of parsing a second, and how much of it may be saved up. An honest agent needs some milliseconds an hour."""
SLICE = 8192
"""Bytes that are parsed without looking at the clock: at most 4,096 frames, some milliseconds."""
PING_RATE, PING_BURST = 2.0, 20.0
"""Pings and pongs per second that are read from one agent; it sends a ping every 15 s."""


class Pace:
    """What the connections to one agent may cost, over all of them."""

    __slots__ = ("parsing", "pings")

    def __init__(self) -> None:
        self.parsing = TokenBucket(SHARE, BURST_S, time.perf_counter())
        self.pings = TokenBucket(PING_RATE, PING_BURST, time.monotonic())


class PacedProtocol(asyncio.Protocol):
    """Stands between a transport and its protocol. Both may pause reading, neither undoes the other's pause."""

    def __init__(
        self,
        transport: asyncio.Transport,
        inner: asyncio.Protocol,
        bucket: TokenBucket,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._transport, self._inner, self._bucket, self._clock = transport, inner, bucket, clock
        self._waiting = bytearray()
        self._next: asyncio.Handle | None = None
        self._inner_paused = False
        self._stopped = False

    @classmethod
    def install(cls, transport: asyncio.Transport, bucket: TokenBucket) -> PacedProtocol:
        """Pace what comes from now on. The protocol must keep its transport in its attribute `transport`.

        bucket: Pace.parsing of the agent
        """
        inner = cast(Any, transport.get_protocol())
        paced = cls(transport, inner, bucket)
        paced._inner_paused = not transport.is_reading()
        inner.transport = _Gate(transport, paced)
        transport.set_protocol(paced)
        return paced

    def stop(self) -> None:
        """Nothing that comes from now on is read."""
        self._stopped = True
        self._forget()
        self._apply()

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        self._waiting += data
        if self._next is None:
            self._parse()
        self._apply()

    def _parse(self) -> None:
        while self._waiting and not self._inner_paused:
            piece = bytes(self._waiting[:SLICE])
            del self._waiting[:SLICE]
            began = self._clock()
            self._inner.data_received(piece)
            now = self._clock()
            wait_s = self._bucket.take(now, now - began)
            if wait_s:
                self._next = asyncio.get_running_loop().call_later(wait_s, self._go_on)
                return

    def _go_on(self) -> None:
        self._next = None
        self._parse()
        self._apply()

    def set_inner_paused(self, paused: bool) -> None:
        """What the protocol itself wants."""
        self._inner_paused = paused
        if not paused and self._waiting and self._next is None:
            # In a turn of its own: whoever empties a queue in a loop would never let anybody else run.
            self._next = asyncio.get_running_loop().call_soon(self._go_on)
        self._apply()

    def _apply(self) -> None:
        if self._transport.is_closing():
            return
        if self._inner_paused or self._next is not None or self._stopped:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def eof_received(self) -> bool | None:
        self._forget()
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._inner.connection_lost(exc)

    def _forget(self) -> None:
        """What was not parsed is lost; an agent says it again in its next session."""
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class _Gate:
    """The transport as the protocol sees it: its pauses are noted, all else is the transport's."""

    def __init__(self, transport: asyncio.Transport, paced: PacedProtocol) -> None:
        self._transport, self._paced = transport, paced

    def pause_reading(self) -> None:
        self._paced.set_inner_paused(True)

    def resume_reading(self) -> None:
        self._paced.set_inner_paused(False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
