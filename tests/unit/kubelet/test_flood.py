"""What peers that have not authenticated can cost the kubelet API: bytes, connections, time."""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.kubelet.rig import Rig
from vk_provider.aiokit.connection_limits import ConnectionLimits, PendingConnections
from vk_provider.kubelet import server as server_module

MIB = 1 << 20
LIMIT = ConnectionLimits().head_bytes
MEMORY_BOUND = 128 * MIB
"""What a flood of heads may add to the process: it was 425 MiB from two connections."""


@pytest.fixture
def tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[int, int]]:
    """(pid, port)"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.kubelet.flooded_server"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdin is not None and process.stdout is not None
    yield process.pid, int(await process.stdout.readline())
    process.stdin.close()
    await asyncio.wait_for(process.wait(), 10)


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


async def flood(port: int, tls: ssl.SSLContext, address: str, connections: int, data: list[bytes]) -> list[bytes]:
    """Send `data` on each connection from `address`; what was answered before the server closed."""

    async def one() -> bytes:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(address, 0))
        except OSError:
            return b""
        try:
            for each in data:
                writer.write(each)
                await writer.drain()
            return await asyncio.wait_for(reader.read(200), 10)
        except (OSError, TimeoutError):
            return b""
        finally:
            writer.transport.abort()

    return await asyncio.gather(*(one() for _ in range(connections)))


async def ask(port: int, tls: ssl.SSLContext, path: str = "/healthz") -> bytes:
    """An honest client's question from an address of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=("127.0.0.9", 0))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    return answer


async def test_the_memory_of_a_flood_of_heads_has_a_bound_and_others_are_served(
    server: tuple[int, int], tls: ssl.SSLContext
) -> None:
    pid, port = server
    assert (await ask(port, tls)).startswith(b"HTTP/1.1 200 ")
    before = peak_bytes(pid)
    fields = [b"GET /pods HTTP/1.1\r\n", *(b"h%d: " % number + b"x" * MIB + b"\r\n" for number in range(100))]
    paths = [b"GET /" + b"y" * (MIB - 64) + b"%d" % number + b" HTTP/1.1\r\nHost: x\r\n\r\n" for number in range(40)]
    floods = [flood(port, tls, f"127.0.0.{number}", 10, fields) for number in (2, 3)]
    floods += [flood(port, tls, "127.0.0.4", 1, [path]) for path in paths]
    flooding = asyncio.gather(*floods)
    for _ in range(5):
        assert (await asyncio.wait_for(ask(port, tls), 60)).startswith(b"HTTP/1.1 200 ")
    await flooding
    grown = peak_bytes(pid) - before
    assert grown < MEMORY_BOUND, f"{grown / MIB:.0f} MiB"


@pytest.mark.parametrize(("length", "status"), [(LIMIT, b"401"), (LIMIT + 1, b"431")])
@pytest.mark.parametrize("piece", [LIMIT, 100_000])
async def test_a_head_may_be_as_long_as_gos_server_allows_and_not_a_byte_longer(
    rig: Rig, length: int, status: bytes, piece: int
) -> None:
    """The command of an exec is in the request line, so all of the limit may be there."""
    end = b" HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /exec/ns/web/c?command=" + b"c" * length
    head = head[: length - len(end)] + end
    reader, writer = await rig.open()
    for start in range(0, length, piece):
        writer.write(head[start : start + piece])
        await writer.drain()
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert answer.startswith(b"HTTP/1.1 " + status)
    writer.transport.abort()


async def test_heads_are_counted_anew_on_a_kept_connection_and_bodies_not_at_all(rig: Rig) -> None:
    reader, writer = await rig.open()
    field = b"x: " + b"x" * (LIMIT // 2) + b"\r\n"
    request = b"POST /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n%sContent-Length: %d\r\n\r\n"
    for size in (0, 2 * MIB, 0):
        writer.write(request % (field, size) + b"b" * size)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(2) == b"ok"
    writer.transport.abort()


@pytest.fixture
async def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """A server whose limits are reached at once."""
    limits = ConnectionLimits(connections=4, peer_connections=2, handshake_s=1.0, head_s=0.05)
    monkeypatch.setattr(server_module, "LIMITS", limits)
    rig = Rig(tmp_path)
    await rig.start()
    yield rig
    await rig.stop()


async def test_a_handshake_and_a_head_that_are_never_finished_end_the_connection(short: Rig) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", short.server.port)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    for beginning in (b"", b"GET /pods HTTP/1.1\r\nHost"):
        reader, writer = await short.open()
        writer.write(beginning)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await asyncio.wait_for(reader.readexactly(1), 30)
        writer.transport.abort()


async def test_a_connection_that_has_authenticated_may_be_idle(short: Rig) -> None:
    certificate = short.ca.issue("apiserver", ["system:masters"])
    context = short.ca.client_context(certificate)
    reader, writer = await asyncio.open_connection("127.0.0.1", short.server.port, ssl=context)
    await asyncio.sleep(0.1)  # longer than a head may take
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 200 ")
    writer.transport.abort()


def test_the_oldest_of_a_peer_goes_first_then_the_oldest_of_all() -> None:
    pending, ended = PendingConnections(ConnectionLimits(connections=3, peer_connections=2)), list[str]()
    for name, peer in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a"), ("c1", "c"), ("d1", "d")):
        pending.enter(peer, lambda name=name: ended.append(name))
    assert ended == ["a1", "b1", "a2"]
    assert len(pending) == 3


def test_long_heads_of_unknown_peers_have_a_bound_together_and_short_ones_pass() -> None:
    limits = replace(ConnectionLimits(), small_head_bytes=10, all_heads_bytes=100)
    pending = PendingConnections(limits)
    long, other, short = (pending.enter("a", lambda: None) for _ in range(3))
    assert long.hold(60) and long.hold(90)
    assert not other.hold(11)
    assert short.hold(10)
    long.leave()
    assert other.hold(11)
    for each in (long, other, short):
        each.leave()
        each.leave()
    assert (pending.head_bytes, len(pending)) == (0, 0)
