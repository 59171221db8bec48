"""10,000 Services with 2 endpoints each: our table in a namespace, and the real kube-proxy with the same in another.

Both get the same objects. Ours: objects to nft text, and nft itself; kube-proxy's: the duration of its first full sync,
and of the partial one after a changed endpoint, as it logs them itself.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from tests.bench.cluster import BenchCluster
from tests.bench.figure import Figure, median_figure
from tests.bench.node_proxy import parse_syncs
from tests.integration.serviceproxy.bed import Bed
from tests.integration.serviceproxy.kubeproxy import KubeProxy
from tests.integration.serviceproxy.ours import VANTAGE
from tests.service_objects import NODE, make_endpoint, make_service, make_slice
from vk_provider.jsontypes import Json
from vk_provider.serviceproxy.index import ServiceIndex
from vk_provider.serviceproxy.nft import render_delta, render_table
from vk_provider.serviceproxy.table import diff_tables

SERVICES, CHANGES = 10_000, 10
SYNC_LIMIT_S = 240.0


async def measure(cluster: BenchCluster) -> list[Figure]:
    """The cluster is not used; the proxy has its objects from memory."""
    return await asyncio.to_thread(measure_services)


def measure_services(count: int = SERVICES) -> list[Figure]:
    services, slices = make_objects(count)
    with Bed() as bed:
        compile_s, apply_s, size, changes = _ours(bed, services, slices)
    with Bed() as bed, tempfile.TemporaryDirectory() as directory:
        full_s, partial_s = _theirs(bed, Path(directory), services, slices)
    bytes_each = [float(length) for length, _, _ in changes]
    delta_ms = [made * 1000 for _, made, _ in changes]
    nft_ms = [applied * 1000 for _, _, applied in changes]
    shape = f"{count} Services x 2 endpoints"
    ours = compile_s + apply_s
    return [
        Figure("services_compile", compile_s, "s", note=f"{shape}: objects to {size / 1e6:.1f} MB of nft text"),
        Figure("services_apply", apply_s, "s", note="the same by nft, once for each instance"),
        Figure("services_kube_proxy", full_s, "s", note="kube-proxy's first full sync of the same, as it logs it"),
        Figure(
            "services_apply_ratio", apply_s / full_s, "x", goal=0.1, note="nft alone, against kube-proxy's full sync"
        ),
        Figure(
            "services_ratio",
            ours / full_s,
            "x",
            goal=0.1,
            note="compiled as well, which happens once for all instances",
        ),
        median_figure("services_delta_bytes", bytes_each, "B", goal=500, note="text for one changed endpoint"),
        median_figure("services_delta_make", delta_ms, "ms", note="slice to text"),
        median_figure("services_delta_apply", nft_ms, "ms", note="the nft command"),
        Figure(
            "services_delta_kube_proxy", partial_s * 1000, "ms", note="kube-proxy's sync after one changed endpoint"
        ),
    ]


def make_objects(last: int, first: int = 1) -> tuple[list[Json], list[Json]]:
    """Services with these numbers, and a slice for each."""
    numbers = range(first, last + 1)
    services = [make_service(f"s{n}", f"10.{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}") for n in numbers]
    return services, [make_slice_of(n, 1) for n in numbers]


def make_slice_of(number: int, second: int) -> Json:
    high, low = divmod(number, 250)
    ends = (make_endpoint(f"10.1.{high}.{low + 1}", NODE), make_endpoint(f"10.{1 + second}.{high}.{low + 1}", "n2"))
    return make_slice(f"s{number}", *ends)


def _ours(
    bed: Bed, services: list[Json], slices: list[Json]
) -> tuple[float, float, int, list[tuple[int, float, float]]]:
    """Seconds to compile and to apply, bytes, and (bytes, seconds to make, seconds to apply) of each delta."""
    started = time.perf_counter()
    index = ServiceIndex(NODE)
    for item in services:
        index.apply_service(item)
    for item in slices:
        index.apply_slice(item)
    table = index.table()
    text = render_table(table, VANTAGE)
    compiled = time.perf_counter()
    bed.nft(text)
    applied = time.perf_counter()
    changes = []
    for number in range(1, CHANGES + 1):
        changed = make_slice_of(number * 7, 8)
        begun = time.perf_counter()
        index.apply_slice(changed)
        following = index.table()
        delta = render_delta(diff_tables(table, following))
        made = time.perf_counter()
        bed.nft(delta)
        changes.append((len(delta), made - begun, time.perf_counter() - made))
        table = following
    return compiled - started, applied - compiled, len(text), changes


def _theirs(bed: Bed, directory: Path, services: list[Json], slices: list[Json]) -> tuple[float, float]:
    """Seconds of the first sync with all objects, and of the last one with one changed endpoint."""
    proxy = KubeProxy(bed, directory, verbosity=2, listed=False)
    for service, endpoints in zip(services, slices, strict=True):
        name = f"default/{service['metadata']['name']}"
        proxy.set_service(name, service)
        proxy.set_slice(name, endpoints)
    with proxy:
        full = _wait_for_sync(proxy.log, 0)
        known = len(parse_syncs(proxy.log))
        proxy.set_slice("default/s7", make_slice_of(7, 8))
        return full, _wait_for_sync(proxy.log, known)


def _wait_for_sync(log: Path, known: int) -> float:
    """Seconds of the next sync of IPv4 rules that did some work after the `known` first ones."""
    deadline = time.monotonic() + SYNC_LIMIT_S
    while time.monotonic() < deadline:
        times = [took for took in parse_syncs(log)[known:] if took > 0.005]
        if times:
            return max(times)
        time.sleep(0.2)
    raise RuntimeError(f"kube-proxy has not synced after {SYNC_LIMIT_S:.0f} s")
