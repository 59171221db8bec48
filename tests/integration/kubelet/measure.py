"""Measures streams through provider and agent against containerd's streaming server reached directly.

`python -m tests.integration.kubelet.measure` needs root; prints one JSON line per figure. Provider and agent run as
processes of their own, as they do for real; TLS is on both hops. The client reads raw bytes, so that its own WebSocket
parsing is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.integration.agent.private_containerd import PrivateContainerd
from tests.integration.kubelet.pod import start_pod
from tests.unit.kubelet.rig import FakeHandle, FakeView, Rig, make_instance, make_pod
from vk_provider.agent.runtime import ContainerRuntime

ROUNDS = 15
BIG_BYTES = 1_000_000_000
FOLLOWERS = 50
SERVER = "while true; do head -c 1100000000 /dev/zero | nc -l -p 9000; done & while true; do echo tick; sleep 1; done"


class Counter(asyncio.BufferedProtocol):
    """Counts what arrives; `enough` is done after `wanted` bytes, `ended` with the connection."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.received = wanted, 0
        self.buffer = bytearray(256 * 1024)
        loop = asyncio.get_running_loop()
        self.enough: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if self.received >= self.wanted and not self.enough.done():
            self.enough.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


Open = Callable[[str, Callable[[], Counter]], Awaitable[tuple[asyncio.Transport, Counter]]]


def upgrade(target: str) -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: node\r\nAuthorization: Bearer good\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    ).encode()


async def run_stream(open_stream: Open, what: str, wanted: int) -> float:
    """Seconds from asking until the end of the stream (wanted 0) or until so many bytes have come."""
    while True:
        started = time.perf_counter()
        transport, counter = await open_stream(what, lambda: Counter(wanted or 1 << 62))
        await asyncio.wait((counter.enough, counter.ended), return_when=asyncio.FIRST_COMPLETED)
        seconds = time.perf_counter() - started
        transport.abort()
        if not wanted or counter.enough.done():
            return seconds
        # The server in the pod listens again only a moment after its last connection.
        await asyncio.sleep(0.2)


def exec_query(*command: str) -> str:
    return "&".join([*(f"command={quote(word, safe='')}" for word in command), "output=1", "error=1"])


def direct(runtime: ContainerRuntime, view: FakeView) -> Open:
    async def open_stream(what: str, factory: Callable[[], Counter]) -> tuple[asyncio.Transport, Counter]:
        if what == "forward":
            url = urlsplit(await runtime.port_forward_url(view.sandbox_id, [9000]))
        else:
            url = urlsplit(await runtime.exec_url(view.container, what.split(" "), False, True, True, False))
        loop = asyncio.get_running_loop()
        transport, counter = await loop.create_connection(factory, url.hostname, url.port)
        transport.write(upgrade(f"{url.path}?{url.query}"))
        return transport, counter

    return open_stream


def through(port: int, tls: ssl.SSLContext) -> Open:
    async def open_stream(what: str, factory: Callable[[], Counter]) -> tuple[asyncio.Transport, Counter]:
        loop = asyncio.get_running_loop()
        transport, counter = await loop.create_connection(factory, "127.0.0.1", port, ssl=tls)
        if what == "forward":
            target = "/portForward/ns/web?port=9000"
        else:
            target = "/exec/ns/web/c?" + exec_query(*what.split(" "))
        transport.write(upgrade(target))
        return transport, counter

    return open_stream


def serve(role: str, directory: str, view: FakeView, address: str, pipe: Any) -> None:
    """Process of the agent or of the provider: both build the rig, each uses its half."""

    async def run() -> None:
        runtime = ContainerRuntime(address)
        rig = Rig(Path(directory) / role, idle_s=600, runtime=runtime)
        rig.view = view
        rig.source.handles.append(FakeHandle(make_pod(), view.status, make_instance()))
        await rig.start()
        if role == "agent":
            pipe.send((rig.connector.port, rig.ca.pem))
        else:
            port, pem = pipe.recv()
            rig.connector.port, rig.connector.tls = port, ssl.create_default_context(cadata=pem)
            pipe.send((rig.server.port, rig.ca.pem))
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        times = os.times()
        pipe.send(times.user + times.system)
        await rig.stop()
        await runtime.close()

    asyncio.run(run())


def report(name: str, **figures: Any) -> None:
    print(json.dumps({"name": name, **figures}), flush=True)


async def compare(name: str, near: Open, far: Open, what: str, wanted: int, rounds: int) -> None:
    """Alternate the two ways, so that noise meets both alike."""
    times: dict[str, list[float]] = {"direct": [], "through": []}
    for number in range(rounds + 1):
        for way, open_stream in (("direct", near), ("through", far)):
            seconds = await run_stream(open_stream, what, wanted)
            if number or rounds == 1:
                times[way].append(seconds)
    direct_s, through_s = (statistics.median(times[way]) for way in ("direct", "through"))
    if wanted:
        megabytes = wanted / 1e6
        report(
            name,
            direct_mb_s=round(megabytes / direct_s),
            through_mb_s=round(megabytes / through_s),
            ratio=round(direct_s / through_s, 3),
        )
    else:
        report(
            name,
            direct_ms=round(direct_s * 1000, 2),
            through_ms=round(through_s * 1000, 2),
            ratio=round(through_s / direct_s, 3),
        )


async def follow_logs(port: int, tls: ssl.SSLContext) -> None:
    """Follow one log many times at once; the time until everybody has seen a first line."""

    async def follow() -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        transport, counter = await loop.create_connection(lambda: Counter(250), "127.0.0.1", port, ssl=tls)
        head = "GET /containerLogs/ns/web/c?follow=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\n\r\n"
        transport.write(head.encode())
        await counter.enough
        return transport

    started = time.perf_counter()
    transports = await asyncio.gather(*(follow() for _ in range(FOLLOWERS)))
    report("followed_logs", followers=FOLLOWERS, all_answered_ms=round((time.perf_counter() - started) * 1000))
    await asyncio.sleep(10)
    for transport in transports:
        transport.abort()


async def measure(containerd: PrivateContainerd, directory: str) -> None:
    runtime = ContainerRuntime(containerd.address)
    await runtime.wait_ready(10)
    view = await start_pod(containerd, runtime, "sh", "-c", SERVER)
    ends, processes = {}, []
    context = multiprocessing.get_context("spawn")
    for role in ("agent", "provider"):
        (Path(directory) / role).mkdir()
        ends[role], other = context.Pipe()
        process = context.Process(daemon=True, target=serve, args=(role, directory, view, containerd.address, other))
        process.start()
        processes.append(process)
    ends["provider"].send(ends["agent"].recv())
    port, pem = ends["provider"].recv()
    tls = ssl.create_default_context(cadata=pem)
    near, far = direct(runtime, view), through(port, tls)
    if "logs" not in sys.argv[1:]:
        await compare("exec_true", near, far, "true", 0, ROUNDS)
        await compare("exec_1gb", near, far, f"head -c {BIG_BYTES} /dev/zero", BIG_BYTES, 1)
        await compare("port_forward_1gb", near, far, "forward", BIG_BYTES, 1)
    await follow_logs(port, tls)
    for role, end in ends.items():
        end.send("stop")
        report("cpu", role=role, seconds=round(end.recv(), 2))
    for process in processes:
        process.join(10)
    await runtime.close()


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    containerd = PrivateContainerd()
    try:
        containerd.start()
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(measure(containerd, directory))
    finally:
        containerd.stop()


if __name__ == "__main__":
    main()
