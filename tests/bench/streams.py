"""exec, port-forward and logs through the product, against containerd's own streaming server reached directly.

Three ways to the same container: directly (a socket made inside the instance's network namespace), through the
provider's kubelet API (TLS with the API server's kubelet client certificate, then TLS to the agent), and through the
API server. All speak WebSocket v4; the client reads raw bytes, so that its own framing is not what is measured.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from tests.bench.agent import AGENT_NAME, first_process
from tests.bench.api import Api, PodTimes
from tests.bench.cluster import ADDRESS, BenchCluster, Provider
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import cpu_seconds, find_children, load
from tests.bench.one_pod import build_pod, instance_directory
from vk_provider.agent.runtime import ContainerRuntime
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns
from vk_provider.jsontypes import Json

POD, PORT = "streams", 9000
TRUE_ROUNDS, BIG_ROUNDS = 15, 3
TRUE_PAUSE_S = 0.2
"""Else each way is measured with what the one before it leaves behind: containerd takes its process away after the
client has heard the end, and through more hops the client hears it later."""
BIG_BYTES = 1_000_000_000
BIG_LIMIT_S = 45.0
"""No further round is begun after this: on a busy machine one has to do."""
FOLLOWERS, FOLLOW_S = 50, 10.0
LINE = "x" * 80
SERVER = (
    f"(while true; do head -c {BIG_BYTES + 10_000_000} /dev/zero | nc -l -p {PORT}; done) & "
    f"while true; do i=0; while [ $i -lt 40 ]; do echo {LINE}; i=$((i+1)); done; sleep 0.2; done"
)


class Counter(asyncio.BufferedProtocol):
    """Counts what arrives. `enough` is done after `wanted` bytes, `ended` with the connection."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.received, self.lines = wanted, 0, 0
        self.head = b""
        self._buffer = bytearray(256 * 1024)
        loop = asyncio.get_running_loop()
        self.enough: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if len(self.head) < 200:
            self.head += bytes(self._buffer[: min(nbytes, 200)])
        if not self.wanted:
            self.lines += self._buffer.count(b"\n", 0, nbytes)
        self.received += nbytes
        if self.wanted and self.received >= self.wanted and not self.enough.done():
            self.enough.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.ended, self.enough):
            if not future.done():
                future.set_result(None)


Open = Callable[[str, Counter], Awaitable[asyncio.Transport]]
"""Opens a stream: what is "forward" or a command; bytes go to the counter."""


@dataclass(frozen=True, slots=True)
class Target:
    """The pod that is talked to."""

    init: int
    container_id: str
    sandbox_id: str
    agent: int


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    times = PodTimes(api, "default")
    try:
        provider = await cluster.start_provider("local", api)
        await times.start()
        pod = build_pod(provider.node, POD, ("sh", "-c", SERVER))
        # A large type: its CPU quota shall not be what is measured.
        pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "3", "memory": "1Gi"}}
        await times.create(pod)
        await times.wait(times.running, 1, 60)
        figures = await _measure_pod(cluster, api, provider, await api.call("GET", f"{times.path}/{POD}"))
        await times.delete(POD)
        await times.wait(times.gone, 1, 60)
        await times.stop()
        cluster.stop_provider(provider)
    finally:
        await api.close()
    return figures


async def _measure_pod(cluster: BenchCluster, api: Api, provider: Provider, pod: Json) -> list[Figure]:
    init = first_process(instance_directory(cluster, pod))
    runtime = ContainerRuntime(f"/proc/{init}/root/run/containerd/containerd.sock")
    try:
        container_id = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        sandbox_id = (await runtime.list_pod_sandboxes())[0].id
        target = Target(init, container_id, sandbox_id, find_children(init, AGENT_NAME)[0])
        ways = {
            "direct": direct(runtime, target),
            "provider": through_provider(cluster, provider),
            "apiserver": through_api_server(cluster),
        }
        figures = await _exec_true(ways)
        for name, what in (("exec_1gb", f"head -c {BIG_BYTES} /dev/zero"), ("port_forward_1gb", "forward")):
            figures += await _throughput(name, ways, what, provider, target)
        return [*figures, *await _follow_logs(cluster, provider, target)]
    finally:
        await runtime.close()


def direct(runtime: ContainerRuntime, target: Target) -> Open:
    async def open_stream(what: str, counter: Counter) -> asyncio.Transport:
        if what == "forward":
            url = urlsplit(await runtime.port_forward_url(target.sandbox_id, [PORT]))
        else:
            url = urlsplit(await runtime.exec_url(target.container_id, what.split(" "), False, True, True, False))
        connection = await asyncio.to_thread(_connect_inside, target.init, url.hostname or "", url.port or 0)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: counter, sock=connection)
        transport.write(_upgrade(f"{url.path}?{url.query}"))
        return transport

    return open_stream


def _connect_inside(pid: int, host: str, port: int) -> socket.socket:
    """A connection made in the network namespace of `pid`; the calling thread is back in its own afterwards."""
    own, there = (os.open(f"/proc/{name}/ns/net", os.O_RDONLY) for name in ("thread-self", pid))
    try:
        setns(there, CLONE_NEWNET)
        try:
            return socket.create_connection((host, port))
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
        os.close(there)


def through_provider(cluster: BenchCluster, provider: Provider) -> Open:
    pki = cluster.plane.state.pki
    tls = _client_tls(cluster, pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")

    async def open_stream(what: str, counter: Counter) -> asyncio.Transport:
        path = (
            f"/portForward/default/{POD}?port={PORT}"
            if what == "forward"
            else (f"/exec/default/{POD}/c?{_exec_query(what)}")
        )
        return await _open(ADDRESS, provider.port, tls, path, counter)

    return open_stream


def through_api_server(cluster: BenchCluster) -> Open:
    pki, url = cluster.plane.state.pki, urlsplit(cluster.plane.url)
    tls = _client_tls(cluster, pki / "admin.crt", pki / "admin.key")

    async def open_stream(what: str, counter: Counter) -> asyncio.Transport:
        pod = f"/api/v1/namespaces/default/pods/{POD}"
        path = f"{pod}/portforward?ports={PORT}" if what == "forward" else f"{pod}/exec?{_exec_query(what)}"
        return await _open(url.hostname or "", url.port or 0, tls, path, counter)

    return open_stream


def _client_tls(cluster: BenchCluster, certificate: os.PathLike[str], key: os.PathLike[str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(cluster.plane.ca))
    context.load_cert_chain(certificate, key)
    return context


async def _open(host: str, port: int, tls: ssl.SSLContext, path: str, counter: Counter) -> asyncio.Transport:
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: counter, host, port, ssl=tls)
    transport.write(_upgrade(path))
    return transport


def _upgrade(target: str) -> bytes:
    return (
        f"GET {target} HTTP/1.1\r\nHost: node\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    ).encode()


def _exec_query(command: str) -> str:
    words = [f"command={quote(word, safe='')}" for word in command.split(" ")]
    return "&".join([*words, "stdout=1", "stderr=1", "output=1", "error=1"])


async def _run(open_stream: Open, what: str, wanted: int) -> float:
    """Seconds until the stream has ended (wanted 0) or `wanted` bytes have come. Raises when it was refused."""
    counter = Counter(wanted)
    started = time.perf_counter()
    transport = await open_stream(what, counter)
    async with asyncio.timeout(120):
        await (counter.enough if wanted else counter.ended)
    seconds = time.perf_counter() - started
    transport.abort()
    if b" 101 " not in counter.head[:40] or counter.received < wanted:
        raise RuntimeError(f"{what}: {counter.received} bytes, answer {counter.head[:200]!r}")
    return seconds


async def _run_served(open_stream: Open, what: str) -> float:
    """BIG_BYTES; again when the server in the pod was not listening yet after the stream before."""
    for _ in range(20):
        try:
            return await _run(open_stream, what, BIG_BYTES)
        except RuntimeError as error:
            if "error forward" not in str(error):
                raise
        await asyncio.sleep(0.5)
    raise RuntimeError(f"nobody listens on port {PORT} of the pod")


async def _exec_true(ways: dict[str, Open]) -> list[Figure]:
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(TRUE_ROUNDS + 1):
        for way, open_stream in ways.items():
            await asyncio.sleep(TRUE_PAUSE_S)
            seconds = await _run(open_stream, "true", 0)
            if number:
                taken[way].append(seconds * 1000)
    middle = {way: statistics.median(values) for way, values in taken.items()}
    ratios = [through / near for through, near in zip(taken["provider"], taken["direct"], strict=True)]
    print(f"  exec: {middle}, load {load()}", file=sys.stderr, flush=True)
    return [
        median_figure(
            "exec_true_ratio",
            ratios,
            "x direct",
            goal=1.3,
            note="provider and agent against containerd's streaming server, turn by turn",
        ),
        median_figure("exec_true_direct", taken["direct"], "ms", note="CRI Exec and containerd's streaming server"),
        median_figure("exec_true_provider", taken["provider"], "ms", note="new TLS connection, provider, agent"),
        median_figure(
            "exec_true_apiserver",
            taken["apiserver"],
            "ms",
            note=f"the API server's own part is {middle['apiserver'] - middle['provider']:.1f} ms",
        ),
    ]


async def _throughput(name: str, ways: dict[str, Open], what: str, provider: Provider, target: Target) -> list[Figure]:
    rates: dict[str, list[float]] = {"direct": [], "provider": []}
    cpu = 0.0
    started = time.monotonic()
    while len(rates["direct"]) < BIG_ROUNDS and (not rates["direct"] or time.monotonic() - started < BIG_LIMIT_S):
        for way, found in rates.items():
            before = cpu_seconds(provider.pid) + cpu_seconds(target.agent)
            found.append(BIG_BYTES / 1e6 / await _run_served(ways[way], what))
            if way == "provider":
                cpu += cpu_seconds(provider.pid) + cpu_seconds(target.agent) - before
    ratios = [through / near for through, near in zip(rates["provider"], rates["direct"], strict=True)]
    middle = {way: statistics.median(values) for way, values in rates.items()}
    print(f"  {name}: {middle}, load {load()}", file=sys.stderr, flush=True)
    note = f"{middle['provider']:.0f} of {middle['direct']:.0f} MB/s, TLS on both hops"
    detail = {
        "through MB/s": round(middle["provider"], 1),
        "direct MB/s": round(middle["direct"], 1),
        "provider and agent s CPU a GB": round(cpu / len(ratios), 2),
    }
    return [median_figure(f"{name}_ratio", ratios, "x direct", goal=0.7, most=False, note=note, detail=detail)]


async def _follow_logs(cluster: BenchCluster, provider: Provider, target: Target) -> list[Figure]:
    """Many followers of one log: does everybody get every line, and what does it cost?"""
    pki = cluster.plane.state.pki
    tls = _client_tls(cluster, pki / "apiserver-kubelet-client.crt", pki / "apiserver-kubelet-client.key")
    request = f"GET /containerLogs/default/{POD}/c?follow=true&tailLines=0 HTTP/1.1\r\nHost: node\r\n\r\n".encode()
    followers = [Counter(0) for _ in range(FOLLOWERS)]
    transports = []
    for follower in followers:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda follower=follower: follower,
            ADDRESS,
            provider.port,
            ssl=tls,
        )
        transport.write(request)
        transports.append(transport)
    while any(follower.received < len(LINE) * 40 for follower in followers):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.05)
    counts = [follower.received for follower in followers]
    cpu, started = [cpu_seconds(pid) for pid in (provider.pid, target.agent)], time.perf_counter()
    await asyncio.sleep(FOLLOW_S)
    seconds = time.perf_counter() - started
    used = [cpu_seconds(pid) - before for pid, before in zip((provider.pid, target.agent), cpu, strict=True)]
    received = [follower.received - before for follower, before in zip(followers, counts, strict=True)]
    for transport in transports:
        transport.abort()
    # Chunk framing adds a few bytes a batch; lines are counted from bytes so that counting costs nothing.
    lines = sum(received) / (len(LINE) + 1) / seconds
    return [
        Figure(
            "followed_logs_50",
            lines,
            "lines/s",
            note=f"slowest follower has {min(received) / max(received) * 100:.0f} % of the fastest's bytes",
        ),
        Figure(
            "followed_logs_50_cpu",
            sum(used) / seconds * 100,
            "% of a core",
            note=f"provider {used[0] / seconds * 100:.0f} %, agent {used[1] / seconds * 100:.0f} %",
        ),
    ]
