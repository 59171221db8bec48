"""The agent as a process of its own: memory, start, what it costs when nothing happens.

The local cloud forks agents from a process that has imported them, which shares memory and saves the start. Here the
instance's agent is replaced by one that is started from nothing, as on a machine of a real cloud: it takes the running
pod over and the provider connects to it again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.api import Api, PodTimes
from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import find_children, private_mb, resident_mb, threads_cpu_seconds
from tests.bench.one_pod import build_pod, instance_directory
from tests.bench.prometheus import Scrape
from vk_provider.cloud.local.boot import BootSpec
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.wire.bootdata import AGENT_PORT

STARTS = 7
IDLE_S = 30.0
SETTLE_S = 12.0
"""Longer than the interval of stats samples: everything that is imported late has been."""
AGENT_NAME = "vk-agent"


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    times = PodTimes(api, "default")
    try:
        provider = await cluster.start_provider("local", api)
        await times.start()
        await times.create(build_pod(provider.node, "idle"))
        await times.wait(times.running, 1, 60)
        pod = await api.call("GET", f"{times.path}/idle")
        directory = instance_directory(cluster, pod)
        spec, init = BootSpec.load(directory), first_process(directory)
        forked = find_children(init, AGENT_NAME)[0]
        await asyncio.sleep(SETTLE_S)
        shared_mb = private_mb(forked)
        starts = []
        with stopped(init):
            os.kill(forked, signal.SIGKILL)
            await asyncio.sleep(0.2)
            for number in range(STARTS):
                process, seconds = await asyncio.to_thread(start_agent, init, spec)
                starts.append(seconds * 1000)
                pid = find_children(process.pid, "")[0]  # nsenter waits for what it has started
                if number < STARTS - 1:
                    os.kill(pid, signal.SIGKILL)
                    process.wait()
            await _wait_session(api, provider.metrics_url)
            await asyncio.sleep(SETTLE_S)
            private, resident, cpu = private_mb(pid), resident_mb(pid), threads_cpu_seconds(pid)
            await asyncio.sleep(IDLE_S)
            idle = (threads_cpu_seconds(pid) - cpu) / IDLE_S * 100
            os.kill(pid, signal.SIGKILL)
            process.wait()
        await times.delete("idle")
        await times.wait(times.gone, 1, 60)
        await times.stop()
        cluster.stop_provider(provider)
    finally:
        await api.close()
    return [
        Figure("agent_memory", private, "MB", goal=40, note=f"private, pod running; resident {resident:.0f} MB"),
        Figure("agent_memory_forked", shared_mb, "MB", note="private, as the local cloud starts it"),
        median_figure("agent_start", starts, "ms", goal=400, note="process start to port answering, from nothing"),
        Figure("agent_idle_cpu", idle, "% of a core", note=f"over {IDLE_S:.0f} s, pod running, session open"),
    ]


def first_process(directory: Path) -> int:
    """Pid (on the host) of the instance's first process."""
    identity = ProcessIdentity.read(directory / "pid")
    assert identity is not None
    return identity.pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The instance's first process does not restart its agent meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def start_agent(init: int, spec: BootSpec) -> tuple[subprocess.Popen[bytes], float]:
    """Start the agent within the instance's namespaces; returns when its port answers, and after how many seconds."""
    address = (spec.addresses.primary_ip, AGENT_PORT)
    if _answers(address):
        raise RuntimeError("the agent before still answers")
    with (spec.path / "agent-bench.log").open("ab") as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            ["nsenter", "-t", str(init), "--all", *spec.agent], env=spec.environment, stdout=log, stderr=log
        )
    while not _answers(address):
        if process.poll() is not None or time.perf_counter() - started > 30:
            raise RuntimeError(f"the agent does not answer, see {spec.path / 'agent-bench.log'}")
        time.sleep(0.002)
    return process, time.perf_counter() - started


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


async def _wait_session(api: Api, metrics_url: str) -> None:
    """Until the provider has found the agent again: its samples and certificates are part of an idle agent's cost."""
    for _ in range(300):
        if Scrape.parse(await api.text(metrics_url), "vk_agent_sessions").total("vk_agent_sessions") >= 1:
            return
        await asyncio.sleep(0.1)
    print("warning: no session with the agent", file=sys.stderr)
