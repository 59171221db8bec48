"""Upgraded streams through both hops over TLS, to a streaming server that stands for containerd's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.unit.kubelet.rig import FakeHandle, Rig, RuntimeRefused, make_instance, make_pod, running_status
from vk_provider.kubelet.streams.broken_exec import MESSAGE

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
SPDY = SWITCHED.replace(b"\r\n\r\n", b"\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
LAST_FRAME = b"\x00\x00\x00\x01\x01"
LIMIT_S = 60


def request(path: str, *extra: str, method: str = "POST") -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: node",
        "Authorization: Bearer good",
        "Connection: Upgrade",
        "Upgrade: SPDY/3.1",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@asynccontextmanager
async def streaming_server(rig: Rig, serve: Callable[[bytes, Reader, Writer], Awaitable[None]]) -> AsyncIterator[None]:
    """A server that reads the head of each request and hands the connection to `serve`."""
    ended: list[asyncio.Task[None]] = []

    async def accept(reader: Reader, writer: Writer) -> None:
        ended.append(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        await serve(head, reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    rig.runtime.port = server.sockets[0].getsockname()[1]
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    try:
        async with asyncio.timeout(LIMIT_S):
            yield
            await asyncio.gather(*ended)
    finally:
        server.close()
        await server.wait_closed()


async def close(writer: Writer) -> None:
    writer.close()
    await writer.wait_closed()


async def test_bytes_pass_unparsed_in_both_directions(rig: Rig) -> None:
    heads: list[bytes] = []

    async def echo(head: bytes, reader: Reader, writer: Writer) -> None:
        heads.append(head)
        writer.write(SWITCHED + b"\x00\xffhello")
        while data := await reader.read(4096):
            writer.write(data)

    async with streaming_server(rig, echo):
        reader, writer = await rig.open()
        path = "/exec/ns/web/uid-1/c?command=a%20b&command=%2B&input=1&output=1&error=1"
        writer.write(request(path, "X-Stream-Protocol-Version: v4", "X-Stream-Protocol-Version: v3", "Cookie: secret"))
        assert await reader.readuntil(b"\r\n\r\n") == SWITCHED
        assert await reader.readexactly(7) == b"\x00\xffhello"
        for size in (1, 10, 100_000):
            writer.write(b"z" * size)
            assert await reader.readexactly(size) == b"z" * size
        await close(writer)
    assert rig.runtime.calls == [("exec", "abc", ["a b", "+"], True, True, True, False)]
    head = heads[0].decode()
    assert head.startswith("POST /exec/token HTTP/1.1\r\n")
    assert head.index("X-Stream-Protocol-Version: v4") < head.index("X-Stream-Protocol-Version: v3")
    assert "Authorization" not in head and "secret" not in head


async def test_what_was_sent_before_the_end_arrives(rig: Rig) -> None:
    size = 20_000_000

    async def send(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SWITCHED)
        for _ in range(size // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()

    async with streaming_server(rig, send):
        reader, writer = await rig.open()
        writer.write(request("/attach/ns/web/c?output=1"))
        await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.read(-1)) == size
        await close(writer)
    assert rig.runtime.calls == [("attach", "abc", False, True, False, False)]


async def test_a_slow_reader_holds_the_sender_back(rig: Rig) -> None:
    size, sent, blocked = 160_000_000, 0, asyncio.Event()

    async def flood(_: bytes, reader: Reader, writer: Writer) -> None:
        nonlocal sent
        writer.write(SWITCHED)
        writer.transport.set_write_buffer_limits(high=0)
        while sent < size:
            writer.write(b"x" * 500_000)
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                blocked.set()
                await writer.drain()
            sent += 500_000

    async with streaming_server(rig, flood):
        reader, writer = await rig.open()
        writer.transport.pause_reading()
        writer.write(request("/portForward/ns/web"))
        await blocked.wait()
        # On the way may be four high-water marks and what the kernel holds: up to tcp_rmem and tcp_wmem for each of
        # three connections, 37 MB together where tcp_rmem allows 32 MiB.
        assert sent < size - 40_000_000
        writer.transport.resume_reading()
        received = 0
        while data := await reader.read(1 << 20):
            received += len(data)
        assert received == len(SWITCHED) + size
        await close(writer)
    assert rig.runtime.calls == [("portforward", "sandbox", [])]


async def test_the_end_of_the_client_reaches_the_runtime(rig: Rig) -> None:
    got: list[bytes] = []

    async def sink(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SWITCHED)
        got.append(await reader.read(-1))

    async with streaming_server(rig, sink):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?input=1"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x" * 3_000_000)
        await close(writer)
    assert len(got[0]) == 3_000_000


async def test_a_refusal_of_the_streaming_server_reaches_the_client(rig: Rig) -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"

    async def refuse(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(answer)

    async with streaming_server(rig, refuse):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?output=1"))
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n") and body == b"no"
        await close(writer)


@pytest.mark.parametrize("path", ["/exec/ns/web/c?output=1", "/attach/ns/web/c?output=1", "/portForward/ns/web"])
@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary Redirect", b"200 OK\r\nSet-Cookie: a=b"])
async def test_no_answer_before_the_upgrade_leads_the_api_server_elsewhere(rig: Rig, path: str, status: bytes) -> None:
    location = b"Location: http://169.254.169.254/latest/"

    async def redirect(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\n" + location + b"\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        await reader.read(-1)

    async with streaming_server(rig, redirect):
        reader, writer = await rig.open()
        writer.write(request(path))
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        assert b"Location" not in head and b"Set-Cookie" not in head and b"169.254" not in body
        assert head.startswith(b"HTTP/1.1 200 OK" if status.startswith(b"200") else b"HTTP/1.1 502 Bad Gateway")
        await close(writer)


async def ask_agent(rig: Rig, path: str) -> tuple[bytes, bytes]:
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    reader, writer = await rig.open()
    writer.write(request(path))
    async with asyncio.timeout(LIMIT_S):
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    await close(writer)
    return head.split(b"\r\n")[0], body


@pytest.mark.parametrize(
    ("code", "status"), [("NOT_FOUND", b"404 Not Found"), ("INTERNAL", b"500"), ("RESOURCE_EXHAUSTED", b"429")]
)
async def test_errors_of_the_runtime_become_statuses(rig: Rig, code: str, status: bytes) -> None:
    rig.runtime.error = RuntimeRefused(code, "what it said")
    line, body = await ask_agent(rig, "/exec/ns/web/c?output=1")
    assert status in line
    assert body == b"what it said"


async def test_a_container_that_does_not_run_is_not_found(rig: Rig) -> None:
    rig.view.status, rig.runtime.state = {}, 2
    line, body = await ask_agent(rig, "/exec/ns/web/c?output=1")
    assert (line, body) == (b"HTTP/1.1 500 Internal Server Error", b'container not found ("c")')


async def test_a_container_whose_post_start_hook_runs_can_be_entered(rig: Rig) -> None:
    """Its status says Waiting, the runtime says that it runs."""
    rig.view.status["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    rig.runtime.error = RuntimeRefused("INTERNAL", "as far as the runtime")
    assert (await ask_agent(rig, "/exec/ns/web/c?output=1"))[1] == b"as far as the runtime"


async def test_a_streaming_server_that_does_not_listen_is_an_error(rig: Rig) -> None:
    rig.runtime.port = 1
    line, body = await ask_agent(rig, "/exec/ns/web/c?output=1")
    assert b"500" in line and b"streaming server does not answer" in body


async def test_websocket_port_forward_needs_its_ports(rig: Rig) -> None:
    rig.source.handles.append(FakeHandle(make_pod(), running_status(), make_instance()))
    reader, writer = await rig.open()
    writer.write(request("/portForward/ns/web", method="GET").replace(b"SPDY/3.1", b"websocket"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 400 " in head
    assert await reader.readexactly(34) == b'query parameter "port" is required'
    await close(writer)


async def test_an_idle_stream_is_closed(tmp_path) -> None:
    rig = Rig(tmp_path, idle_s=0.1)
    await rig.start()

    async def wait(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SWITCHED)
        await reader.read(-1)

    async with streaming_server(rig, wait):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?output=1"))
        await reader.readuntil(b"\r\n\r\n")
        assert MESSAGE.encode() in await reader.read(-1)
        await close(writer)
    await rig.stop()


async def test_an_exec_that_breaks_off_has_failed(rig: Rig) -> None:
    async def break_off(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SPDY + b"\x00\x00\x00\x05\x00\x00\x00\x02!!")
        await writer.drain()
        await reader.readexactly(2)
        writer.transport.abort()

    async with streaming_server(rig, break_off):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?output=1"))
        await reader.readuntil(b"!!")
        writer.write(b"go")
        last = await reader.read(-1)
        assert last.startswith(LAST_FRAME) and b'"status": "Failure"' in last
        await close(writer)


async def test_an_exec_that_ends_has_the_last_word_itself(rig: Rig) -> None:
    end = b"\x80\x03\x00\x07\x00\x00\x00\x08" + bytes(8)

    async def finish(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SPDY + end)

    async with streaming_server(rig, finish):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?output=1"))
        assert await reader.read(-1) == SPDY + end
        await close(writer)


async def test_an_exec_that_the_server_stops_has_failed(tmp_path) -> None:
    rig = Rig(tmp_path)
    await rig.start()

    async def wait(_: bytes, reader: Reader, writer: Writer) -> None:
        writer.write(SPDY)
        await reader.read(-1)

    async with streaming_server(rig, wait):
        reader, writer = await rig.open()
        writer.write(request("/exec/ns/web/c?output=1"))
        await reader.readuntil(b"\r\n\r\n")
        await rig.stop()
        assert (await reader.read(-1)).startswith(LAST_FRAME)
        await close(writer)
