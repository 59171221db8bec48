"""10,000 Services in the real API server: until they work on an instance, until a changed endpoint is reached, memory,
and how much later a pod runs. Beside it kube-proxy on the same API server, in the network namespace of a pod.

Endpoints that are connected to are pods of the local cloud. While one of the two is measured the other one is stopped,
and so are the agents of all instances but the client's: each would have processors of its own, as kube-proxy has here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.api import Api
from tests.bench.cluster import BenchCluster, Provider
from tests.bench.figure import Figure, median_figure
from tests.bench.first_table import FEW_NAMESPACE, FirstTables
from tests.bench.machine import private_mb, resident_mb
from tests.bench.node_proxy import NodeProxy
from tests.bench.objects import PORT, add_services, add_target, move_target
from tests.bench.pod_netns import PodPlace, run_within, servers, start_pod, wait_answer
from tests.bench.prometheus import Scrape
from vk_provider.agent.proxy.ruleset import read_revision
from vk_provider.agent.proxy.table import KERNEL_NAMES, SECOND_NAMES

SERVICES, FEW = 10_000, 100
CHANGES, COUNTED_CHANGES, THEIR_CHANGES = 11, 3, 11
SETTLE_S = 12.0
"""Longer than the interval of stats samples: everything that is imported late has been."""
LIMIT_S = 90.0
LEAST_FULL_SYNC_S = 1.0
"""kube-proxy's first sync may come before it has listed everything."""
PODS = ("a", "b", "client", "beside", "beside-few")


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    try:
        return await _Measurement(cluster, api).run()
    finally:
        await api.close()
        await asyncio.to_thread(cluster.renew)  # 20,000 objects are more than the next benchmark shall see


class _Measurement:
    def __init__(self, cluster: BenchCluster, api: Api) -> None:
        self._cluster, self._api = cluster, api
        self._target = "a"

    async def run(self) -> list[Figure]:
        cluster, api = self._cluster, self._api
        provider = await cluster.start_provider("local", api)
        places = {name: await start_pod(cluster, api, provider, name) for name in PODS}
        await asyncio.sleep(SETTLE_S)
        few_mb = resident_mb(provider.pid), private_mb(places["client"].agent)
        first = FirstTables(cluster, api)
        await first.compare_few(provider, FEW)
        ip = await add_target(api, places["a"].address)
        with servers({name: places[name] for name in ("a", "b")}, PORT):
            await asyncio.to_thread(wait_answer, places["client"].pod, (ip, PORT), "a", LIMIT_S)
            await add_services(api, FEW_NAMESPACE, FEW)
            few_ms, _ = await self._change(provider, places, ip)
            with _stopped(provider.pid):
                few_theirs = await self._beside(provider, places, "beside-few", ip, least_s=0.0)
            cluster.stop_provider(provider)
            await add_services(api, "many", SERVICES)
            with _stopped(*(place.agent for name, place in places.items() if name != "client")):
                started_s, provider = await self._restart(places["client"])
            await first.measure_many(provider, SERVICES)
            fresh = await start_pod(cluster, api, provider, "fresh")
            await asyncio.sleep(SETTLE_S)
            many_mb = resident_mb(provider.pid), private_mb(fresh.agent)
            _tell(f"provider and agent {few_mb[0]:.1f}, {few_mb[1]:.1f} MB, then {many_mb[0]:.1f}, {many_mb[1]:.1f} MB")
            ours_ms, bytes_each = await self._change(provider, places, ip)
            with _stopped(provider.pid):
                theirs = await self._beside(provider, places, "beside", ip, least_s=LEAST_FULL_SYNC_S)
        cluster.stop_provider(provider)
        return [
            *_start_figures(started_s, first.applied_s, theirs),
            *_change_figures("endpoint", SERVICES, ours_ms, theirs),
            *_change_figures("endpoint_few", FEW, few_ms, few_theirs),
            Figure("endpoint_bytes", bytes_each, "B", note="sent to each instance for a changed endpoint"),
            *_memory_figures(few_mb, many_mb, theirs.memory_mb),
            *first.figures(),
        ]

    async def _restart(self, place: PodPlace) -> tuple[float, Provider]:
        """Start the provider: seconds until the instance has the table of all Services."""
        before = await asyncio.to_thread(_revision, place)
        started = time.perf_counter()
        waiting = asyncio.create_task(asyncio.to_thread(_wait_other_revision, place, before))
        provider = await self._cluster.start_provider("local", self._api)
        took = await waiting - started
        _tell(f"process start to the table on an instance {took:.1f} s")
        return took, provider

    async def _change(self, provider: Provider, places: dict[str, PodPlace], ip: str) -> tuple[list[float], float]:
        """Milliseconds from each change's write to the first connection; bytes to each instance for a change."""
        with _stopped(*(place.agent for name, place in places.items() if name != "client")):
            took = await self._time_changes(places, places["client"].pod, ip, CHANGES)
        await asyncio.sleep(1.0)
        before = await _sent(self._api, provider)
        await self._time_changes(places, places["client"].pod, ip, COUNTED_CHANGES)
        await asyncio.sleep(1.0)
        sent = await _sent(self._api, provider) - before
        return took, sent / await _sessions(self._api, provider) / COUNTED_CHANGES

    async def _time_changes(self, places: dict[str, PodPlace], client: str, ip: str, count: int) -> list[float]:
        took = []
        for _ in range(count):
            name = self._target = "b" if self._target == "a" else "a"
            waiting = asyncio.create_task(asyncio.to_thread(wait_answer, client, (ip, PORT), name, LIMIT_S))
            await asyncio.sleep(0.5)  # not within the interval of the change before, and the client tries
            started = time.perf_counter()
            await move_target(self._api, places[name].address)
            took.append((await waiting - started) * 1000)
        _tell(f"a changed endpoint is reached after {', '.join(f'{value:.0f}' for value in took)} ms")
        return took

    async def _beside(
        self, provider: Provider, places: dict[str, PodPlace], name: str, ip: str, least_s: float
    ) -> _Theirs:
        place = places[name]
        proxy = NodeProxy(self._cluster, provider.node, place.pod)
        started = time.perf_counter()
        proxy.start()
        try:
            full_s = await proxy.wait_synced(least_s)
            started_s = time.perf_counter() - started
            _tell(f"kube-proxy: full sync {full_s:.1f} s")
            took = await self._time_changes(places, place.pod, ip, THEIR_CHANGES)
            return _Theirs(full_s, started_s, took, private_mb(proxy.pid))
        finally:
            proxy.stop()


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


class _Theirs:
    def __init__(self, full_s: float, started_s: float, changes_ms: list[float], memory_mb: float) -> None:
        self.full_s, self.started_s, self.changes_ms, self.memory_mb = full_s, started_s, changes_ms, memory_mb


async def _sent(api: Api, provider: Provider) -> float:
    scrape = Scrape.parse(await api.text(provider.metrics_url), "vk_table_sent_bytes")
    return scrape.total("vk_table_sent_bytes_total", table="services")


async def _sessions(api: Api, provider: Provider) -> float:
    scrape = Scrape.parse(await api.text(provider.metrics_url), "vk_agent_sessions")
    return scrape.total("vk_agent_sessions")


def _revision(place: PodPlace) -> str:
    """Under either name of the table: one that is made in stages takes the other."""
    names = KERNEL_NAMES["services"], SECOND_NAMES["services"]
    return run_within(place.instance, lambda: next(filter(None, map(read_revision, names)), ""))


def _wait_other_revision(place: PodPlace, before: str) -> float:
    deadline = time.perf_counter() + LIMIT_S
    while time.perf_counter() < deadline:
        if _revision(place) not in (before, ""):
            return time.perf_counter()
        time.sleep(0.005)
    raise TimeoutError("the instance has not got the table")


@contextmanager
def _stopped(*pids: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _start_figures(started_s: float, applied_s: list[float], theirs: _Theirs) -> list[Figure]:
    shape = f"{SERVICES} Services x 2 endpoints"
    return [
        Figure(
            "network_start_ratio",
            started_s / theirs.started_s,
            "x",
            goal=0.1,
            note="process start to rules in force, provider and an agent that runs / kube-proxy",
        ),
        Figure(
            "network_start", started_s, "s", note=f"{shape}: listed, compiled, pushed, applied; Python's start, too"
        ),
        Figure(
            "network_start_kube_proxy", theirs.started_s, "s", note=f"its full sync takes {theirs.full_s:.1f} s of it"
        ),
        median_figure(
            "network_push_ratio",
            [value / theirs.full_s for value in applied_s],
            "x",
            goal=0.1,
            note="a new instance: greeting to its agent's word, against kube-proxy's full sync",
        ),
        median_figure("network_push", applied_s, "s", note=f"{shape}: pushed to a new instance and applied"),
    ]


def _change_figures(name: str, services: int, ours_ms: list[float], theirs: _Theirs) -> list[Figure]:
    ratio = statistics.median(ours_ms) / statistics.median(theirs.changes_ms)
    return [
        Figure(
            f"{name}_ratio",
            ratio,
            "x",
            goal=0.5,
            note="slice written to first connection that reaches the new endpoint, against kube-proxy's",
        ),
        median_figure(name, ours_ms, "ms", note=f"with {services} Services"),
        median_figure(
            f"{name}_kube_proxy",
            theirs.changes_ms,
            "ms",
            note="the same by kube-proxy, which waits for nothing (minSyncPeriod 1 ms)",
        ),
    ]


def _memory_figures(few: tuple[float, float], many: tuple[float, float], kube_proxy_mb: float) -> list[Figure]:
    note = f"more by {SERVICES} Services"
    return [
        Figure("network_agent_memory", many[1] - few[1], "MB", goal=6, note=f"private memory of an agent, {note}"),
        Figure("network_provider_memory", many[0] - few[0], "MB", goal=60, note=f"resident, {note}: {many[0]:.0f} MB"),
        Figure("network_kube_proxy_memory", kube_proxy_mb, "MB", note="private memory of kube-proxy with them"),
    ]
