"""What a sidecar costs a pod of ours and a pod of a real kubelet, in one Istio mesh: a request, bytes, and the start.

On each of the two nodes a client asks a server of the same node through the ClusterIP of a Service, once both with
Istio's sidecar (two proxies, mutual TLS) and once without. istiod runs on our node.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Iterator

from tests.bench.api import Api, make_namespace
from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, median_figure
from tests.bench.machine import load
from tests.bench.starts import Starts
from tests.cluster.cache import cache_dir
from tests.cluster.controlplane import ControlPlane
from tests.cluster.images.catalog import select_entries
from tests.cluster.istio.installation import Istio
from tests.demo import cluster as demo
from tests.demo.environment import MESH_IMAGES, NODE, Environment
from vk_provider.jsontypes import Json

KUBELET = "kubelet"
NODES = (NODE, KUBELET)
MESHED, PLAIN = "meshed", "plain"
"""Namespaces: with automatic injection, and without."""
AGNHOST = select_entries("agnhost")[0].references[0]
ENVIRONMENT = Environment(
    cache_dir() / "bench-mesh",
    name="meshb",
    subnet="10.218.0.0/16",
    address="10.218.0.1",
    taint=False,
    preload_images=MESH_IMAGES,
    healthz_port=10768,
    mesh=True,
    resolver=True,
    dns=True,
    kubelet_node=KUBELET,
    kubelet_network="10.219.0.0/23",
)
ROUNDS = 7
REQUESTS, STREAM_S = 400, 2
BULK_PORT = 5001
LIMIT_S = 240

Place = tuple[str, str]
"""(node, namespace)."""


async def measure(_: BenchCluster) -> list[Figure]:
    """Has a cluster of its own, with a kubelet and Istio."""
    try:
        demo.down(ENVIRONMENT)  # what a killed run has left
        plane = await asyncio.to_thread(demo.up, ENVIRONMENT)
        await asyncio.to_thread(_install, plane)
        api = Api(plane)
        try:
            for name in (MESHED, PLAIN):
                await make_namespace(api, name)
            await asyncio.to_thread(plane.kubectl, "label", "namespace", MESHED, "istio-injection=enabled")
            return [*await _Traffic(plane, api).run(), *await _starts(api)]
        finally:
            await api.close()
    finally:
        await asyncio.to_thread(demo.down, ENVIRONMENT)


def _install(plane: ControlPlane) -> None:
    """Istio, with istiod on our node."""
    plane.kubectl("cordon", KUBELET)
    Istio(plane, ENVIRONMENT.registry, ENVIRONMENT.root / "istio").install()
    plane.kubectl("uncordon", KUBELET)


class _Traffic:
    def __init__(self, plane: ControlPlane, api: Api) -> None:
        self._plane, self._api = plane, api

    async def run(self) -> list[Figure]:
        for place in _places():
            for name, command in (
                ("server", f"iperf -s -p {BULK_PORT} & exec /agnhost netexec"),
                ("client", "exec sleep 1d"),
            ):
                await self._api.call("POST", f"/api/v1/namespaces/{place[1]}/pods", _pod(name, place[0], command))
            await self._api.call("POST", f"/api/v1/namespaces/{place[1]}/services", _service(place[0]))
        for namespace in (MESHED, PLAIN):
            ready = ("wait", "pod", "--all", "--for=condition=Ready", f"--timeout={LIMIT_S}s", "-n", namespace)
            await asyncio.to_thread(self._plane.kubectl, *ready, timeout_s=LIMIT_S + 10)
        requests: dict[Place, list[float]] = {place: [] for place in _places()}
        bytes_s: dict[Place, list[float]] = {place: [] for place in _places()}
        for number in range(ROUNDS + 1):
            for place in list(_places())[:: 1 if number % 2 else -1]:
                milliseconds, megabytes = await self._request_ms(place), await self._throughput(place)
                if number:  # the first one opens the proxies' connections
                    requests[place].append(milliseconds)
                    bytes_s[place].append(megabytes)
                    _say(f"{' '.join(place)}: {milliseconds:.2f} ms, {megabytes:.0f} MB/s")
        for namespace in (MESHED, PLAIN):
            gone = ("delete", "pod", "--all", "-n", namespace, "--grace-period=1")
            await asyncio.to_thread(self._plane.kubectl, *gone, timeout_s=LIMIT_S)
        return _traffic_figures(requests, bytes_s)

    async def _request_ms(self, place: Place) -> float:
        """The median time of a request, many one after the other on one connection."""
        curl = f"curl -sf -o /dev/null -w '%{{time_total}}\\n' 'http://server-{place[0]}/hostname?[1-{REQUESTS}]'"
        took = [float(line) for line in (await self._execute(place, curl)).split()]
        if len(took) != REQUESTS:
            raise RuntimeError(f"{place}: {len(took)} answers to {REQUESTS} requests")
        return statistics.median(took) * 1000

    async def _throughput(self, place: Place) -> float:
        """MB/s of one stream."""
        line = await self._execute(place, f"iperf -c server-{place[0]} -p {BULK_PORT} -t {STREAM_S} -y C")
        return float(line.strip().splitlines()[-1].split(",")[-1]) / 8e6

    async def _execute(self, place: Place, script: str) -> str:
        words = ("exec", f"client-{place[0]}", "-n", place[1], "-c", "c", "--", "sh", "-c", script)
        return (await self._plane.kubectl_async(*words)).stdout


def _traffic_figures(requests: dict[Place, list[float]], bytes_s: dict[Place, list[float]]) -> list[Figure]:
    """Round by round, as the machine is shared: each round has all four places within some seconds."""

    def ratios(taken: dict[Place, list[float]], namespace: str) -> list[float]:
        return [ours / theirs for ours, theirs in zip(taken[NODE, namespace], taken[KUBELET, namespace], strict=True)]

    def both(taken: dict[Place, list[float]], namespace: str) -> str:
        return " against ".join(f"{statistics.median(taken[node, namespace]):.3g}" for node in NODES)

    figures = []
    for namespace, what in ((MESHED, "through two sidecars"), (PLAIN, "without sidecars")):
        goal = {"goal": 1.03} if namespace == MESHED else {}
        note = f"a request {what}: {both(requests, namespace)} ms"
        figures.append(
            median_figure(f"mesh_request_{namespace}", ratios(requests, namespace), "x kubelet", note=note, **goal)
        )
        goal = {"goal": 0.97, "most": False} if namespace == MESHED else {}
        note = f"one stream {what}: {both(bytes_s, namespace)} MB/s"
        figures.append(
            median_figure(f"mesh_throughput_{namespace}", ratios(bytes_s, namespace), "x kubelet", note=note, **goal)
        )
    return figures


async def _starts(api: Api) -> list[Figure]:
    """Pods that are there already when the next one starts are none: one at a time, the places in turn."""
    image = f"{ENVIRONMENT.registry}/{AGNHOST}"
    taken: dict[Place, list[float]] = {place: [] for place in _places()}
    for namespace in (MESHED, PLAIN):
        starts = Starts(api, namespace)
        await starts.open()
        try:
            for number in range(ROUNDS):
                for node in NODES[:: 1 if number % 2 else -1]:
                    name = f"start-{node}-{number}"
                    seconds = await starts.start_pod(name, node, image)
                    _say(f"{node} {namespace}: Ready after {seconds:.2f} s, load {load()}")
                    taken[node, namespace].append(seconds)
                    await starts.remove(f"{starts.pods}/{name}")
        finally:
            await starts.close()
    middle = {place: statistics.median(found) for place, found in taken.items()}
    added = {node: middle[node, MESHED] - middle[node, PLAIN] for node in NODES}
    said = ", ".join(f"{middle[place]:.2f} s {place[1]} on {place[0]}" for place in _places())
    return [
        median_figure("mesh_start", taken[NODE, MESHED], "s", note=f"create to Ready with a sidecar injected: {said}"),
        Figure(
            "mesh_start_ratio",
            middle[NODE, MESHED] / middle[NODE, PLAIN],
            "x without",
            note=f"the same against without; a kubelet's: {middle[KUBELET, MESHED] / middle[KUBELET, PLAIN]:.2f}",
        ),
        Figure(
            "mesh_start_added_ratio",
            added[NODE] / added[KUBELET],
            "x kubelet",
            note=f"what the sidecar adds: {added[NODE]:.2f} s, on a kubelet {added[KUBELET]:.2f} s",
        ),
    ]


def _places() -> Iterator[Place]:
    return ((node, namespace) for namespace in (MESHED, PLAIN) for node in NODES)


def _pod(name: str, node: str, command: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-{node}", "labels": {"app": f"{name}-{node}"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "c",
                    "image": f"{ENVIRONMENT.registry}/{AGNHOST}",
                    "command": ["sh", "-c", command],
                }
            ],
        },
    }


def _service(node: str) -> Json:
    ports: list[Json] = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "tcp-bulk", "port": BULK_PORT, "targetPort": BULK_PORT},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"server-{node}"},
        "spec": {"selector": {"app": f"server-{node}"}, "ports": ports},
    }


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
