"""Latency and throughput from pod to pod through a ClusterIP, against the pod's address directly, turn by turn.

Client and server are processes of this benchmark in the network namespaces of two pods: what differs is the path alone.
Run as `python -m tests.bench.clusterip server NAMESPACE` and `... client NAMESPACE DIRECT CLUSTERIP`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from tests.bench.api import Api
from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import PROJECT
from tests.bench.objects import PORT, add_target, remove_target
from tests.bench.pod_netns import run_within, start_pod, wait_answer

TURNS = 60
TRIPS, CONNECTS, STREAM_S = 400, 60, 0.15
CHUNK = 256 << 10
ECHO, SINK = b"e", b"s"
NAME = "server"
SIDES = ("direct", "clusterip")
LIMIT_S = 60.0

Turn = dict[str, float]


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    try:
        provider = await cluster.start_provider("local", api)
        server = await start_pod(cluster, api, provider, "server")
        client = await start_pod(cluster, api, provider, "client")
        address = await add_target(api, server.address)
        program = [sys.executable, "-m", "tests.bench.clusterip"]
        serving = await asyncio.create_subprocess_exec(*program, "server", server.pod, cwd=PROJECT)
        try:
            await asyncio.to_thread(wait_answer, client.pod, (address, PORT), NAME, LIMIT_S)
            asking = await asyncio.create_subprocess_exec(
                *program, "client", client.pod, server.address, address, cwd=PROJECT, stdout=subprocess.PIPE
            )
            output, _ = await asking.communicate()
        finally:
            serving.kill()
            await serving.wait()
        if asking.returncode:
            raise RuntimeError(f"the client ended with exit code {asking.returncode}")
        await remove_target(api)
        for name in ("server", "client"):
            await api.call("DELETE", f"/api/v1/namespaces/default/pods/{name}")
        cluster.stop_provider(provider)
    finally:
        await api.close()
    return _figures(json.loads(output))


def _figures(turns: dict[str, list[Turn]]) -> list[Figure]:
    """turns: measured thing -> value of each side, turn by turn."""

    def ratio(what: str, goal: float, most: bool, note: str) -> Figure:
        found = [turn["clusterip"] / turn["direct"] for turn in turns[what]]
        return median_figure(f"clusterip_{what}_ratio", found, "x direct", goal=goal, most=most, note=note)

    def middle(what: str, side: str) -> float:
        return statistics.median(turn[side] for turn in turns[what])

    def both(what: str) -> str:
        return f"{middle(what, 'clusterip'):.4g} against {middle(what, 'direct'):.4g}"

    return [
        ratio("latency", 1.03, True, f"a byte there and back on one connection: {both('latency')} us"),
        ratio("throughput", 0.97, False, f"one stream: {both('throughput')} MB/s"),
        ratio("connect", 1.03, True, f"a new connection, its first byte: {both('connect')} us"),
    ]


def serve(listener: socket.socket) -> None:
    """Serve one connection after the other: NAME to each, then what its first byte asks for."""
    buffer = bytearray(CHUNK)
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(NAME.encode())
            wanted = connection.recv(1)
            if wanted == ECHO:
                while data := connection.recv(64):
                    connection.sendall(data)
            elif wanted == SINK:
                while connection.recv_into(buffer):
                    pass
                connection.sendall(b"!")


def _open(target: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(target, LIMIT_S)
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not connection.recv(len(NAME)):
        raise ConnectionError(f"{target} has closed the connection")
    return connection


def time_latency(target: tuple[str, int]) -> float:
    """Microseconds."""
    took = []
    with _open(target) as connection:
        connection.sendall(ECHO)
        for _ in range(TRIPS):
            started = time.perf_counter()
            connection.sendall(b"?")
            connection.recv(1)
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def time_connect(target: tuple[str, int]) -> float:
    """Microseconds."""
    took = []
    for _ in range(CONNECTS):
        started = time.perf_counter()
        with _open(target):
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1e6


def time_throughput(target: tuple[str, int]) -> float:
    """MB/s."""
    chunk, sent = bytes(CHUNK), 0
    with _open(target) as connection:
        connection.sendall(SINK)
        started = time.perf_counter()
        while time.perf_counter() - started < STREAM_S:
            connection.sendall(chunk)
            sent += CHUNK
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        return sent / (time.perf_counter() - started) / 1e6


MEASURED: dict[str, Callable[[tuple[str, int]], float]] = {
    "latency": time_latency,
    "connect": time_connect,
    "throughput": time_throughput,
}


def take_turns(targets: dict[str, tuple[str, int]]) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {what: [] for what in MEASURED}
    for number in range(TURNS + 1):
        for what, time_it in MEASURED.items():
            turn = {side: time_it(targets[side]) for side in (SIDES if number % 2 else SIDES[::-1])}
            if number:  # the first warms up
                found[what].append(turn)
    return found


def main() -> None:
    role, namespace, *addresses = sys.argv[1:]
    if role == "server":
        serve(run_within(namespace, lambda: socket.create_server(("", PORT), backlog=1024)))
    else:
        targets = {side: (address, PORT) for side, address in zip(SIDES, addresses, strict=True)}
        print(json.dumps(run_within(namespace, lambda: take_turns(targets))))


if __name__ == "__main__":
    main()
