"""One pod on the local cloud, image present: bind seen to Running, on a new instance and on one of a pool, against a
bare script that does the same work."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench.api import Api, PodTimes
from tests.bench.bare_instance import Place, find_golden, running
from tests.bench.cluster import ADDRESS, IMAGE, NAME, SUBNET, BenchCluster, Provider
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import load
from tests.bench.prometheus import Scrape
from vk_provider.agent.cri import api_pb2 as pb
from vk_provider.agent.cri.api_grpc import RuntimeServiceStub
from vk_provider.agent.cri.connection import RuntimeConnection
from vk_provider.cloud.local.golden import GoldenRoot
from vk_provider.cloud.local.network import BRIDGE
from vk_provider.cloud.local.process import ProcessIdentity
from vk_provider.jsontypes import Json

ROUNDS = 11
COMMAND = ("sleep", "1000")
LIMIT_S = 60.0
WARM_ROUNDS = 9
POOL = '\n[[pools]]\nname = "warm"\ncpu = "1"\nmemory = "256Mi"\ncount = 1\n'
SETTLED_S = 10.0
"""Between an instance's boot and its pod: it has rehearsed by then, and the machine does nothing else."""
_SUMS = ("vk_pod_launch_seconds_sum", "vk_pod_agent_ready_seconds_sum", "vk_pod_running_seconds_sum")


@dataclass(frozen=True, slots=True)
class Steps:
    """Milliseconds since the bind was seen; `seen` is create request to Running at the client."""

    launch: float
    socket: float
    session: float
    sandbox: float
    created: float
    started: float
    running: float
    seen: float

    def parts(self) -> dict[str, float]:
        """What each stretch took. containerd's socket is there while the agent comes up, so it has no own stretch."""
        return {
            "bind seen to launch call": self.launch,
            "launch call to session (boot, agent, identity)": self.session - self.launch,
            "session to RunPodSandbox (bundle, volumes)": self.sandbox - self.session,
            "RunPodSandbox and pull check": self.created - self.sandbox,
            "CreateContainer, StartContainer": self.started - self.created,
            "status up the session, PATCH": self.running - self.started,
        }

    def warm_parts(self) -> dict[str, float]:
        """The same on an instance whose agent has a session already."""
        return {
            "bind seen to RunPodSandbox (assignment, bundle, volumes)": self.sandbox,
            "RunPodSandbox and pull check": self.created - self.sandbox,
            "CreateContainer, StartContainer": self.started - self.created,
            "status up the session, PATCH": self.running - self.started,
        }


def build_pod(node: str, name: str, command: tuple[str, ...] = COMMAND) -> Json:
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": list(command)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            # It stays while the provider is stopped for longer than the default toleration of 300 s (bench.network).
            "tolerations": [{"operator": "Exists", "effect": "NoExecute"}],
            "containers": [container],
        },
    }


async def measure(cluster: BenchCluster) -> list[Figure]:
    api = Api(cluster.plane)
    try:
        provider = await cluster.start_provider("local", api)
        golden = await asyncio.to_thread(find_golden, cluster.root / "golden", (str(cluster.image_archive),))
        bare, ours = [], []
        for number in range(ROUNDS + 1):
            async with running(bare_place(cluster), golden, IMAGE, COMMAND) as (_, timeline):
                bare_ms = timeline.marks
            steps = await run_pod(cluster, api, provider, f"one-{number}")
            print(
                f"  one pod: bare {bare_ms['running']:.0f} ms, ours {steps.running:.0f} ms, load {load()}",
                file=sys.stderr,
                flush=True,
            )
            if number:  # the first of each fills caches
                bare.append(bare_ms)
                ours.append(steps)
        cluster.stop_provider(provider)
        warm = await _measure_warm(cluster, api, golden)
    finally:
        await api.close()
    return [*_figures(bare, ours), *warm]


async def _measure_warm(cluster: BenchCluster, api: Api, golden: GoldenRoot) -> list[Figure]:
    provider = await cluster.start_provider("local", api, more=POOL)
    bare, warm = [], []
    for number in range(WARM_ROUNDS + 1):
        async with running(bare_place(cluster), golden, IMAGE, COMMAND) as (_, timeline):
            bare_ms = timeline.marks
        await _wait_pool(api, provider)
        steps = await run_pod(cluster, api, provider, f"warm-{number}")
        print(
            f"  one pod of a pool: bare {bare_ms['running']:.0f} ms, ours {steps.running:.0f} ms, load {load()}",
            file=sys.stderr,
            flush=True,
        )
        if number:
            bare.append(bare_ms["running"])
            warm.append(steps)
    cluster.stop_provider(provider)
    parts = {name: statistics.median(each.warm_parts()[name] for each in warm) for name in warm[0].warm_parts()}
    ratios = [steps.running / bare_ms for steps, bare_ms in zip(warm, bare, strict=True)]
    note = "an instance of a pool, ready before: bind seen to Running"
    return [
        median_figure("one_pod_warm_ratio", ratios, "x bare", goal=0.4, note=f"{note}, against the bare script"),
        median_figure(
            "one_pod_warm",
            [steps.running for steps in warm],
            "ms",
            note=note,
            detail={name: round(value, 1) for name, value in parts.items()},
        ),
    ]


async def _wait_pool(api: Api, provider: Provider) -> None:
    """Until an instance is ready, and the machine has settled. Raises LookupError."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        scrape = Scrape.parse(await api.text(provider.metrics_url), "vk_pool_")
        if scrape.total("vk_pool_instances", state="ready") >= 1:
            await asyncio.sleep(SETTLED_S)
            return
        await asyncio.sleep(0.2)
    raise LookupError("the pool is not filled")


def bare_place(cluster: BenchCluster) -> Place:
    """Addresses at the far end of the subnet, which the cloud hands out last."""
    prefix = ADDRESS.rsplit(".", 2)[0]
    return Place(
        cluster.root / "bare", f"/run/netns/vk-{NAME}", BRIDGE, SUBNET, ADDRESS, f"{prefix}.250.10", f"{prefix}.250.11"
    )


async def run_pod(cluster: BenchCluster, api: Api, provider: Provider, name: str) -> Steps:
    """One pod up and down."""
    times = PodTimes(api, "default")
    await times.start()
    before = await _sums(api, provider)
    await times.create(build_pod(provider.node, name))
    await times.wait_running(name, LIMIT_S)
    running_wall = time.time() - (time.perf_counter() - times.running[name])
    after = before
    while after[2] == before[2]:  # the provider counts when the answer to its PATCH has come
        await asyncio.sleep(0.01)
        after = await _sums(api, provider)
    launch, session, total = (new - old for new, old in zip(after, before, strict=True))
    bound = running_wall - total
    pod = await api.call("GET", f"{times.path}/{name}")
    marks = await _runtime_times(cluster, pod)
    await times.delete(name)
    await times.wait(times.gone, 1, LIMIT_S)
    await times.stop()
    since = [(mark - bound) * 1000 for mark in marks]
    seen = (times.running[name] - times.created[name]) * 1000
    return Steps(launch * 1000, since[0], session * 1000, since[1], since[2], since[3], total * 1000, seen)


async def _sums(api: Api, provider: Provider) -> tuple[float, ...]:
    scrape = Scrape.parse(await api.text(provider.metrics_url), "vk_pod_")
    return tuple(scrape.total(name) for name in _SUMS)


async def _runtime_times(cluster: BenchCluster, pod: Json) -> tuple[float, float, float, float]:
    """Unix seconds, from the instance's containerd: its socket, the sandbox, the container created and started."""
    identity = ProcessIdentity.read(instance_directory(cluster, pod) / "pid")
    assert identity is not None
    address = f"/proc/{identity.pid}/root/run/containerd/containerd.sock"
    connection = RuntimeConnection(address)
    try:
        runtime = RuntimeServiceStub(connection.channel)
        container_id = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
        container = await connection.call(runtime.ContainerStatus, pb.ContainerStatusRequest(container_id=container_id))
        sandboxes = await connection.call(runtime.ListPodSandbox, pb.ListPodSandboxRequest())
    finally:
        connection.close()
    status = container.status
    nanoseconds = (sandboxes.items[0].created_at, status.created_at, status.started_at)
    sandbox, created, started = (value / 1e9 for value in nanoseconds)
    return os.stat(address).st_ctime, sandbox, created, started


def instance_directory(cluster: BenchCluster, pod: Json) -> Path:
    """The directory of the pod's instance in the local cloud's state."""
    for directory in (cluster.root / "cloud" / NAME / "instances").iterdir():
        record = directory / "instance.json"
        if not record.exists() or f'"{pod["status"]["hostIP"]}"' not in record.read_text():
            continue
        if (identity := ProcessIdentity.read(directory / "pid")) is not None and identity.is_alive():
            return directory
    raise LookupError(f"no instance has the address {pod['status']['hostIP']}")


def _figures(bare: list[dict[str, float]], ours: list[Steps]) -> list[Figure]:
    ratios = [steps.running / marks["running"] for steps, marks in zip(ours, bare, strict=True)]
    parts = {name: statistics.median(steps.parts()[name] for steps in ours) for name in ours[0].parts()}
    bare_parts = {name: statistics.median(marks[name] for marks in bare) for name in bare[0]}
    socket = statistics.median(steps.socket for steps in ours)
    return [
        median_figure(
            "one_pod_ratio",
            ratios,
            "x bare",
            goal=2.0,
            note="bind seen to Running, against the bare script, turn by turn",
        ),
        median_figure(
            "one_pod",
            [steps.running for steps in ours],
            "ms",
            note=f"bind seen to Running; containerd's socket is there after {socket:.0f} ms",
            detail={name: round(value, 1) for name, value in parts.items()},
        ),
        median_figure(
            "one_pod_bare",
            [marks["running"] for marks in bare],
            "ms",
            note="the bare script",
            detail={name: round(value, 1) for name, value in bare_parts.items()},
        ),
        median_figure(
            "one_pod_seen",
            [steps.seen for steps in ours],
            "ms",
            note="create request to Running in a watch, as a user sees it",
        ),
    ]
