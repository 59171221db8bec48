"""What a refresh of EC2's catalog costs, and sizing in a catalog of 2,000 types.

`python -m tests.bench.ec2.catalog NAME URL SUBNET...` measures one side in a process of its own, and prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.bench.figure import Figure, median_figure
from tests.bench.machine import PROJECT, peak_mb, reset_peak, resident_mb
from tests.bench.sizing import PODS, TYPES, build_catalog, build_pods
from tests.moto.server import KEYS, REGION, MotoServer
from vk_provider.cloud.aws.catalog.settings import CatalogSettings
from vk_provider.cloud.aws.cloud import AwsCloud
from vk_provider.cloud.aws.settings import AwsCloudSettings
from vk_provider.cloud.base import Offering, OfferingKey
from vk_provider.podmodel.quantity import ceil_int, milli
from vk_provider.sizing.preferences import Preferences
from vk_provider.sizing.selection import OfferingSelector, Selection

ROUNDS = 3
SAMPLED = 10
"""The plain way is tried with each tenth pod."""


# --- catalog -----------------------------------------------------------------------------------------------------


def measure_catalog(moto: MotoServer) -> list[Figure]:
    moto.reset()
    account = moto.make_account()
    found: dict[str, list[dict[str, float]]] = {"refresh": [], "calls": []}
    for _ in range(ROUNDS):
        for name, results in found.items():
            command = [sys.executable, "-m", "tests.bench.ec2.catalog", name, moto.url, account.image_amd64]
            environment = {**os.environ, **KEYS, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(PROJECT)}
            done = subprocess.run([*command, *account.subnets], env=environment, capture_output=True, check=True)
            results.append(json.loads(done.stdout))
    ratios = [mine["cpu_s"] / other["cpu_s"] for mine, other in zip(found["refresh"], found["calls"], strict=True)]
    offerings = int(found["refresh"][0]["offerings"])
    return [
        median_figure(
            "catalog_refresh_cpu",
            [each["cpu_s"] for each in found["refresh"]],
            "s",
            note=f"all instance types and zones asked for, {offerings} offerings, kept on disk",
        ),
        median_figure(
            "catalog_refresh_ratio", ratios, "x the SDK's calls", note="CPU; the same answers, read by nobody"
        ),
        median_figure(
            "catalog_kept",
            [each["kept_mb"] for each in found["refresh"]],
            "MB",
            note="resident memory after the refresh above that before it",
        ),
        median_figure(
            "catalog_peak",
            [each["peak_mb"] for each in found["refresh"]],
            "MB",
            note="the most above that before it; the SDK's calls alone "
            f"{sorted(each['peak_mb'] for each in found['calls'])[ROUNDS // 2]:.0f} MB",
        ),
    ]


async def _refresh(cloud: AwsCloud) -> int:
    return len(await cloud.describe_offerings())


async def _calls(cloud: AwsCloud) -> int:
    """Every page, by the SDK alone."""
    client, count = cloud._client._clients["ec2", cloud._client._home], 0
    for method, key, more in (
        ("describe_instance_types", "InstanceTypes", {"MaxResults": 100}),
        ("describe_instance_type_offerings", "InstanceTypeOfferings", {"LocationType": "availability-zone"}),
    ):
        token = ""
        while True:
            answer = await getattr(client, method)(**more, **({"NextToken": token} if token else {}))
            count += len(answer[key])
            token = answer.get("NextToken") or ""
            if not token:
                break
    return count


async def _measure_one(
    work: Callable[[AwsCloud], Coroutine[Any, Any, int]], url: str, image: str, *subnets: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="vk-catalog-") as directory:
        settings = AwsCloudSettings(
            region=REGION,
            endpoint_url=url,
            subnets=subnets,
            image_amd64=image,
            catalog=CatalogSettings(directory, price_api=False, spot_prices=False),
        )
        cloud = AwsCloud(settings, "bench-catalog")
        await cloud._client.start()  # as `start`, but that the catalog's own task would begin
        try:
            await cloud._check_account()
            await _measure_work(cloud, work)
        finally:
            await cloud.close()


async def _measure_work(cloud: AwsCloud, work: Callable[[AwsCloud], Coroutine[Any, Any, int]]) -> None:
    from vk_provider.cloud.aws.catalog.catalog import AwsCatalog, Scope
    from vk_provider.cloud.aws.catalogcalls import CatalogCalls

    scope = Scope(REGION, lambda: cloud._subnets.by_zone, cloud._images.architectures, ())
    cloud._catalog = AwsCatalog(CatalogCalls(cloud._client), scope, cloud._settings.catalog)
    pid = os.getpid()
    reset_peak()
    before, began = resident_mb(pid), time.process_time()
    offerings = await work(cloud)
    cpu_s = time.process_time() - began
    found = {
        "cpu_s": cpu_s,
        "offerings": offerings,
        "kept_mb": resident_mb(pid) - before,
        "peak_mb": peak_mb(pid) - before,
    }
    print(json.dumps(found))


# --- sizing ------------------------------------------------------------------------------------------------------


def measure_sizing() -> list[Figure]:
    catalog, pods = build_catalog(), build_pods()
    preferences = Preferences(default_architecture="amd64")
    seconds, indexed, ratios = [], [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        selector = OfferingSelector(catalog)
        built = time.process_time()
        answers = [selector.select(pod, frozenset[OfferingKey](), preferences) for pod in pods]
        ended = time.process_time()
        plain_s = _scan(catalog, pods[::SAMPLED]) * SAMPLED
        seconds.append(ended - began)
        indexed.append(built - began)
        ratios.append((ended - began) / plain_s)
    chosen = sum(isinstance(answer, Selection) for answer in answers)
    note = f"{TYPES} types in 3 zones, on demand and spot, x {PODS} different pods; {chosen} have an instance"
    return [
        median_figure("sizing_cpu", seconds, "s", goal=1, note=note),
        median_figure("sizing_index_cpu", indexed, "s", note="of it, once for a catalog"),
        median_figure(
            "sizing_ratio", ratios, "x a plain scan", note="CPU; the scan compares CPU and memory of every offering"
        ),
    ]


def _scan(catalog: list[Offering], pods: list[dict[str, Any]]) -> float:
    """Seconds of CPU for the cheapest with enough CPU and memory, and nothing else looked at, by trying all."""
    numbers = [(each.price_per_hour, each.cpu_milli, each.usable_memory_bytes) for each in catalog]
    began = time.process_time()
    for pod in pods:
        requests = pod["spec"]["containers"][0]["resources"]["requests"]
        cpu, memory = milli(requests["cpu"]), ceil_int(requests["memory"])
        min((price for price, cpus, bytes_ in numbers if cpus >= cpu and bytes_ >= memory), default=None)
    return time.process_time() - began


if __name__ == "__main__":
    asyncio.run(_measure_one({"refresh": _refresh, "calls": _calls}[sys.argv[1]], *sys.argv[2:]))
