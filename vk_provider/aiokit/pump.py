"""A byte pump between two transports: what one side reads, the other writes, unparsed, with back-pressure.

    client transport <-> Side --- Side <-> server transport

Rules
- A side whose write buffer is full pauses reading on the other side; nothing is queued without bound.
- End of stream is forwarded: over plain TCP as a half-close, so the other direction stays open. asyncio's TLS cannot
  half-close, so there the end of one direction flushes and closes the connection. SPDY and WebSocket, which is what
  runs here, close their streams inside their own frames and do not need more.
- A connection without a byte in either direction for `idle_s` is closed.
- Closing flushes what was already accepted for writing.
- A `Gate` may hold back or change what goes to the left side.
- A `Trailer` may follow what goes to the left side and add bytes at its end.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

READ_BYTES = 256 * 1024
HIGH_WATER_BYTES = 512 * 1024
LOW_WATER_BYTES = 128 * 1024

# Data is copied out of this buffer before control returns to the loop, so all sides of the process share it.
_SHARED_BUFFER = memoryview(bytearray(READ_BYTES))


class Trailer(Protocol):
    """Bytes sent to the left side after everything else, unless the left side itself ended the connection."""

    def feed(self, data: bytes) -> None:
        """Observe bytes on their way to the left side."""

    def finish(self) -> bytes:
        """The trailer, b"" for none; called once."""


class Gate(Protocol):
    """Filters what the right side sends to the left side."""

    done: bool
    """No more bytes pass: those that did are flushed and both connections are closed."""

    def pass_on(self, data: bytes) -> bytes:
        """Bytes from the right side -> bytes to send to the left side now; b"" while that is not decided."""


class Side(asyncio.BufferedProtocol):
    """One end of a pump; use it as a protocol factory, or `attach` it to a transport that already exists."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._ended = False
        self._peer: Side | None = None
        self._pump: Pump | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Take over a transport from another protocol."""
        self.connection_made(transport)
        transport.set_protocol(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance check: the transports of uvloop implement asyncio.Transport without deriving from it.
        self.transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)

    def join(self, pump: Pump, peer: Side) -> None:
        self._pump, self._peer = pump, peer

    def get_buffer(self, sizehint: int) -> memoryview:
        return _SHARED_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._pump is None or self._peer is None:
            # No protocol used here lets a peer send before the pump is joined.
            self.abort()
            return
        target = self._peer.transport
        if target is not None and not target.is_closing():
            data = self._pump.passed(self, bytes(_SHARED_BUFFER[:nbytes]))
            if data:
                target.write(data)
            self._pump.close_when_done()

    def eof_received(self) -> bool:
        target = self._peer.transport if self._peer is not None else None
        if target is None or target.is_closing():
            return False
        if not target.can_write_eof():
            self._close_peer()
            return False
        if self._pump is not None:
            self._pump.ended(self)
        target.write_eof()
        if self.transport is None or not self.transport.can_write_eof():
            return False  # TLS closes both directions at once.
        self._ended = True
        # The second half-close closes both connections: returning False closes this one, which closes the other.
        return not self._peer._ended if self._peer is not None else False

    def pause_writing(self) -> None:
        transport = self._open_peer_transport()
        if transport is not None:
            transport.pause_reading()

    def resume_writing(self) -> None:
        transport = self._open_peer_transport()
        if transport is not None:
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._close_peer()
        if self._pump is not None:
            self._pump.side_lost()

    def _open_peer_transport(self) -> asyncio.Transport | None:
        # A TLS transport that was closed twice (a stopping server closes its own again) raises on every call.
        transport = self._peer.transport if self._peer is not None and not self._peer.lost else None
        return None if transport is None or transport.is_closing() else transport

    def _close_peer(self) -> None:
        transport = self._open_peer_transport()
        if transport is None:
            return
        transport.resume_reading()
        if self._pump is not None:
            self._pump.ended(self)
        transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Pump:
    """Joins two sides. `closed` is done when both connections are gone."""

    def __init__(
        self,
        left: Side,
        right: Side,
        idle_s: float = 4 * 3600,
        trailer: Trailer | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._trailer = trailer
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._sides = (left, right)
        self._idle_s = idle_s
        self._seen_bytes = 0
        self.bytes_passed = 0
        self.closed: asyncio.Future[None] = self._loop.create_future()
        left.join(self, right)
        right.join(self, left)
        self._timer = self._loop.call_later(idle_s, self._check_idle)
        if left.lost or right.lost:
            self.close()
            self.side_lost()

    def passed(self, source: Side, data: bytes) -> bytes:
        """Count bytes from `source`; returns what is sent to the other side."""
        self.bytes_passed += len(data)
        if source is self._sides[1]:
            if self._gate is not None:
                data = self._gate.pass_on(data)
            if self._trailer is not None:
                self._trailer.feed(data)
        return data

    def close_when_done(self) -> None:
        if self._gate is not None and self._gate.done:
            self.close()

    def ended(self, side: Side) -> None:
        """`side` has sent its last byte. A left side that ended the connection itself gets no trailer."""
        if side is self._sides[0]:
            self._trailer = None
        self._send_trailer()

    def _send_trailer(self) -> None:
        """Send the trailer to the left side, once, while its connection is open."""
        trailer, self._trailer = self._trailer, None
        left = self._sides[0]
        if trailer is None or left.transport is None or left.lost or left.transport.is_closing():
            return
        data = trailer.finish()
        if data:
            left.transport.write(data)

    def _check_idle(self) -> None:
        # One timer instead of one per chunk: a connection is closed between idle_s and 2*idle_s after its last byte.
        if self.bytes_passed == self._seen_bytes:
            self.close()
            return
        self._seen_bytes = self.bytes_passed
        self._timer = self._loop.call_later(self._idle_s, self._check_idle)

    def side_lost(self) -> None:
        if all(side.lost for side in self._sides):
            self._timer.cancel()
            if not self.closed.done():
                self.closed.set_result(None)

    def close(self) -> None:
        """Send the trailer, flush and close both connections."""
        self._send_trailer()
        for side in self._sides:
            if side.transport is not None and not side.lost and not side.transport.is_closing():
                side.transport.close()

    def abort(self) -> None:
        """Drop both connections at once."""
        for side in self._sides:
            side.abort()

    async def run(self) -> None:
        """Wait until both connections are closed; when cancelled, drop them, the left one after its trailer."""
        try:
            await asyncio.shield(self.closed)
        except asyncio.CancelledError:
            self._drop()
            raise

    def _drop(self) -> None:
        left, right = self._sides
        right.abort()
        if self._trailer is None or left.transport is None or left.transport.is_closing():
            left.abort()
            return
        self._send_trailer()
        left.transport.close()
