"""1,000 pods at once: the provider on the simulated cloud against KWOK, which patches statuses and does nothing else.

Both run on the same API server, each on a node of its own, and take turns. What one leaves to do (KWOK deletes many
pods a second time, the provider posts events) is over before the other begins. Two shapes of a burst:
- created: pods are created already bound to the node (spec.nodeName), 64 requests at a time. Includes what the API
  server needs to create them, as for a user.
- backlog: the process under test is stopped (SIGSTOP) while the pods are created and then let go: all are bound at
  once, and only its own speed is left.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import statistics
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.bench import token_requests
from tests.bench.api import Api, PodTimes, make_namespace, run_all
from tests.bench.cluster import BenchCluster, Provider
from tests.bench.figure import Figure, median_figure, quantile
from tests.bench.kwok import start_kwok
from tests.bench.machine import cpu_seconds, load, resident_mb
from tests.bench.prometheus import Scrape
from tests.cluster.process import Process
from vk_provider.jsontypes import Json

PODS, MANY = 1000, 5000
ROUNDS = 5
LIMIT_S = 180.0
SETTLE_S = 2.0
QUIET_CPU, QUIET_LIMIT_S = 0.05, 60.0
"""Seconds of CPU in one second below which the API server has nothing to do."""


@dataclass(slots=True)
class Contender:
    """Whose pods are counted."""

    name: str
    node: str
    process: Process
    provider: Provider | None = None
    beside: dict[str, int] = field(default_factory=dict)
    """Processes that work for it: name -> pid."""

    @property
    def pid(self) -> int:
        self.process.require_alive()
        return self.process.pid() or 0


@dataclass(frozen=True, slots=True)
class Round:
    """One burst up and down. Seconds; latencies are of single pods, from the create request to Running seen."""

    up_s: float
    latencies_s: list[float]
    cpu_up_s: float
    cpu_s: float
    patches: float
    down_s: float
    resident_mb: float
    launch_p50_s: float = 0.0
    launch_p99_s: float = 0.0
    beside_s: dict[str, float] = field(default_factory=dict)
    """CPU of other processes, up and down."""
    down_cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU of the contender and of other processes from the first delete request until the last pod is gone."""

    @property
    def pods_per_s(self) -> float:
        return len(self.latencies_s) / self.up_s


def build_pod(node: str, number: int, tokens: bool) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{number:05}", "labels": {"app": "burst"}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": tokens,
            "containers": [
                {"name": "c", "image": "burst:1", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
            ],
        },
    }


async def run_round(
    api: Api, contender: Contender, namespace: str, count: int, *, tokens: bool = False, backlog: bool = False
) -> Round:
    """Create `count` pods, wait until all run, delete them, wait until all are gone."""
    times = PodTimes(api, namespace)
    await times.start()
    pods = [build_pod(contender.node, number, tokens) for number in range(count)]
    patches, scrape = await _patches(api), await _scrape(api, contender)
    beside = {name: cpu_seconds(pid) for name, pid in contender.beside.items()}
    cpu, started = cpu_seconds(contender.pid), time.perf_counter()
    if backlog:
        contender.process.signal(signal.SIGSTOP)
        await run_all(partial(times.create, pod) for pod in pods)
        contender.process.signal(signal.SIGCONT)
        started = time.perf_counter()
        times.created = dict.fromkeys(times.created, started)
    else:
        await run_all(partial(times.create, pod) for pod in pods)
    await times.wait(times.running, count, LIMIT_S)
    up_s, cpu_up = max(times.running.values()) - started, cpu_seconds(contender.pid) - cpu
    await asyncio.sleep(SETTLE_S)  # what follows the last Running (a second PATCH, events) must be seen
    patches, resident = await _patches(api) - patches, resident_mb(contender.pid)
    after = await _scrape(api, contender)
    processes = {contender.name: contender.pid, **contender.beside}
    down_cpu = {name: cpu_seconds(pid) for name, pid in processes.items()}
    deleted = time.perf_counter()
    await run_all(partial(times.delete, pod["metadata"]["name"]) for pod in pods)
    await times.wait(times.gone, count, LIMIT_S)
    down_s = max(times.gone.values()) - deleted
    down_cpu = {name: cpu_seconds(pid) - down_cpu[name] for name, pid in processes.items()}
    await times.stop()
    launch = "vk_pod_launch_seconds"
    return Round(
        up_s=up_s,
        latencies_s=[times.running[name] - times.created[name] for name in times.running],
        cpu_up_s=cpu_up,
        cpu_s=cpu_seconds(contender.pid) - cpu,
        patches=patches / count,
        down_s=down_s,
        resident_mb=resident,
        launch_p50_s=after.quantile(launch, 0.5, scrape) if after and scrape else 0.0,
        launch_p99_s=after.quantile(launch, 0.99, scrape) if after and scrape else 0.0,
        beside_s={name: cpu_seconds(pid) - beside[name] for name, pid in contender.beside.items()},
        down_cpu_s=down_cpu,
    )


async def _patches(api: Api) -> float:
    """PATCHes of pods' statuses that the API server has executed: the same count for every contender."""
    scrape = Scrape.parse(await api.text("/metrics"), "apiserver_request_total")
    return scrape.total("apiserver_request_total", verb="PATCH", resource="pods", subresource="status")


async def _scrape(api: Api, contender: Contender) -> Scrape | None:
    if contender.provider is None:
        return None
    return Scrape.parse(await api.text(contender.provider.metrics_url), "vk_")


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    try:
        return await _measure(cluster, api)
    finally:
        await api.close()


async def _measure(cluster: BenchCluster, api: Api) -> list[Figure]:
    provider = await cluster.start_provider("simulated", api)
    names = ("kube-apiserver", "etcd", "kube-controller-manager")
    beside = {name: cluster.plane.state.process(name).pid() or 0 for name in names} | {"measuring client": os.getpid()}
    kwok = Contender("kwok", "kwok", await start_kwok(cluster, api, MANY + PODS), beside=beside)
    ours = Contender("provider", provider.node, provider.process, provider, beside)
    created = await _take_turns(api, (kwok, ours), "created")
    stall = await _longest_stall(api, provider)  # before the next shape stops the process
    backlog = await _take_turns(api, (kwok, ours), "backlog", backlog=True)
    tokens = await _take_turns(api, (ours,), "tokens", tokens=True)
    token_cost = await token_requests.measure(
        api, await make_namespace(api, "token-requests"), beside["kube-apiserver"]
    )
    many = await _many(cluster, api)
    kwok.process.stop()
    return [
        *_speed_figures("burst", created["kwok"], created["provider"]),
        *_own_figures(created["provider"], created["kwok"], stall),
        *_speed_figures("burst_backlog", backlog["kwok"], backlog["provider"]),
        *token_requests.figures(
            [item.pods_per_s for item in tokens["provider"]],
            statistics.median(item.pods_per_s for item in created["provider"]),
            statistics.median(item.pods_per_s for item in created["kwok"]),
            token_cost,
        ),
        *many,
    ]


async def _take_turns(api: Api, contenders: tuple[Contender, ...], name: str, **how: Any) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    for number in range(ROUNDS):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            namespace = await make_namespace(api, f"{name}-{contender.name}-{number}")
            result = await run_round(api, contender, namespace, PODS, **how)
            found[contender.name].append(result)
            _tell(f"{name} {contender.name}", result)
            await api.call("DELETE", f"/api/v1/namespaces/{namespace}")
            await _quiet(contender.beside["kube-apiserver"])
    return found


async def _quiet(pid: int) -> None:
    """Wait until the process with this PID is idle."""
    async with asyncio.timeout(QUIET_LIMIT_S):
        used, before = math.inf, cpu_seconds(pid)
        while used > QUIET_CPU:
            await asyncio.sleep(1.0)
            used, before = cpu_seconds(pid) - before, cpu_seconds(pid)


async def _many(cluster: BenchCluster, api: Api) -> list[Figure]:
    """Memory of a fresh process at 1,000 and then at 5,000 pods that run."""
    provider = await cluster.start_provider("simulated", api)
    namespace = await make_namespace(api, "many")
    times = PodTimes(api, namespace)
    await times.start()
    idle, figures = resident_mb(provider.pid), []
    start = await _longest_stall(api, provider)
    for count, goal in ((PODS, 200.0), (MANY, 500.0)):
        pods = [build_pod(provider.node, number, False) for number in range(len(times.created), count)]
        started = time.perf_counter()
        await run_all(partial(times.create, pod) for pod in pods)
        await times.wait(times.running, count, LIMIT_S)
        rate = len(pods) / (max(times.running.values()) - started)
        await asyncio.sleep(SETTLE_S)
        note = f"resident memory of the provider; {idle:.0f} MB without pods; the last {len(pods)} at {rate:.0f} pods/s"
        figures.append(Figure(f"provider_memory_{count}", resident_mb(provider.pid), "MB", goal=goal, note=note))
    stall = await _longest_stall(api, provider)
    note = f"longest since its start, which itself has {start * 1000:.0f} ms"
    figures.append(Figure("event_loop_stall_5000", stall * 1000, "ms", goal=100, note=note))
    await times.stop()
    cluster.stop_provider(provider)
    return figures


async def _longest_stall(api: Api, provider: Provider) -> float:
    scrape = Scrape.parse(await api.text(provider.metrics_url), "vk_event_loop")
    return scrape.total("vk_event_loop_longest_stall_seconds")


def _tell(name: str, result: Round) -> None:
    latencies = result.latencies_s
    print(
        f"  {name}: {result.pods_per_s:.0f} pods/s, p50 {quantile(latencies, 0.5):.2f} s, p99 "
        f"{quantile(latencies, 0.99):.2f} s, CPU {result.cpu_up_s:.2f}/{result.cpu_s:.2f} s, {result.patches:.2f} "
        f"PATCH a pod, deleted in {result.down_s:.1f} s, {result.resident_mb:.0f} MB, launch "
        f"{result.launch_p50_s * 1000:.0f}/{result.launch_p99_s * 1000:.0f} ms, load {load()}",
        file=sys.stderr,
        flush=True,
    )


def _speed_figures(name: str, kwok: list[Round], ours: list[Round]) -> list[Figure]:
    """Pods/s of both, and the ratio of neighbours in time."""
    ratios = [mine.pods_per_s / theirs.pods_per_s for mine, theirs in zip(ours, kwok, strict=True)]
    figures = [
        median_figure(
            f"{name}_ratio",
            ratios,
            "x KWOK",
            goal=1.0,
            most=False,
            note="pods/s to Running, provider / KWOK, rounds side by side",
        ),
    ]
    for who, rounds in (("provider", ours), ("kwok", kwok)):
        p50 = statistics.median(quantile(item.latencies_s, 0.5) for item in rounds)
        p99 = statistics.median(quantile(item.latencies_s, 0.99) for item in rounds)
        down = statistics.median(item.down_s for item in rounds)
        per_pod = {
            f"{place} ms CPU a pod": round(statistics.median(item.beside_s[place] for item in rounds) / PODS * 1000, 2)
            for place in rounds[0].beside_s
        }
        per_pod[f"{who} ms CPU a pod"] = round(statistics.median(item.cpu_s for item in rounds) / PODS * 1000, 2)
        figures.append(
            median_figure(
                f"{name}_{who}",
                [item.pods_per_s for item in rounds],
                "pods/s",
                note=f"one pod p50 {p50:.2f} s, p99 {p99:.2f} s; all deleted in {down:.1f} s",
                detail={"p50 s": round(p50, 3), "p99 s": round(p99, 3), "delete all s": round(down, 2), **per_pod},
            )
        )
    return figures


def _own_figures(ours: list[Round], kwok: list[Round], stall_s: float) -> list[Figure]:
    downs = [mine.down_s / theirs.down_s for mine, theirs in zip(ours, kwok, strict=True)]
    kwok_cpu = statistics.median(item.cpu_s for item in kwok)
    return [
        median_figure(
            "burst_delete_ratio",
            downs,
            "x KWOK",
            goal=1.15,
            note="seconds to delete all, provider / KWOK, which publishes no last status",
            detail=_down_cpu("provider", ours) | _down_cpu("kwok", kwok),
        ),
        median_figure(
            "burst_cpu",
            [item.cpu_s for item in ours],
            "s",
            note=f"CPU of the provider for 1,000 pods up and down; KWOK {kwok_cpu:.2f} s",
        ),
        median_figure("burst_patches", [item.patches for item in ours], "PATCH/pod", goal=2, note="on the way up"),
        median_figure(
            "launch_p50", [item.launch_p50_s * 1000 for item in ours], "ms", goal=20, note="bind seen to launch call"
        ),
        median_figure(
            "launch_p99", [item.launch_p99_s * 1000 for item in ours], "ms", goal=100, note="bind seen to launch call"
        ),
        Figure("event_loop_stall", stall_s * 1000, "ms", goal=100, note="longest during 5 bursts of 1,000 up and down"),
    ]


def _down_cpu(who: str, rounds: list[Round]) -> dict[str, float]:
    """ms of CPU for each deleted pod, by process."""
    return {
        f"{who}'s pods: {name} ms": round(statistics.median(item.down_cpu_s[name] for item in rounds) / PODS * 1000, 2)
        for name in rounds[0].down_cpu_s
    }
