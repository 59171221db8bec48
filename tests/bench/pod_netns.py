"""The network namespaces of pods on the local cloud: servers and clients in them, without a program in the pod."""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.bench.agent import first_process
from tests.bench.api import Api, PodTimes
from tests.bench.cluster import BenchCluster, Provider
from tests.bench.machine import find_children
from tests.bench.one_pod import COMMAND, build_pod, instance_directory
from vk_provider.cloud.local.syscalls import CLONE_NEWNET, setns
from vk_provider.jsontypes import Json

T = TypeVar("T")

START_LIMIT_S = 60.0
ATTEMPT_S = 0.05
PAUSE_S = 0.0005


@dataclass(frozen=True, slots=True)
class PodPlace:
    """address: pod IP; instance, pod: files of the network namespaces; agent: pid of the agent"""

    address: str
    instance: str
    pod: str
    agent: int


def find_place(cluster: BenchCluster, pod: Json) -> PodPlace:
    """Raises LookupError. The pod must run COMMAND."""
    init = first_process(instance_directory(cluster, pod))
    agent = find_children(init, "vk-agent")[0]
    container = next((pid for pid in _descendants(init) if _name(pid) == COMMAND[0]), 0)
    if not container:
        raise LookupError(f"no process {COMMAND[0]} below {init}")
    return PodPlace(pod["status"]["podIP"], f"/proc/{init}/ns/net", f"/proc/{container}/ns/net", agent)


async def start_pod(cluster: BenchCluster, api: Api, provider: Provider, name: str) -> PodPlace:
    """A pod in the namespace default that runs COMMAND."""
    times = PodTimes(api, "default")
    await times.start()
    await times.create(build_pod(provider.node, name))
    await times.wait_running(name, START_LIMIT_S)
    await times.stop()
    return find_place(cluster, await api.call("GET", f"{times.path}/{name}"))


def _descendants(pid: int) -> Iterator[int]:
    try:
        children = find_children(pid, "")
    except FileNotFoundError:
        return  # it has ended, as each command of the agent does
    for child in children:
        yield child
        yield from _descendants(child)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


def run_within(namespace: str, call: Callable[[], T]) -> T:
    """`call` in a thread of its own that has entered the namespace; what it opens stays there."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with open(namespace) as handle:
                setns(handle.fileno(), CLONE_NEWNET)
            results.append(call())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name=f"in {namespace}")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@contextmanager
def servers(places: dict[str, PodPlace], port: int) -> Iterator[None]:
    """In each pod a server that sends its name to whoever connects."""
    with selectors.DefaultSelector() as selector:
        for name, place in places.items():
            made = run_within(place.pod, lambda: socket.create_server(("", port), backlog=1024))
            selector.register(made, selectors.EVENT_READ, name)
        stop, wake = os.pipe()
        selector.register(stop, selectors.EVENT_READ, "")
        thread = threading.Thread(target=_serve, args=(selector,), name="endpoints")
        thread.start()
        try:
            yield
        finally:
            os.write(wake, b"!")
            thread.join()
            os.close(wake)
            os.close(stop)


def _serve(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            server = key.fileobj
            if not isinstance(server, socket.socket):
                for other in selector.get_map().values():
                    if isinstance(other.fileobj, socket.socket):
                        other.fileobj.close()
                return
            try:
                with server.accept()[0] as connection:
                    connection.sendall(key.data.encode())
            except OSError:
                continue  # the client has gone


def wait_answer(namespace: str, target: tuple[str, int], wanted: str, limit_s: float) -> float:
    """Connect from the namespace again and again; when (perf_counter) `wanted` was the first to answer. Raises
    TimeoutError."""

    def attempt() -> float:
        deadline = time.perf_counter() + limit_s
        while time.perf_counter() < deadline:
            if _ask(target) == wanted:
                return time.perf_counter()
            time.sleep(PAUSE_S)
        raise TimeoutError(f"{target[0]}:{target[1]} is not answered by {wanted} after {limit_s:.0f} s")

    return run_within(namespace, attempt)


def _ask(target: tuple[str, int]) -> str:
    try:
        with socket.create_connection(target, ATTEMPT_S) as connection:
            return connection.recv(16).decode()
    except OSError:
        return ""
