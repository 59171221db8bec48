"""The byte pump between plain connections: half-close, order of closing."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from vk_provider.aiokit.pump import Pump, Side

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class TellingSide(Side):
    """Says when it has its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.made = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.made.set()


class Bench:
    """client <-> pump <-> server, all on loopback TCP."""

    async def start(self) -> None:
        self._accepted: asyncio.Queue[Pair] = asyncio.Queue()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accepted.put_nowait((reader, writer))

        loop = asyncio.get_running_loop()
        self._end = await asyncio.start_server(accept, "127.0.0.1", 0)
        left = TellingSide()
        self._front = await loop.create_server(lambda: left, "127.0.0.1", 0)
        self.client = await asyncio.open_connection(*self._front.sockets[0].getsockname())
        _, right = await loop.create_connection(Side, *self._end.sockets[0].getsockname())
        self.server = await self._accepted.get()
        await left.made.wait()
        self.pump = Pump(left, right, idle_s=60)

    async def stop(self) -> None:
        self.pump.abort()
        for _, writer in (self.client, self.server):
            writer.close()
            try:
                await writer.wait_closed()
            except ConnectionError:
                pass
        for server in (self._front, self._end):
            server.close()
            await server.wait_closed()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    built = Bench()
    await built.start()
    async with asyncio.timeout(10):
        yield built
    await built.stop()


async def test_a_half_close_travels_and_the_other_direction_goes_on(bench: Bench) -> None:
    bench.client[1].write(b"question")
    bench.client[1].write_eof()
    assert await bench.server[0].read(-1) == b"question"
    assert not bench.pump.closed.done()
    bench.server[1].write(b"answer" * 100_000)
    bench.server[1].write_eof()
    assert await bench.client[0].read(-1) == b"answer" * 100_000
    await bench.pump.run()
    assert bench.pump.bytes_passed == 8 + 600_000


async def test_a_reset_of_one_side_ends_the_other(bench: Bench) -> None:
    reset = struct.pack("ii", 1, 0)
    bench.client[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    bench.client[1].transport.abort()
    assert await bench.server[0].read(-1) == b""
    await bench.pump.run()


async def test_a_cancelled_pump_drops_both_sides(bench: Bench) -> None:
    task = asyncio.create_task(bench.pump.run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.pump.closed
    with pytest.raises(ConnectionError):
        while True:
            bench.client[1].write(b"x")
            await bench.client[1].drain()
            if await bench.client[0].read(1) == b"":
                raise ConnectionResetError


class Echo:
    """A Trailer that repeats what it observed."""

    def __init__(self) -> None:
        self.seen = b""

    def feed(self, data: bytes) -> None:
        self.seen += data

    def finish(self) -> bytes:
        return b"<" + self.seen + b">"


async def test_the_trailer_is_sent_to_the_left_side_when_the_right_side_is_lost(bench: Bench) -> None:
    bench.pump._trailer = Echo()
    bench.client[1].write(b"question")
    bench.server[1].write(b"answer")
    assert await bench.server[0].readexactly(8) == b"question"
    bench.server[1].transport.abort()
    assert await bench.client[0].read(-1) == b"answer<answer>"


async def test_a_left_side_that_ends_the_connection_gets_no_trailer(bench: Bench) -> None:
    bench.pump._trailer = Echo()
    bench.client[1].write_eof()
    assert await bench.server[0].read(-1) == b""
    bench.server[1].write(b"answer")
    bench.server[1].write_eof()
    assert await bench.client[0].read(-1) == b"answer"
