"""Starts of pods by what has been done for their image before, beside a real kubelet in the same cluster.

Both nodes pull from one registry on this machine. Ours makes an instance for each pod, the kubelet none. "Used before"
means that a pod of the image ran and was left alone until the store of its images was prepared.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from tests.bench.api import Api
from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, median_figure
from tests.bench.fresh_images import MB, ImageMaker
from tests.bench.machine import load
from tests.bench.prometheus import Scrape
from tests.bench.starts import DEPLOYMENTS, PODS, Starts
from tests.cluster.cache import cache_dir
from tests.demo import cluster as demo
from tests.demo.environment import KUBELET_PORT, NODE, Environment

KUBELET = "kubelet"
ENVIRONMENT = Environment(
    cache_dir() / "bench-images",
    name="pulls",
    subnet="10.216.0.0/16",
    address="10.216.0.1",
    taint=False,
    healthz_port=10758,
    kubelet_node=KUBELET,
    kubelet_network="10.217.0.0/23",
    own_registry=True,
)
SMALL_BYTES, COMMON_BYTES, LARGE_BYTES = 300_000, 70 * MB, 1000 * MB
REPLICAS = 20
POD_ROUNDS, ROUNDS, FIRST_ROUNDS = 7, 3, 2
SETTLE_S = 3.0
POOL, POOL_SETTLED_S = 2, 10.0
"""Instances that are ready before, and how long they are until a pod comes: their agents have rehearsed by then."""
PREPARE_LIMIT_S = 300.0
DISK_INSTANCES = 50
_BLOB = re.compile(r'"GET /v2/(\S+)/blobs/(sha256:\w+) HTTP[^"]*" 20[06] ')


async def measure(_: BenchCluster) -> list[Figure]:
    """Has a cluster of its own, with a kubelet."""
    try:
        demo.down(ENVIRONMENT)  # what a killed run has left
        plane = await asyncio.to_thread(demo.up, ENVIRONMENT)
        maker = await asyncio.to_thread(ImageMaker, ENVIRONMENT.root / "made", ENVIRONMENT.registry)
        api = Api(plane)
        starts = Starts(api)
        try:
            await starts.open()
            return await _Comparison(api, starts, maker).run()
        finally:
            await starts.close()
            await api.close()
    finally:
        await asyncio.to_thread(demo.down, ENVIRONMENT)


class _Comparison:
    def __init__(self, api: Api, starts: Starts, maker: ImageMaker) -> None:
        self._api, self._starts, self._maker = api, starts, maker
        self._number = 0

    async def run(self) -> list[Figure]:
        small = await self._push("small", SMALL_BYTES)
        common = await self._push("common", COMMON_BYTES)
        figures = []
        for image, name in ((small, "0.3 MB"), (common, "70 MB")):
            await self._use(image, name)
        pods = await self._turns(POD_ROUNDS, lambda node: self._pod(node, common))
        figures += _compare("image_second_pod", pods, 1.0, "one pod of a 70 MB image that was used before")
        figures += await self._second_of_pool(common)
        few = await self._turns(ROUNDS, lambda node: self._deployment(node, small))
        figures += _compare("image_small_20", few, 1.25, f"{REPLICAS} pods at once, image of 0.3 MB, used before")
        many = await self._turns(ROUNDS, lambda node: self._deployment(node, common))
        figures += _compare("image_used_20", many, 1.3, f"Deployment of {REPLICAS}, image of 70 MB, used before")
        figures += await self._first()
        figures += await self._large(statistics.median(many[NODE]))
        figures.append(await self._disk(common))
        return figures

    async def _second_of_pool(self, image: str) -> list[Figure]:
        """One pod again, beside a kubelet, on instances that are ready before: the provider has a pool meanwhile."""
        await asyncio.to_thread(demo.up, replace(ENVIRONMENT, pool=POOL))
        taken: dict[str, list[float]] = {NODE: [], KUBELET: []}

        async def start(node: str) -> float:
            await self._until(lambda scrape: scrape.total("vk_pool_instances", state="ready") >= POOL)
            await asyncio.sleep(POOL_SETTLED_S)
            return await self._pod(node, image)

        for _ in range(POD_ROUNDS):
            for node in (KUBELET, NODE):
                taken[node].append(await start(node))
        await asyncio.to_thread(demo.up, ENVIRONMENT)
        await self._until(lambda scrape: scrape.total("vk_instances") == 0)
        return _compare(
            "image_pool_pod", taken, 1.0, f"one pod of a 70 MB image that was used before, a pool of {POOL}"
        )

    async def _first(self) -> list[Figure]:
        """Nobody has the image. The registry's access log tells how often each blob left it."""
        taken: dict[str, list[float]] = {NODE: [], KUBELET: []}
        most = 0
        for number in range(FIRST_ROUNDS):
            for node in taken:
                image = await self._push(f"first-{number}-{node}", COMMON_BYTES)
                taken[node].append(await self._deployment(node, image))
                if node == NODE:
                    most = max(most, *self._blobs(image).values())
        figures = _compare("image_first_20", taken, 1.5, f"Deployment of {REPLICAS}, image of 70 MB that nobody has")
        note = "answers of the registry with the blob that it sent most often, for ours of image_first_20"
        return [*figures, Figure("image_first_20_blobs", most, "answers", goal=1.0, note=note)]

    async def _large(self, common_s: float) -> list[Figure]:
        image = await self._push("large", LARGE_BYTES)
        await self._use(image, "1 GB")
        taken = await self._turns(ROUNDS, lambda node: self._deployment(node, image))
        figures = _compare("image_large_20", taken, None, f"Deployment of {REPLICAS}, image of 1 GB, used before")
        note = f"the same against the 70 MB image: {common_s:.2f} s"
        ratio = statistics.median(taken[NODE]) / common_s
        return [*figures, Figure("image_large_ratio", ratio, "x 70 MB", goal=1.2, note=note)]

    async def _disk(self, image: str) -> Figure:
        """What instances keep on disk beside the image they share."""
        instances = ENVIRONMENT.cloud_state / ENVIRONMENT.name / "instances"
        name = self._name("disk")
        await self._starts.start_deployment(name, NODE, image, REPLICAS)
        running = [path for path in instances.iterdir() if (path / "disk").is_dir()]  # others have ended
        used = [await asyncio.to_thread(_disk_bytes, path) for path in running]
        await self._starts.remove(f"{DEPLOYMENTS}/{name}")
        shared = COMMON_BYTES * 2  # blobs and unpacked files: the bytes do not compress
        each = statistics.median(used)
        note = f"{DISK_INSTANCES} instances of one image of 70 MB: {each / 1e3:.0f} kB each beside blobs and files"
        return Figure("image_disk", 1 + DISK_INSTANCES * each / shared, "x one image", goal=1.05, note=note)

    # --- the parts -----------------------------------------------------------------------------------------------

    async def _turns(self, rounds: int, start: Callable[[str], Awaitable[float]]) -> dict[str, list[float]]:
        taken: dict[str, list[float]] = {NODE: [], KUBELET: []}
        for number in range(rounds):
            for node in (NODE, KUBELET) if number % 2 else (KUBELET, NODE):
                taken[node].append(await start(node))
        return taken

    async def _pod(self, node: str, image: str) -> float:
        name = self._name("pod")
        seconds = await self._starts.start_pod(name, node, image)
        await self._settle(f"one pod on {node}: {seconds:.2f} s", f"{PODS}/{name}")
        return seconds

    async def _deployment(self, node: str, image: str) -> float:
        name = self._name("deployment")
        seconds = await self._starts.start_deployment(name, node, image, REPLICAS)
        await self._settle(f"{REPLICAS} pods on {node}: {seconds:.2f} s", f"{DEPLOYMENTS}/{name}")
        return seconds

    async def _use(self, image: str, what: str) -> None:
        """The first pod of the image on both nodes, and on ours until its store is there."""
        for node in (NODE, KUBELET):
            before = await self._prepared()
            name = self._name("use")
            seconds = await self._starts.start_pod(name, node, image)
            _say(f"first pod of {what} on {node}: {seconds:.2f} s")
            if node == NODE:
                async with asyncio.timeout(PREPARE_LIMIT_S):
                    await self._until_prepared(before + 1)
            await self._settle("", f"{PODS}/{name}")

    async def _until_prepared(self, count: float) -> None:
        await self._until(lambda scrape: scrape.total("vk_image_stores_prepared_total", result="ok") >= count)

    async def _until(self, is_so: Callable[[Scrape], bool]) -> None:
        """By the provider's metrics."""
        async with asyncio.timeout(PREPARE_LIMIT_S):
            while not is_so(await self._scrape()):  # noqa: ASYNC110 - metrics are asked for, they do not tell
                await asyncio.sleep(0.2)

    async def _settle(self, text: str, *paths: str) -> None:
        if text:
            _say(f"{text}, load {load()}")
        await self._starts.remove(*paths)
        await asyncio.sleep(SETTLE_S)

    async def _prepared(self) -> float:
        return (await self._scrape()).total("vk_image_stores_prepared_total", result="ok")

    async def _scrape(self) -> Scrape:
        return Scrape.parse(await self._api.text(f"https://{ENVIRONMENT.address}:{KUBELET_PORT}/metrics"))

    async def _push(self, name: str, size_bytes: int) -> str:
        return await asyncio.to_thread(self._maker.push, name, size_bytes)

    def _blobs(self, image: str) -> Counter[str]:
        """How often each blob of an image left the registry."""
        repository = image.partition("/")[2].rpartition(":")[0]
        found = _BLOB.findall(demo.registry(ENVIRONMENT).log.read_text(errors="replace"))
        return Counter(digest for name, digest in found if name == repository)

    def _name(self, what: str) -> str:
        self._number += 1
        return f"{what}-{self._number}"


def _compare(name: str, taken: dict[str, list[float]], goal: float | None, what: str) -> list[Figure]:
    ratio = statistics.median(taken[NODE]) / statistics.median(taken[KUBELET])
    return [
        Figure(f"{name}_ratio", ratio, "x kubelet", goal=goal, note=f"create to Ready: {what}"),
        median_figure(name, taken[NODE], "s", note="ours"),
        median_figure(f"{name}_kubelet", taken[KUBELET], "s", note="a real kubelet"),
    ]


def _disk_bytes(directory: Path) -> int:
    """Allocated bytes below a directory, what other file systems show there left out."""
    device = directory.stat().st_dev
    found = 0
    for path in directory.rglob("*"):
        try:
            entry = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if entry.st_dev == device:
            found += entry.st_blocks * 512
    return found


def _say(text: str) -> None:
    print(f"  images: {text}", file=sys.stderr, flush=True)
